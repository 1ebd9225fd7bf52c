"""KV caches that others' servers logged, and servers that died of memory: what is assumed of a GPU and an LLM says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from loratwin.engines.versions import GENERATIONS, engine_version
from loratwin.errors import InputError
from loratwin.llms import find_llm
from loratwin.perf import Gpu, assume_memory, find_gpu, memory_account
from loratwin.validate.cells import number, text
from loratwin.validate.public_rows import row_config

ECC_SHARE, WITHOUT_DRIVER = 15 / 16, 0.9875
"""What is left of a card's memory where it keeps check bits in it, and beside what a driver keeps."""


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

    Which sampler a server takes (`VLLM_USE_FLASHINFER_SAMPLER`) no column says: it is the version's own.

    Raises
    ------
    DataError
        A column is missing, or says what is not known.
    InputError
        A GPU, an LLM or an engine that is not known.
    """
    engine, gpu = _engine(text(row, "engine")), _gpu(row)
    llm = find_llm(_llm(row), engine)
    tensor_parallel = int(number(row, "tensor_parallel") or 1)
    memory = assume_memory(gpu, llm, engine, tensor_parallel)
    account = memory_account(llm, memory, row_config(row, engine, gpu))
    capacity = account.capacity
    return KvPrediction(
        capacity.tokens, capacity.low, capacity.high,
        account.kv_gib, account.kv_low_gib, account.kv_high_gib, capacity.starts,
    )  # fmt: skip


def _engine(engine: str) -> str:
    """Without what stands beside the version; the newest that is known where none is told."""
    try:
        engine_version(engine)
    except InputError:
        version = re.search(r"\d+\.\d+(\.\d+)?", engine)
        name = GENERATIONS[-1].name.split("-")[0]
        if version:
            return f"{name}-{version[0]}"
        if not engine.startswith(name):
            raise
        return CURRENT
    return engine


CURRENT = next(generation.name for generation in GENERATIONS if generation.since >= (0, 25, 0))
"""What "current" is taken to be where no version is told: of the middle of the time in which reports were collected."""


def _gpu(row: Mapping[str, str]) -> Gpu:
    name, memory = text(row, "gpu"), number(row, "gpu_gib")
    size = re.match(r"(\d+) GB, not named", name)
    if not size:
        return find_gpu(name, memory)
    gib = int(size[1])
    ends = gib * ECC_SHARE * WITHOUT_DRIVER, gib * WITHOUT_DRIVER
    gpu = find_gpu("rtx-a6000" if gib > 32 else "rtx-4090")
    return gpu.model_copy(update={"memory_gib": ends[1], "memory_error_gib": (ends[1] - ends[0]) / 2})


def _llm(row: Mapping[str, str]) -> str:
    """The LLM's name, with the words for its quantization that a checkpoint of that kind has."""
    return "-".join(filter(None, (text(row, "llm").split(" ")[0], row.get("quantization"))))
