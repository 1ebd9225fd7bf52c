"""Flags of a server that change what it does from what profiles know: what is known of each, for every command.

Which flag means which field of `EngineConfig` is in the engine's options; what a field does to memory, in
`loratwin.perf.account`. Here is what is known of speed.
"""

from __future__ import annotations

from loratwin.errors import InputError
from loratwin.records import EngineConfig

DTYPES: dict[str, str | None] = {
    "auto": None, "bfloat16": None, "float16": None, "half": None, "float32": "float32", "float": "float32",
}  # fmt: skip
"""Types that `--dtype` takes; None: 16 bits, as the twin counts weights that are not quantized."""


def check_speed_known(config: EngineConfig) -> None:
    """Refuse what is known of memory alone, and so far from what was measured that no time could be said.

    Raises
    ------
    InputError
        Such a value, or one that no engine takes.
    """
    if config.dtype not in DTYPES:
        raise InputError(f"dtype = {config.dtype!r}, but it must be one of {', '.join(DTYPES)}")
    if DTYPES[config.dtype] is not None:
        raise InputError(
            f"dtype = {config.dtype}: how fast steps are is known of 16 bits; what it takes of memory, says "
            "`loratwin memory GPU LLM --dtype float32`"
        )


def speed_notes(config: EngineConfig) -> tuple[str, ...]:
    """What a reader must know of times, where flags change them in a way that was not measured."""
    notes = []
    if config.enforce_eager:
        notes.append(
            "enforce_eager: memory is without CUDA graphs, times are with them, too short: what launching each kernel "
            "takes is not known"
        )
    if config.fully_sharded_loras:
        notes.append("fully_sharded_loras: counts in memory; times are those without it")
    return tuple(notes)
