"""KV caches that others' servers logged, and servers that died of memory: what is assumed of a GPU and an LLM says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from loratwin.engines.versions import limits_beside
from loratwin.errors import DataError
from loratwin.llms import find_llm
from loratwin.perf import assume, find_gpu, kv_capacity
from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold
from loratwin.validate.cells import number, text

GIB = 1 << 30


class KvPrediction(NamedTuple):
    """Size of a KV cache, named as the columns that are predicted; None: not stated."""

    kv_tokens: float
    kv_tokens_low: float | None
    kv_tokens_high: float | None
    kv_gib_per_gpu: float
    kv_gib_per_gpu_low: float | None
    kv_gib_per_gpu_high: float | None
    starts: bool


def predict_kv(row: Mapping[str, str]) -> KvPrediction:
    """Predict one row of `kv_capacity.csv`, from its configuration columns alone.

    Raises
    ------
    DataError
        A column is missing, or says what is not known: quantized weights, another type of the KV cache.
    InputError
        A GPU, an LLM or an engine that is not known.
    """
    for name in ("quantization", "kv_cache_dtype"):
        if row.get(name):
            raise DataError(f"{name} = {row[name]!r}: its memory is not known")
    engine, tensor_parallel = text(row, "engine"), int(number(row, "tensor_parallel") or 1)
    profile = assume(find_gpu(text(row, "gpu")), find_llm(text(row, "llm"), engine), engine, tensor_parallel)
    names = ("max_num_seqs", "max_num_batched_tokens", "max_model_len", "max_loras")
    given: dict[str, Any] = {name: int(value) for name in names if (value := number(row, name)) is not None}
    values = limits_beside(profile.limits, given)._asdict() | {"max_loras": 0} | given
    values["gpu_memory_utilization"] = number(row, "gpu_memory_utilization") or profile.gpu_memory_utilization
    values["max_lora_rank"] = ranks_that_hold(int(number(row, "max_lora_rank") or 16))[0]
    capacity = kv_capacity(profile.llm, profile.memory, EngineConfig(**values))
    gib = capacity.tokens * profile.llm.kv_bytes_on_gpu(tensor_parallel) / GIB
    return KvPrediction(capacity.tokens, None, None, gib, None, None, capacity.starts)
