"""Linear layers of an LLM, by the names that adapters use."""

from __future__ import annotations

from pathlib import Path

from loratwin.engines.versions import GENERATIONS
from loratwin.errors import InputError
from loratwin.llms import LlmShapes, shapes_from_config

LINEAR_MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""The linear layers of a block, in the order in which they are computed."""


def read_llm_shapes(path: str | Path) -> LlmShapes:
    """Shapes of the LLM that a `config.json`, or the folder with it, describes.

    Raises
    ------
    InputError
        As `shapes_from_config`, or its linear layers are not those of `LINEAR_MODULES`.
    """
    llm = shapes_from_config(path, _SAME)
    if len(llm.kinds) > 1 or any(linear.experts for kind in llm.kinds for linear in kind.linears):
        raise InputError(f"{path}: its layers are not all alike, or have experts; adapters are made for {_NAMES}")
    if {linear.name for linear in llm.kinds[0].linears} != {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"}:
        raise InputError(f"{path}: its layers are of another kind; adapters are made for {_NAMES}")
    if llm.fused_projections:
        raise InputError(f"{path}: qkv and gate_up are one layer each there; adapters are made for {_NAMES}")
    return llm


_NAMES = ", ".join(LINEAR_MODULES)

_SAME = GENERATIONS[0].name
"""Always the same version: what adapters are made of does not depend on it, and a folder that was begun is gone on
with, whatever version is taken where none is told."""


def modules(llm: LlmShapes) -> dict[str, tuple[str, int, int]]:
    """Linear layers of a block: name -> (part of the block, input features, output features)."""
    h, f, q, kv = llm.hidden_size, llm.intermediate_size, llm.query_size, llm.kv_size
    sizes = ((h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h))
    parts = ("self_attn",) * 4 + ("mlp",) * 3
    return {name: (part, *size) for name, part, size in zip(LINEAR_MODULES, parts, sizes, strict=True)}
