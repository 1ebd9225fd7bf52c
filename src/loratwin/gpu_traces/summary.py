"""Traces in figures: time by class, phase and batch, what memory and caches did, and arithmetic intensity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
from numpy.typing import NDArray

from loratwin.gpu_traces.classes import CLASSES, kernel_class
from loratwin.gpu_traces.phases import PHASES
from loratwin.gpu_traces.trace import KernelTrace

B1 = NDArray[np.bool_]


@dataclass(frozen=True)
class ClassFigures:
    """Some launches together. NaN: not told.

    Parameters
    ----------
    name
        Of the class, or of the kernel.
    phase
        prefill, decode, mixed, or empty.
    batch
        Requests in the step; 0: not told, or several.
    launches
        How many.
    seconds
        On the GPU, all together.
    share
        Of the time of all kernels in this phase and batch, 0 to 1.
    bytes_per_s
        To and from memory.
    dram_busy, stalled, memory_wait, l1_hits, l2_hits
        As `Launches`, each launch weighted by its time.
    intensity
        Floating-point operations for each byte of memory.
    operations_per_s
        Of the launches that tell theirs.
    """

    name: str
    phase: str
    batch: int
    launches: int
    seconds: float
    share: float
    bytes_per_s: float
    dram_busy: float
    stalled: float
    memory_wait: float
    l1_hits: float
    l2_hits: float
    intensity: float
    operations_per_s: float


def by_class(traces: Sequence[KernelTrace]) -> list[ClassFigures]:
    """A row for each class that took time, in each phase and batch that is told."""
    return _grouped(traces, [[kernel_class(name) for name in trace.names] for trace in traces], CLASSES)


def by_kernel(traces: Sequence[KernelTrace], most: int = 30) -> list[ClassFigures]:
    """A row for each kernel, whatever its phase, those of the most time first."""
    names = tuple(dict.fromkeys(name for trace in traces for name in trace.names))
    rows = _grouped(traces, [list(trace.names) for trace in traces], names, phases=False)
    return sorted(rows, key=lambda row: -row.seconds)[:most]


def _grouped(
    traces: Sequence[KernelTrace], groups: Sequence[Sequence[str]], order: Sequence[str], phases: bool = True
) -> list[ClassFigures]:
    number = {name: index for index, name in enumerate(order)}
    codes = [np.array([number[name] for name in mine])[t.launches.name] for t, mine in zip(traces, groups, strict=True)]
    rows = []
    for phase, batch in _cells(traces) if phases else [(-1, 0)]:
        cells = [_in_cell(trace, phase, batch) for trace in traces]
        whole = sum(float(t.launches.duration_s[cell].sum()) for t, cell in zip(traces, cells, strict=True))
        for code in np.unique(np.concatenate([mine[cell] for mine, cell in zip(codes, cells, strict=True)])):
            chosen = [(t, cell & (mine == code)) for t, cell, mine in zip(traces, cells, codes, strict=True)]
            rows.append(_figures(chosen, order[code], PHASES[phase] if phase >= 0 else "", batch, whole))
    return rows


def _cells(traces: Sequence[KernelTrace]) -> list[tuple[int, int]]:
    """Phases and batches that are there."""
    pairs = {pair for trace in traces for pair in zip(trace.launches.phase, trace.launches.batch, strict=True)}
    return sorted((int(phase), int(batch)) for phase, batch in pairs)


def _in_cell(trace: KernelTrace, phase: int, batch: int) -> B1:
    if phase < 0:
        return np.ones(len(trace.launches), np.bool_)
    return np.asarray((trace.launches.phase == phase) & (trace.launches.batch == batch))


def _figures(
    chosen: Sequence[tuple[KernelTrace, B1]], name: str, phase: str, batch: int, whole_s: float
) -> ClassFigures:
    def column(what: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(trace.launches, what)[mine] for trace, mine in chosen])

    seconds, moved, operations = column("duration_s"), column("bytes"), column("operations")
    both = ~np.isnan(moved) & ~np.isnan(operations)
    total = float(seconds.sum())
    return ClassFigures(
        name, phase, batch, len(seconds), total, total / whole_s if whole_s else nan,
        bytes_per_s=_rate(moved, seconds),
        **{what: _weighted(column(what), seconds) for what in _WEIGHTED},
        intensity=_ratio(float(operations[both].sum()), float(moved[both].sum())),
        operations_per_s=_rate(operations, seconds),
    )  # fmt: skip


_WEIGHTED = ("dram_busy", "stalled", "memory_wait", "l1_hits", "l2_hits")


def _rate(amount: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    """Amount for each second of the launches that tell theirs."""
    is_known = ~np.isnan(amount)
    return _ratio(float(amount[is_known].sum()), float(seconds[is_known].sum())) if is_known.any() else nan


def _weighted(values: NDArray[np.float64], seconds: NDArray[np.float64]) -> float:
    is_known = ~np.isnan(values)
    return _ratio(float((values[is_known] * seconds[is_known]).sum()), float(seconds[is_known].sum()))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else nan
