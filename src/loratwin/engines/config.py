"""From a server's arguments, what it says of itself, and its engine's defaults, to the `EngineConfig` of the record."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from typing import Any

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.serving import Facts
from loratwin.engines.versions import Device, Limits, default_limits, limits_beside
from loratwin.errors import InputError
from loratwin.records import EngineConfig

GIB = 2**30


def engine_config(arguments: ServerArguments, facts: Facts | None = None) -> EngineConfig:
    """The configuration: arguments first, then what the server says, then the engine's defaults.

    Parameters
    ----------
    facts
        Of the running server; without them the arguments alone are checked, before a start.

    Raises
    ------
    InputError
        The arguments are such as the engine refuses (`ServerArguments.check`), a value is no number, or breaks a rule
        of `EngineConfig`.
    """
    arguments.check()
    facts = facts or Facts()
    told = {
        name: value for name, value in vars(facts).items() if value is not None and name in EngineConfig.model_fields
    }
    asked = _asked(arguments)
    defaults = _defaults(arguments, facts.version, told | asked)
    try:
        return EngineConfig(**defaults | told | asked)
    except InputError:
        return EngineConfig(**defaults | asked)  # what an unusual engine says (blocks of 272 tokens) is left out


def _asked(arguments: ServerArguments) -> dict[str, Any]:
    """Every field of `EngineConfig` that the engine's table has an option for, where it is given."""
    fields = [name for name in arguments.engine.options if name in EngineConfig.model_fields]
    values = {name: value for name in fields if (value := arguments.value(name)) is not None}
    if not arguments.is_on("enable_lora") and not _sglang_with_paths(arguments):
        values["max_loras"] = 0
        values["max_cpu_loras"] = None
    return values


def _sglang_with_paths(arguments: ServerArguments) -> bool:
    """SGLang switches LoRA on when adapters are given."""
    return arguments.engine.name == "sglang" and "lora_modules" in arguments


def _defaults(arguments: ServerArguments, version: str | None, known: dict[str, Any]) -> dict[str, Any]:
    """What the engine takes where nothing is `known`."""
    sglang = arguments.engine.name == "sglang"
    limits = _SGLANG_LIMITS if sglang else _vllm_limits(*_gpu(), version or "")
    others = _SGLANG_OTHERS if sglang else {"max_loras": 1, "max_cpu_loras": arguments.value("max_loras") or 1}
    return {**others, **limits_beside(limits, known)._asdict()}


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
