"""The shapes of an LLM from its `config.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loratwin.errors import InputError
from loratwin.perf import LlmShapes

ARCHITECTURES = {
    # model_type: (LoRA buffers on embedding and head, bias of q, k, v); as vLLM's classes for them declare
    "llama": (True, False),
    "mistral": (True, False),
    "qwen2": (False, True),
    "qwen3": (False, False),
}
"""LLMs whose linear layers have the names that `modules` makes."""

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block, in the order in which they are computed."""


def read_llm_shapes(path: str | Path) -> LlmShapes:
    """Shapes of the LLM that a `config.json`, or the folder with it, describes.

    Raises
    ------
    InputError
        There is no such file, it is no JSON, lacks a size, or describes another kind of LLM.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror or error}") from None
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error})") from None
    if not isinstance(config, dict) or config.get("model_type") not in ARCHITECTURES:
        found = config.get("model_type") if isinstance(config, dict) else None
        raise InputError(f"{file}: model_type is {found!r}, but must be one of {', '.join(ARCHITECTURES)}")
    return _shapes(file, config)


def _shapes(file: Path, config: dict[str, Any]) -> LlmShapes:
    on_vocabulary, bias = ARCHITECTURES[config["model_type"]]
    needed = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")
    for key in needed:
        if not (type(config.get(key)) is int and config[key] > 0):
            raise InputError(f"{file}: {key} is {config.get(key)!r}, but must be a whole number above 0")
    heads = config["num_attention_heads"]
    try:
        return LlmShapes(
            name=str(config.get("_name_or_path") or file.absolute().parent.name),
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            max_model_len=config.get("max_position_embeddings") or 2048,
            lora_on_vocabulary=on_vocabulary,
            attention_bias=bias,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(f"{file}: {first['loc'][0]} = {first['input']!r}: {first['msg']}") from None


def modules(llm: LlmShapes) -> dict[str, tuple[str, int, int]]:
    """Linear layers of a block: name -> (part of the block, input features, output features)."""
    h, f, q, kv = llm.hidden_size, llm.intermediate_size, llm.query_size, llm.kv_size
    sizes = ((h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h))
    parts = ("self_attn",) * 4 + ("mlp",) * 3
    return {name: (part, *size) for name, part, size in zip(LINEAR_MODULES, parts, sizes, strict=True)}
