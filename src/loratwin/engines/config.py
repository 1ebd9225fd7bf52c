"""From a server's arguments, what it says of itself, and its engine's defaults, to the `EngineConfig` of the record."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from loratwin.engines import arguments
from loratwin.engines.serving import Engine, Facts
from loratwin.engines.versions import Device, Limits, default_limits, limits_beside
from loratwin.errors import InputError
from loratwin.records import EngineConfig

GIB = 2**30


def engine_config(engine: Engine, given: Sequence[str], facts: Facts | None = None) -> EngineConfig:
    """The configuration: arguments first, then what the server says, then the engine's defaults.

    Parameters
    ----------
    facts
        Of the running server; without them the arguments alone are checked, before a start.

    Raises
    ------
    InputError
        A value is no number, or breaks a rule of `EngineConfig`.
    """
    facts = facts or Facts()
    told = {
        name: value for name, value in vars(facts).items() if value is not None and name in EngineConfig.model_fields
    }
    asked = _asked(engine, given)
    defaults = _defaults(engine, given, facts.version, told | asked)
    try:
        return EngineConfig(**defaults | told | asked)
    except InputError:
        return EngineConfig(**defaults | asked)  # what an unusual engine says (blocks of 272 tokens) is left out


def _asked(engine: Engine, given: Sequence[str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field, names in engine.options.items():
        text = arguments.option(given, *names)
        if text is None or text in ("auto", "-1"):  # the engine decides
            continue
        read = arguments.number if field == "gpu_memory_utilization" else arguments.whole_number
        values[field] = read(text, names[0])
    if not arguments.flag(given, "--enable-lora") and not _sglang_with_paths(engine, given):
        values["max_loras"] = 0
        values["max_cpu_loras"] = None
    return values


def _sglang_with_paths(engine: Engine, given: Sequence[str]) -> bool:
    """SGLang switches LoRA on when adapters are given."""
    return engine.name == "sglang" and arguments.option(given, "--lora-paths") is not None


def _defaults(engine: Engine, given: Sequence[str], version: str | None, known: dict[str, Any]) -> dict[str, Any]:
    """What the engine takes where nothing is `known`."""
    sglang = engine.name == "sglang"
    limits = _SGLANG_LIMITS if sglang else _vllm_limits(*_gpu(), version or "")
    others = _SGLANG_OTHERS if sglang else _vllm_others(given)
    return {**others, **limits_beside(limits, known)._asdict()}


def _vllm_others(given: Sequence[str]) -> dict[str, Any]:
    slots = arguments.option(given, "--max-loras")
    return {"max_loras": 1, "max_cpu_loras": arguments.whole_number(slots, "--max-loras") if slots else 1}


def _vllm_limits(gpu: str, memory_gib: float, version: str) -> Limits:
    """Defaults of a server here; of a version that nobody knows those of the newest."""
    device: Device = "cuda" if gpu else "cpu"
    try:
        return default_limits(version, memory_gib, gpu, device)
    except InputError:
        return default_limits("", memory_gib, gpu, device)


_SGLANG_LIMITS = Limits(max_num_batched_tokens=8192, max_num_seqs=256, gpu_memory_utilization=0.85)
_SGLANG_OTHERS = {"max_loras": 8, "block_size": 1}
"""SGLang 0.5: 8 adapters in a batch (the base LLM counts as one), all adapters in host memory, pages of 1 token."""


def _gpu() -> tuple[str, float]:
    """Name and memory (GiB) of the first GPU; "" and 0 without one."""
    program = shutil.which("nvidia-smi")
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        with suppress(OSError, subprocess.SubprocessError, ValueError, IndexError):
            done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
            name, _, mebibytes = done.stdout.splitlines()[0].rpartition(",")
            return name, float(mebibytes) / 1024
    return "", 0.0
