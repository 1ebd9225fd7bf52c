"""A made LLM: layout, tokenizer, refusals. That a real vLLM loads it is tested in tests/launch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer

from loratwin.errors import InputError
from loratwin.synthetic import NewLlm, make_llm, read_llm_shapes
from tests.cli.program import loratwin
from tests.synthetic.weights import read


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_weights_are_those_of_the_config(tmp_path: Path) -> None:
    shapes = make_llm(tmp_path, NewLlm(num_layers=3))
    weights = read(tmp_path / "model.safetensors")
    assert sum(values.size for values in weights.values()) == shapes.num_parameters
    assert weights["model.layers.2.self_attn.k_proj.weight"].shape == (64, 128)
    assert weights["model.layers.0.mlp.down_proj.weight"].shape == (128, 256)
    assert np.all(weights["model.norm.weight"] == 1)


def test_qwen2_has_biases(tmp_path: Path) -> None:
    shapes = make_llm(tmp_path, NewLlm(architecture="qwen2"))
    weights = read(tmp_path / "model.safetensors")
    assert weights["model.layers.1.self_attn.v_proj.bias"].shape == (64,)
    assert sum(values.size for values in weights.values()) == shapes.num_parameters
    assert (shapes.attention_bias, shapes.lora_on_vocabulary) == (True, False)


def test_other_architectures_have_what_is_theirs(tmp_path: Path) -> None:
    made = {name: make_llm(tmp_path / name, NewLlm(architecture=name)) for name in ("qwen3", "gemma", "mixtral")}
    weights = {name: read(tmp_path / name / "model.safetensors") for name in made}
    sizes = {name: sum(values.size for values in tensors.values()) for name, tensors in weights.items()}
    assert weights["qwen3"]["model.layers.1.self_attn.q_norm.weight"].shape == (32,)
    assert sizes["qwen3"] == made["qwen3"].num_parameters + 2 * 2 * 32  # the norms of queries and keys are not counted
    assert "lm_head.weight" not in weights["gemma"] and sizes["gemma"] == made["gemma"].num_parameters
    assert weights["mixtral"]["model.layers.0.block_sparse_moe.experts.3.w2.weight"].shape == (128, 256)
    assert sizes["mixtral"] == made["mixtral"].num_parameters
    with pytest.raises(InputError, match="experts"):
        read_llm_shapes(tmp_path / "mixtral")  # no adapters are made for them


def test_the_shapes_are_read_back(tmp_path: Path) -> None:
    shapes = make_llm(tmp_path, NewLlm(hidden_size=96, num_heads=6, num_kv_heads=3, intermediate_size=100))
    assert shapes == read_llm_shapes(tmp_path / "config.json")
    assert (shapes.head_dim, shapes.kv_size, shapes.intermediate_size, shapes.max_model_len) == (16, 48, 100, 2048)


def test_the_same_options_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("a", "b"):
        make_llm(tmp_path / name)
    make_llm(tmp_path / "b")  # again into our own folder
    assert files(tmp_path / "a") == files(tmp_path / "b")


def test_the_tokenizer_encodes_any_text_and_decodes_every_id(tmp_path: Path) -> None:
    make_llm(tmp_path, NewLlm(vocab_size=5000, weights=False))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = "Grüße, 世界!\n\tbana felo"
    assert tokenizer.get_vocab_size() == 5000
    assert tokenizer.decode(tokenizer.encode(text).ids) == text
    assert len(tokenizer.encode("bana felo").ids) < len("bana felo")  # it was trained
    assert all(tokenizer.decode([i]) for i in range(3, 5000))  # 0 to 2 are special


def test_the_smallest_vocabulary_is_that_of_bytes(tmp_path: Path) -> None:
    make_llm(tmp_path, NewLlm(vocab_size=259))
    tokenizer = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    assert tokenizer.get_vocab_size() == 259
    assert len(tokenizer.encode("bana").ids) == 4


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"vocab_size": 258}, "--vocab 258: must be at least 259 (each byte is a token)"),
    ({"vocab_size": 0}, "--vocab 0: must be at least 1"),
    ({"hidden_size": 130}, "--hidden 130: must be an even multiple of --heads 4"),
    ({"num_kv_heads": 3}, "--heads 4: must be a multiple of --kv-heads 3"),
    ({"num_layers": 0}, "--layers 0: must be at least 1"),
    ({"architecture": "gpt"}, "unknown architecture 'gpt'. Known: gemma, llama, mixtral, qwen2, qwen3"),
    ({"dtype": "int8"}, "unknown dtype 'int8'. Known: bfloat16, float16, float32"),
    ({"num_layers": 10**12}, "more than 2 GiB: leave them out"),
    ({"hidden_size": 8192, "num_layers": 8}, "leave them out with --no-weights, and start the server with"),
]


@pytest.mark.parametrize(("changes", "message"), REFUSED)
def test_sizes_that_cannot_be(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        make_llm(tmp_path / "llm", NewLlm(**changes))
    assert message in str(error.value)
    assert not (tmp_path / "llm").exists()


def test_what_is_not_ours_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(InputError, match="is there already and not ours: give a new or an empty folder"):
        make_llm(tmp_path)
    assert files(tmp_path) == {"config.json": b"mine"}


def test_an_llm_made_with_other_options_is_kept(tmp_path: Path) -> None:
    make_llm(tmp_path)
    before = files(tmp_path)
    with pytest.raises(InputError, match="was made with other options"):
        make_llm(tmp_path, NewLlm(seed=1))
    assert files(tmp_path) == before


PHI = {
    "model_type": "phi3", "hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2,
    "vocab_size": 300, "max_position_embeddings": 128,
}  # fmt: skip
CONFIGS = [
    ("{", "config.json: cannot be read as the config.json of an LLM"),
    ('{"model_type": "xlstm"}', "model_type = 'xlstm', but it must be one of llama, mistral"),
    ("[]", "an object is expected"),
    ('{"model_type": "llama", "hidden_size": "big"}', "hidden_size = 'big', but it must be a whole number above 0"),
    (json.dumps(PHI), "qkv and gate_up are one layer each there; adapters are made for q_proj, k_proj"),
]


@pytest.mark.parametrize(("text", "message"), CONFIGS)
def test_a_config_that_cannot_be_used(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(InputError) as error:
        read_llm_shapes(tmp_path)
    assert message in str(error.value)


def test_published_configs_are_read(tmp_path: Path) -> None:
    """Mistral-7B-v0.1's sizes, whose config has no head_dim."""
    config = {
        "model_type": "mistral",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "vocab_size": 32000,
        "max_position_embeddings": 32768,
        "sliding_window": 4096,  # of no matter for the shapes of weights
        "_name_or_path": "mistralai/Mistral-7B-v0.1",
    }
    (tmp_path / "config.json").write_text(json.dumps(config))
    shapes = read_llm_shapes(tmp_path)
    assert (shapes.head_dim, shapes.num_parameters) == (128, 7_241_732_096)
    assert (shapes.name, shapes.repository) == ("mistral-7b-v0.1", "mistralai/Mistral-7B-v0.1")


def test_the_command(tmp_path: Path) -> None:
    done = loratwin("llm", "make", "tiny", "--layers", "1", "--no-weights", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "tiny: llama, 0.7 million parameters\n"
    assert not (tmp_path / "tiny" / "model.safetensors").exists()
    assert read_llm_shapes(tmp_path / "tiny").num_layers == 1
