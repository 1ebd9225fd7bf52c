"""The longest context that vLLM serves an LLM with unless it is told (engine.md 5.3)."""

from __future__ import annotations

from typing import Any, NamedTuple

from loratwin.engines.versions import Version
from loratwin.llms.fields import Fields

YARN_IS_SCALED: Version = (0, 33, 0)
"""From here on `max_position_embeddings` is taken as it is with YaRN; before, the trained length times the factor."""

_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "max_seq_len",
    "seq_length",
    "model_max_length",
    "max_target_positions",
    "max_sequence_length",
    "max_seq_length",
    "seq_len",
)


class Context(NamedTuple):
    """Tokens of prompt and output together, and why so many."""

    tokens: int
    rule: str


def context_of(fields: Fields, version: Version) -> Context:
    """By vLLM's rules (`_get_and_verify_max_len`).

    Raises
    ------
    InputError
        A field that is no number.
    """
    tokens, key = min(((found, key) for key in _KEYS if (found := fields.optional(key))), default=(0, ""))
    if longest := fields.optional("model_max_length"):  # Command-R
        tokens, key = longest, "model_max_length"
    if not tokens:
        return Context(2048, "no length is given: vLLM takes 2048")
    kinds = _ropes(fields)
    if any(kind == "longrope" for kind, _, _ in kinds):
        trained = fields.optional("original_max_position_embeddings")
        return Context(trained or tokens, "LongRoPE: what it was trained with" if trained else key)
    return _scaled(fields, tokens, key, kinds, version)


def _scaled(fields: Fields, tokens: int, key: str, kinds: list[tuple[str, float, int]], version: Version) -> Context:
    if "gemma3" in fields.model_type:  # already scaled
        return Context(tokens, key)
    for kind, factor, trained in kinds:
        if kind == "yarn" or kind.startswith("deepseek"):
            if version >= YARN_IS_SCALED or kind != "yarn":
                return Context(tokens, key)
            return Context(int((trained or tokens) * factor), f"YaRN: {trained or tokens} x {factor:g}")
        if kind not in ("su", "llama3", "default", "mrope", "proportional") and factor != 1:
            return Context(int(tokens * factor), f"{kind} scaling: {tokens} x {factor:g}")
    return Context(tokens, key)


def _ropes(fields: Fields) -> list[tuple[str, float, int]]:
    """(kind, factor, length trained with) of each kind of rotary positions that the file has."""
    said: Any = fields.data.get("rope_scaling") or fields.data.get("rope_parameters")
    if not isinstance(said, dict):
        return []
    each = [said] if any(not isinstance(value, dict) for value in said.values()) else list(said.values())
    return [_rope(fields, one) for one in each if isinstance(one, dict)]


def _rope(fields: Fields, said: dict[str, Any]) -> tuple[str, float, int]:
    kind = str(said.get("rope_type") or said.get("type") or "default")
    factor, trained = said.get("factor"), said.get("original_max_position_embeddings")
    if factor is not None and (
        isinstance(factor, bool) or not isinstance(factor, (int, float)) or not 0 < factor < 1e6
    ):
        raise fields.refuse("rope_scaling", "its factor must be a number above 0")
    kind = {"su": "longrope"}.get(kind, kind)
    return kind, float(factor or 1), trained if type(trained) is int and trained > 0 else 0
