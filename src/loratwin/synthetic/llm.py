"""A small LLM with random weights: config, tokenizer and safetensors, for servers that are tried without a download."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

from loratwin.errors import InputError, UnknownNameError
from loratwin.llms import LlmShapes, shapes_from_config
from loratwin.records import write_atomically
from loratwin.synthetic import folders
from loratwin.synthetic.shapes import modules, read_llm_shapes
from loratwin.synthetic.tensors import DTYPE_BYTES, Dtype, Tensor, safetensors_file
from loratwin.synthetic.tokenizer import tokenizer_files
from loratwin.workload.streams import stream

Architecture = Literal["llama", "qwen2", "qwen3", "gemma", "mixtral"]

INDEX = "loratwin-llm.json"
"""Says that a folder is ours, and with which options it was made."""

MAX_WEIGHT_BYTES = 2 * 2**30
"""Larger weights are refused: a server makes its own as fast (`--load-format dummy`)."""

_CLASSES = {
    "llama": "LlamaForCausalLM",
    "qwen2": "Qwen2ForCausalLM",
    "qwen3": "Qwen3ForCausalLM",
    "gemma": "GemmaForCausalLM",
    "mixtral": "MixtralForCausalLM",
}

_EXPERTS = 4

_OWN: dict[str, dict[str, Any]] = {
    "qwen3": {"attention_bias": False},
    "gemma": {"hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh", "tie_word_embeddings": True},
    "mixtral": {"num_local_experts": _EXPERTS, "num_experts_per_tok": 2, "sliding_window": None},
}
"""What an architecture's config has otherwise than Llama's."""


@dataclass(frozen=True)
class NewLlm:
    """What is to be made; the defaults are 0.9 million weights, enough for every path of a server."""

    architecture: Architecture = "llama"
    hidden_size: int = 128
    num_layers: int = 2
    num_heads: int = 4
    num_kv_heads: int = 2
    intermediate_size: int = 256
    vocab_size: int = 2048
    max_model_len: int = 2048
    dtype: Dtype = "bfloat16"
    weights: bool = True
    seed: int = 0


def make_llm(folder: str | Path, llm: NewLlm | None = None) -> LlmShapes:
    """Write an LLM in the layout of Hugging Face; each file whole, `config.json` last. Returns its shapes.

    With `weights=False` there is everything but the weights, for `--load-format dummy`.

    Raises
    ------
    InputError
        Sizes that do not fit together, weights above `MAX_WEIGHT_BYTES`, a folder that is not ours, or no room for it.
    """
    llm, target = llm or NewLlm(), Path(folder)
    _check(llm)
    config = _config(llm)
    texts = tokenizer_files(llm.vocab_size, llm.max_model_len)
    texts["generation_config.json"] = json.dumps({key: config[key] for key in ("bos_token_id", "eos_token_id")})
    folders.check_room(target, _num_bytes(llm) if llm.weights else 0)
    folders.claim(target, INDEX, asdict(llm))
    if llm.weights:
        rng = stream(llm.seed, "llm", "weights")
        write_atomically(target / "model.safetensors", safetensors_file(dict(_tensors(llm)), llm.dtype, rng))
    for name, text in {**texts, "config.json": json.dumps(config, indent=1)}.items():
        write_atomically(target / name, text + "\n")
    return shapes_from_config(target) if llm.architecture == "mixtral" else read_llm_shapes(target)


def _check(llm: NewLlm) -> None:
    if llm.architecture not in _CLASSES:
        raise UnknownNameError("architecture", llm.architecture, _CLASSES)
    if llm.dtype not in DTYPE_BYTES:
        raise UnknownNameError("dtype", llm.dtype, DTYPE_BYTES)
    sizes = {"hidden": llm.hidden_size, "layers": llm.num_layers, "heads": llm.num_heads, "kv-heads": llm.num_kv_heads}
    sizes |= {"intermediate": llm.intermediate_size, "vocab": llm.vocab_size, "max-model-len": llm.max_model_len}
    for option, value in sizes.items():
        if value < 1:
            raise InputError(f"--{option} {value}: must be at least 1")
    if llm.hidden_size % (2 * llm.num_heads):
        raise InputError(f"--hidden {llm.hidden_size}: must be an even multiple of --heads {llm.num_heads}")
    if llm.num_heads % llm.num_kv_heads:
        raise InputError(f"--heads {llm.num_heads}: must be a multiple of --kv-heads {llm.num_kv_heads}")
    num_bytes = _num_bytes(llm)
    if llm.weights and num_bytes > MAX_WEIGHT_BYTES:
        raise InputError(
            f"the weights would take {num_bytes / 2**30:.1f} GiB, more than {MAX_WEIGHT_BYTES / 2**30:g} GiB: "
            "leave them out with --no-weights, and start the server with --load-format dummy"
        )


def _num_bytes(llm: NewLlm) -> int:
    """Of all weights; by one layer, since a slip in the number of layers must not be counted out one by one."""
    without, with_one = (_num_values(replace(llm, num_layers=num)) for num in (0, 1))
    return DTYPE_BYTES[llm.dtype] * (without + llm.num_layers * (with_one - without))


def _num_values(llm: NewLlm) -> int:
    return sum(math.prod(tensor.shape) for _, tensor in _tensors(llm))


def _config(llm: NewLlm) -> dict[str, Any]:
    return {
        "architectures": [_CLASSES[llm.architecture]],
        "model_type": llm.architecture,
        "hidden_size": llm.hidden_size,
        "intermediate_size": llm.intermediate_size,
        "num_hidden_layers": llm.num_layers,
        "num_attention_heads": llm.num_heads,
        "num_key_value_heads": llm.num_kv_heads,
        "head_dim": llm.hidden_size // llm.num_heads,
        "vocab_size": llm.vocab_size,
        "max_position_embeddings": llm.max_model_len,
        "hidden_act": "silu",
        "rms_norm_eps": 1e-5,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        "use_cache": True,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "torch_dtype": llm.dtype,
        **_OWN.get(llm.architecture, {}),
    }


def _tensors(llm: NewLlm) -> Iterator[tuple[str, Tensor]]:
    """All tensors under the names of Hugging Face; matrices of size 1/sqrt(input features), which keeps the scale."""
    h, v = llm.hidden_size, llm.vocab_size
    ones = Tensor((h,), 1.0, constant=True)
    yield "model.embed_tokens.weight", Tensor((v, h), 1.0)
    for layer in range(llm.num_layers):
        start = f"model.layers.{layer}"
        yield f"{start}.input_layernorm.weight", ones
        yield f"{start}.post_attention_layernorm.weight", ones
        if llm.architecture == "qwen3":
            for name in ("q_norm", "k_norm"):
                yield f"{start}.self_attn.{name}.weight", Tensor((h // llm.num_heads,), 1.0, constant=True)
        for name, (part, inputs, outputs) in modules(_shapes(llm)).items():
            if llm.architecture == "mixtral" and part == "mlp":
                continue
            yield f"{start}.{part}.{name}.weight", Tensor((outputs, inputs), inputs**-0.5)
            if llm.architecture == "qwen2" and name in ("q_proj", "k_proj", "v_proj"):
                yield f"{start}.{part}.{name}.bias", Tensor((outputs,), 0.1)
        if llm.architecture == "mixtral":
            yield from _experts(f"{start}.block_sparse_moe", h, llm.intermediate_size)
    yield "model.norm.weight", ones
    if not _OWN.get(llm.architecture, {}).get("tie_word_embeddings"):
        yield "lm_head.weight", Tensor((v, h), h**-0.5)


def _experts(start: str, h: int, f: int) -> Iterator[tuple[str, Tensor]]:
    """Router and experts of a Mixtral's layer of these sizes; w1, w3 and w2 are gate, up and down."""
    yield f"{start}.gate.weight", Tensor((_EXPERTS, h), h**-0.5)
    for expert in range(_EXPERTS):
        for name, outputs, inputs in zip(("w1", "w3", "w2"), (f, f, h), (h, h, f), strict=True):
            yield f"{start}.experts.{expert}.{name}.weight", Tensor((outputs, inputs), inputs**-0.5)


def _shapes(llm: NewLlm) -> LlmShapes:
    return LlmShapes(
        name="synthetic",
        hidden_size=llm.hidden_size,
        intermediate_size=llm.intermediate_size,
        num_layers=llm.num_layers,
        num_heads=llm.num_heads,
        num_kv_heads=llm.num_kv_heads,
        head_dim=llm.hidden_size // llm.num_heads,
        vocab_size=llm.vocab_size,
        max_model_len=llm.max_model_len,
        lora_on_vocabulary=llm.architecture == "llama",
    )
