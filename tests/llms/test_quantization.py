"""Which weights are of which type, from the files of checkpoints."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, shapes_from_config

DENSE: dict[str, Any] = {
    "model_type": "llama", "hidden_size": 1024, "intermediate_size": 2048, "num_hidden_layers": 4,
    "num_attention_heads": 8, "num_key_value_heads": 2, "vocab_size": 1000, "max_position_embeddings": 1024,
}  # fmt: skip
MIXTURE: dict[str, Any] = {**DENSE, "model_type": "qwen3_moe", "num_experts": 8, "num_experts_per_tok": 2,
                           "moe_intermediate_size": 512}  # fmt: skip


def read(folder: Path, config: dict[str, Any], modelopt: dict[str, Any] | None = None) -> LlmShapes:
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    if modelopt is not None:
        (folder / "hf_quant_config.json").write_text(json.dumps(modelopt))
    return shapes_from_config(folder, "vllm-0.25.1")


def types(llm: LlmShapes) -> dict[str, set[str]]:
    """Types of numbers by layer's name."""
    found: dict[str, set[str]] = {}
    for kind in llm.kinds:
        for linear in kind.linears:
            found.setdefault(linear.name, set()).add(linear.numbers)
    return found


LINEAR = ("qkv_proj", "o_proj", "gate_up_proj", "down_proj")


def weights(bits: int, kind: str, **more: Any) -> dict[str, Any]:
    return {"config_groups": {"group_0": {"targets": ["Linear"], "weights": {"num_bits": bits, "type": kind, **more}}}}


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"quant_method": "fp8"}, "fp8"),
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8-block"),
        ({"quant_method": "fbgemm_fp8"}, "fp8-channel"),
        ({"quant_method": "awq", "bits": 4, "group_size": 64}, "int4-g64-z"),
        ({"quant_method": "gptq", "bits": 4, "group_size": 128, "sym": True}, "int4-g128"),
        ({"quant_method": "gptq", "bits": 8, "group_size": -1, "sym": True}, "int8-g0"),
        ({"quant_method": "auto-round", "bits": 4, "group_size": 128, "sym": True}, "int4-g128"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "bnb-4bit"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "bnb-8bit"),
        ({"quant_method": "modelopt", "quant_algo": "FP8"}, "fp8"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "nvfp4"),
        ({"quant_method": "compressed-tensors", **weights(4, "int", group_size=128, strategy="group")}, "int4-g128"),
        ({"quant_method": "compressed-tensors", **weights(4, "int", group_size=32, symmetric=False)}, "int4-g32-z"),
        ({"quant_method": "compressed-tensors", **weights(8, "int", strategy="channel")}, "int8"),
        ({"quant_method": "compressed-tensors", **weights(8, "float", strategy="channel")}, "fp8-channel"),
        ({"quant_method": "compressed-tensors", **weights(8, "float", strategy="tensor")}, "fp8"),
        ({"quant_method": "compressed-tensors", **weights(8, "float", strategy="block")}, "fp8-block"),
        ({"quant_method": "compressed-tensors", **weights(4, "float", group_size=16)}, "nvfp4"),
        ({"quant_method": "compressed-tensors", **weights(4, "float", group_size=32)}, "mxfp4"),
    ],
)
def test_every_method_takes_all_linear_layers(said: dict[str, Any], expected: str, tmp_path: Path) -> None:
    assert types(read(tmp_path, {**DENSE, "quantization_config": said})) == {name: {expected} for name in LINEAR}


def test_the_older_key_and_the_file_of_modelopt_are_read_too(tmp_path: Path) -> None:
    """Both were once taken for 16 bits."""
    old = read(tmp_path / "a", {**DENSE, "compression_config": weights(8, "float", strategy="channel")})
    assert types(old) == {name: {"fp8-channel"} for name in LINEAR}
    said = {"producer": {"name": "modelopt"}, "quantization": {
        "quant_algo": "FP8", "kv_cache_quant_algo": "FP8", "exclude_modules": ["lm_head"]}}  # fmt: skip
    new = read(tmp_path / "b", DENSE, said)
    assert types(new) == {name: {"fp8"} for name in LINEAR}
    assert (new.head_numbers, new.kv_number_bytes) == ("bfloat16", 1.0)
    assert new.kv_bytes_per_token == 4 * 2 * 2 * 128
    bytes_of_layers = 4 * (1024 * 1536 + 1024 * 1024 + 3 * 1024 * 2048 + 4 * 4 + 2 * 2 * 1024)
    assert new.weight_bytes_on_gpu(1) == bytes_of_layers + 2 * (2 * 1000 * 1024 + 1024)


