"""What was found for a workload: most adapters served, throughput, and the slots that are as good as the best."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import log, nan

import numpy as np

from loratwin.learn.cases.case import Case
from loratwin.learn.cases.search import PUBLISHED_GRID, SimulatedHour
from loratwin.metrics import STARVED_RATIO

TIE = 0.01
"""Slots within this of the best are equally right: in 41-51 % of the published workloads two or more are."""

COMPARED_NEAR = 0.9
"""Slots are compared at this share of the most adapters: where the published grid's optimum lies on average."""


@dataclass(frozen=True)
class Labels:
    """Targets of one workload; NaN or empty where the search did not reach them.

    Parameters
    ----------
    served
        Most adapters that some slots serve without starving (finished / offered tokens > 0.9), interpolated; in
        adapters of the mean rate.
    counted
        The same as they were counted, when what does not divide among the rates made some of them more than average.
    throughput
        The most tokens/s of any server that does not starve.
    compared_at
        Adapters at which slots are compared.
    slots, latency_slots
        All slots within 1 % of the most throughput, and of the least latency.
    tried
        All slots compared.
    """

    served: float
    counted: float
    throughput: float
    compared_at: int
    slots: tuple[int, ...]
    latency_slots: tuple[int, ...]
    tried: tuple[int, ...]


def labels(case: Case, rows: Sequence[SimulatedHour]) -> Labels:
    """The targets of a workload from the servers simulated for it."""
    served, counted = most_adapters(rows, case.average_adapters), most_adapters(rows)
    working = [row for row in rows if row.share > STARVED_RATIO]
    if not working or not counted >= 1:
        return Labels(served, counted, nan, 0, (), (), ())
    counts = sorted({row.adapters for row in rows}, key=lambda n: (abs(log(n / (COMPARED_NEAR * counted))), n))
    at = next(n for n in counts if any(row.adapters == n for row in working))
    compared = [row for row in working if row.adapters == at]
    most = max(row.throughput for row in compared)
    least = min(latency_ms(case, row) for row in compared)
    return Labels(
        served=served,
        counted=counted,
        throughput=max(row.throughput for row in working),
        compared_at=at,
        slots=tuple(row.slots for row in compared if row.throughput >= most * (1 - TIE)),
        latency_slots=tuple(row.slots for row in compared if latency_ms(case, row) <= least * (1 + TIE)),
        tried=tuple(row.slots for row in rows if row.adapters == at and row.kv_tokens),
    )


def latency_ms(case: Case, row: SimulatedHour) -> float:
    """Mean end-to-end latency: TTFT + TPOT x (mean output - 1)."""
    return row.ttft_mean_ms + row.tpot_mean_ms * (case.output_mean - 1)


def most_adapters(rows: Sequence[SimulatedHour], size: Callable[[int], float] = float) -> float:
    """Where the best served share over slots falls to 0.9, on logarithms; 0: not even one adapter.

    NaN: not reached, or not known to a tenth.

    Parameters
    ----------
    size
        Of a number of adapters: what the answer is measured in.
    """
    best: dict[int, float] = {}
    for row in rows:
        if row.kv_tokens:
            best[row.adapters] = max(row.share, best.get(row.adapters, 0.0))
    counts = sorted(best, key=lambda n: (size(n), n))
    first = next((i for i, n in enumerate(counts) if not best[n] > STARVED_RATIO), None)
    if first is None:
        return nan
    if not first:
        return 0.0 if counts[0] == 1 else nan
    low, high = counts[first - 1], counts[first]
    if abs(high - low) > 1 and size(high) > 1.1 * size(low):
        return nan
    slope = log(best[low] / best[high]) if best[high] > 0 else np.inf
    return float(size(low) * (size(high) / size(low)) ** (log(best[low] / STARVED_RATIO) / slope))


def on_grid(served: float, grid: Sequence[int] = PUBLISHED_GRID) -> int:
    """The largest point of a grid that is served; the grid's first where none is (as the published label)."""
    return max((n for n in grid if n <= served + 1e-9), default=grid[0])


def middle_slots(slots: Sequence[int]) -> float:
    """The geometric middle of slots that are equally good: what a regression aims at."""
    return float(np.exp(np.mean(np.log(slots))))


def nearest_slots(wanted: float, options: Sequence[int]) -> int:
    """The option to take when a regression says `wanted`: the nearest by ratio of those there are."""
    return min(options, key=lambda slots: (abs(log(slots / max(wanted, 1e-9))), slots))
