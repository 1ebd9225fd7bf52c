"""The one constant of the memory model that shapes do not give, and the loading times, from their own tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from loratwin.calibrate.published.tables import number, read_table
from loratwin.errors import DataError
from loratwin.llms import LlmShapes
from loratwin.perf import LoadingModel, MemoryModel, kv_capacity
from loratwin.perf.memory import GIB
from loratwin.records import EngineConfig

_MEASURED: dict[str, Any] = {
    "max_num_seqs": 2048,
    "max_num_batched_tokens": 2048,
}  # how the servers of kv_capacity.csv were started


def fit_memory(folder: Path, llm: LlmShapes, start: MemoryModel) -> MemoryModel:
    """`other_gib` such that the median error over all starts of the LLM is 0.

    Raises
    ------
    InputError, DataError
        The table is missing or damaged, or has no start of the LLM.
    """
    missing = []
    for row in read_table(folder / "kv_capacity.csv", ("model", "max_loras", "max_lora_rank", "kv_tokens")):
        if row["model"] == llm.name and number(row, "kv_tokens") > 0:
            config = EngineConfig(
                max_loras=int(number(row, "max_loras")), max_lora_rank=int(number(row, "max_lora_rank")), **_MEASURED
            )
            predicted = kv_capacity(llm, start, config).tokens
            missing.append((predicted - number(row, "kv_tokens")) * llm.kv_bytes_per_token / GIB)
    if not missing:
        raise DataError(f"{folder / 'kv_capacity.csv'}: no start of {llm.name}")
    return start.model_copy(update={"other_gib": round(start.other_gib + float(np.median(missing)), 4)})


def fit_loading(folder: Path, model: str) -> LoadingModel:
    """Swap-in by whether the adapter fills the slot's rank; disk load as a line in the rank.

    Raises
    ------
    InputError, DataError
        The table is missing or damaged, or lacks one of the two kinds for the LLM.
    """
    rows = read_table(
        folder / "adapter_loading.csv",
        ("model", "adapter_rank", "max_lora_rank", "disk_load_median_ms", "gpu_load_mean_ms"),
    )
    mine = [row for row in rows if row["model"] == model]
    ranks = np.array([number(row, "adapter_rank") for row in mine])
    full = np.array([row["adapter_rank"] == row["max_lora_rank"] for row in mine])
    if not full.any() or full.all():
        kinds = "of rank max_lora_rank and below max_lora_rank"
        raise DataError(f"{folder / 'adapter_loading.csv'}: needs adapters of {model} {kinds}")
    swap = np.array([number(row, "gpu_load_mean_ms") for row in mine]) / 1e3
    disk = np.array([number(row, "disk_load_median_ms") for row in mine]) / 1e3
    slope, constant = np.polyfit(ranks, disk, 1)
    return LoadingModel(
        swap_in_s=float(swap[full].mean()),
        swap_in_padded_s=float(swap[~full].mean()),
        disk_load_s=max(0.0, float(constant)),
        disk_load_per_rank_s=max(0.0, float(slope)),
    )