@pytest.mark.parametrize(
    ("ignored", "of_16_bits"),
    [
        (["lm_head"], set()),
        (["model.layers.0.self_attn", "model.layers.1.self_attn.q_proj"], {"qkv_proj", "o_proj"}),
        (["model.layers.2*"], set(LINEAR)),
        (["re:.*mlp\\.(gate|up|gate_up|down)_proj.*"], {"gate_up_proj", "down_proj"}),
        (["*.self_attn.*"], {"qkv_proj", "o_proj"}),
        (["down_proj"], {"down_proj"}),
    ],
)
def test_what_a_checkpoint_leaves_out_stays_of_16_bits(
    ignored: list[str], of_16_bits: set[str], tmp_path: Path
) -> None:
    said = {"quant_method": "compressed-tensors", **weights(8, "float", strategy="channel"), "ignore": ignored}
    found = types(read(tmp_path, {**DENSE, "quantization_config": said}))
    assert {name for name, numbers in found.items() if "bfloat16" in numbers} == of_16_bits


def test_groups_have_types_of_their_own(tmp_path: Path) -> None:
    groups = {
        "attention": {
            "targets": ["re:.*self_attn.*"],
            "weights": {"num_bits": 8, "type": "float", "strategy": "tensor"},
        },
        "experts": {"targets": ["re:.*experts.*"], "weights": {"num_bits": 4, "type": "float", "group_size": 16}},
    }
    llm = read(
        tmp_path, {**MIXTURE, "quantization_config": {"quant_method": "compressed-tensors", "config_groups": groups}}
    )
    assert types(llm) == {
        "qkv_proj": {"fp8"}, "o_proj": {"fp8"}, "gate": {"bfloat16"},
        "experts.w13": {"nvfp4"}, "experts.w2": {"nvfp4"},
    }  # fmt: skip


def test_mixed_checkpoints_say_it_of_each_module(tmp_path: Path) -> None:
    layers = {f"model.layers.{i}.mlp.experts": {"quant_algo": "NVFP4", "group_size": 16} for i in range(4)}
    said = {"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION", "quantized_layers": layers}
    found = types(read(tmp_path, {**MIXTURE, "quantization_config": said}))
    assert found["experts.w13"] == {"nvfp4"} and found["qkv_proj"] == {"bfloat16"}


def test_routers_are_never_quantized_and_embeddings_neither(tmp_path: Path) -> None:
    llm = read(tmp_path, {**MIXTURE, "quantization_config": {"quant_method": "fp8"}})
    assert types(llm)["gate"] == {"bfloat16"} and llm.head_numbers == "bfloat16"


def test_a_folder_whose_files_say_nothing_says_it_by_its_name(tmp_path: Path) -> None:
    """NVIDIA's checkpoints without `hf_quant_config.json`: of mixtures, the experts alone."""
    dense = read(tmp_path / "Llama-3.1-8B-Instruct-NVFP4", DENSE)
    assert dense.quantization == "nvfp4 by its name" and types(dense)["o_proj"] == {"nvfp4"}
    mixture = types(read(tmp_path / "Qwen3-30B-A3B-NVFP4", MIXTURE))
    assert mixture["experts.w2"] == {"nvfp4"} and mixture["qkv_proj"] == {"bfloat16"}
    assert read(tmp_path / "Llama-3.1-8B-Instruct", DENSE).quantization is None


@pytest.mark.parametrize(
    ("said", "message"),
    [
        ({"quant_method": "aqlm"}, "quantization method 'aqlm' is not known; known are auto-round"),
        ({"quant_method": "fp8", "weight_block_size": [1, 32]}, "blocks must be of 128 x 128 weights"),
        ({"quant_method": "modelopt", "quant_algo": "FP3"}, "quant_algo = 'FP3' is not known; known are FP8"),
        ({"quant_method": "compressed-tensors"}, "config_groups = None, but it must say how the weights are kept"),
        ({"quant_method": "compressed-tensors", **weights(6, "int")}, "weights of 6 bits, type 'int', are not known"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": 1}}, "but each group must be an object"),
    ],
)
def test_what_nobody_knows_is_refused(said: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        read(tmp_path, {**DENSE, "quantization_config": said})
    assert message in str(refused.value)
