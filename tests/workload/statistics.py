"""Figures that tell one arrival process from another; a mean and a CV alone do not."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loratwin.workload import AdapterGroup, Workload, WorkloadSpec, draw

F8 = NDArray[np.float64]


def one_group(window_s: float, seed: int = 1, **group: object) -> Workload:
    """Workload of a single group named g, lengths fixed."""
    lengths = {"prompt": 1, "output": 1}
    return draw(WorkloadSpec(window_s=window_s, lengths=lengths, groups=[AdapterGroup(name="g", **group)]), seed)


def times_by_adapter(workload: Workload) -> list[F8]:
    """Arrivals of each adapter."""
    return [workload.arrival_s[workload.adapter == a] for a in range(len(workload.adapters))]


def pooled_gaps(workload: Workload) -> F8:
    """Gaps between consecutive requests of the same adapter, all adapters together."""
    return np.concatenate([np.diff(times) for times in times_by_adapter(workload)])


def counts(times: F8, window_s: float, bin_s: float) -> F8:
    """Arrivals in consecutive bins."""
    return np.histogram(times, bins=np.arange(0, window_s + bin_s / 2, bin_s))[0].astype(float)


def dispersion(workload: Workload, bin_s: float, *, merged: bool = False) -> float:
    """Variance / mean of the arrivals in a bin: 1 for Poisson."""
    parts = [workload.arrival_s] if merged else times_by_adapter(workload)
    binned = np.concatenate([counts(times, workload.window_s, bin_s) for times in parts])
    return float(binned.var() / binned.mean())


def lag_one(values: F8) -> float:
    """Correlation of neighbours."""
    return float(np.corrcoef(values[:-1], values[1:])[0, 1])
