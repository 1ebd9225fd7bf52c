"""A row of others' tables in the twin's words: the profile that is assumed, and how the server was started."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from loratwin.llms import find_llm
from loratwin.perf import Gpu, Profile, assume, find_gpu
from loratwin.perf.sizing import config_with_defaults
from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold
from loratwin.validate.cells import number

LIMITS = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "max_loras")
"""Columns that are fields of `EngineConfig`, whole numbers, and the engine's own where they are empty."""


@lru_cache(maxsize=64)
def assumed_profile(gpu: str, llm: str, engine: str, tensor_parallel: int) -> Profile:
    """The profile assumed of a row, made once.

    Raises
    ------
    InputError
        A GPU, an LLM or an engine that is not known.
    """
    return assume(find_gpu(gpu), find_llm(llm, engine), engine, tensor_parallel)


def row_config(row: Mapping[str, str], engine: str, gpu: Gpu) -> EngineConfig:
    """What the server of a row was started with: its columns, and the engine's defaults on this GPU where one is empty.

    Raises
    ------
    InputError
        A value that the engine refuses.
    """
    given: dict[str, Any] = {name: int(value) for name in LIMITS if (value := number(row, name)) is not None}
    given |= {
        "gpu_memory_utilization": number(row, "gpu_memory_utilization"),
        "max_lora_rank": ranks_that_hold(int(number(row, "max_lora_rank") or 16))[0],
        "enforce_eager": bool(number(row, "enforce_eager")),
        "kv_cache_dtype": row.get("kv_cache_dtype") or "auto",
        "enable_prefix_caching": _on(row.get("prefix_caching", "")),
    }
    return config_with_defaults(gpu, engine, given)


def _on(setting: str) -> bool | None:
    """What a cell as "default (on)", "on" or "off" says; None: nothing."""
    words = re.findall(r"\b(on|off|yes|no|true|false)\b", setting.lower())
    return words[0] in ("on", "yes", "true") if words else None
