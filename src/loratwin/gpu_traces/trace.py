"""Kernels as they were seen: a row for each launch, whatever tool saw it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from loratwin.errors import DataError
from loratwin.records.columns import ColumnTable, FloatArray, LongArray, column


@dataclass(frozen=True, eq=False)
class Launches(ColumnTable):
    """Columns of shape (num_launches,); NaN: the tool does not tell.

    Parameters
    ----------
    name
        Index into `KernelTrace.names`.
    phase
        Index into `phases.PHASES`.
    batch
        Requests in the step; 0: not told.
    duration_s
        On the GPU (of operators on a CPU: without those that they call).
    bytes, operations
        Moved to and from the GPU's memory; floating-point operations.
    dram_busy
        Of the peak of the memory, 0 to 1.
    stalled
        Share of the cycles in which no warp could issue.
    memory_wait
        Of the time between two instructions of a warp the part that it waits for memory.
    l1_hits, l2_hits
        Of the accesses to each cache, 0 to 1.
    """

    name: LongArray = column(np.int64)
    phase: LongArray = column(np.int64)
    batch: LongArray = column(np.int64)
    duration_s: FloatArray = column(np.float64)
    bytes: FloatArray = column(np.float64)
    operations: FloatArray = column(np.float64)
    dram_busy: FloatArray = column(np.float64)
    stalled: FloatArray = column(np.float64)
    memory_wait: FloatArray = column(np.float64)
    l1_hits: FloatArray = column(np.float64)
    l2_hits: FloatArray = column(np.float64)


COUNTERS = ("bytes", "operations", "dram_busy", "stalled", "memory_wait", "l1_hits", "l2_hits")
"""What only some tools tell."""


@dataclass(frozen=True, eq=False)
class KernelTrace:
    """What one file tells.

    Parameters
    ----------
    source
        The tool, with its version where it says so.
    file
        Its path, for people.
    names
        Of kernels, each once.
    gpu
        As the file calls it; empty: it does not.
    """

    source: str
    file: str
    names: tuple[str, ...]
    launches: Launches
    gpu: str = ""


def make_trace(
    source: str,
    file: str,
    names: list[str],
    phase: ArrayLike,
    batch: ArrayLike,
    duration_s: ArrayLike,
    gpu: str = "",
    counters: dict[str, ArrayLike] | None = None,
) -> KernelTrace:
    """A trace from a name for each launch and what else is told; counters that are not are NaN.

    Raises
    ------
    DataError
        There is no kernel, or one takes less than no time.
    """
    if not names:
        raise DataError(f"{file}: no kernel is in it")
    known = {name: index for index, name in enumerate(dict.fromkeys(names))}
    seconds = np.asarray(duration_s, np.float64)
    if not (seconds >= 0).all():
        raise DataError(f"{file}: a kernel's duration is no time: {names[int(np.argmin(seconds >= 0))]}")
    unknown = np.full(len(names), np.nan)
    columns = {name: np.asarray((counters or {}).get(name, unknown), np.float64) for name in COUNTERS}
    index = np.array([known[name] for name in names], np.int64)
    rows = Launches(index, np.asarray(phase, np.int64), np.asarray(batch, np.int64), seconds, **columns)
    return KernelTrace(source, file, tuple(known), rows, gpu)
