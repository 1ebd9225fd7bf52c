"""A run over time: the engine's gauges and the tokens that were served, in equal parts of the window."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.metrics import finished
from loratwin.records import Run, StepSeries

F8 = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TimeSeries:
    """Means over each part of the window; arrays of shape (parts,). An idle engine runs nothing, waits for nothing."""

    end_s: F8  # of each part
    running: F8  # requests
    waiting: F8
    kv_usage: F8  # 0 to 1
    distinct_adapters: F8  # in the batch
    swap_ins_per_s: F8
    throughput: F8  # tokens per second of the requests finished in this part


def time_series(run: Run, parts: int = 60) -> TimeSeries:
    """Cut the window into equal parts.

    Raises
    ------
    ValueError
        The run has no step series.
    """
    if run.steps is None:
        raise ValueError("the run has no step series")
    edges = np.linspace(0.0, run.window_s, parts + 1)
    steps, width = run.steps, run.window_s / parts
    blocks = (run.kv_tokens or float("nan")) / run.config.block_size
    return TimeSeries(
        end_s=edges[1:],
        running=_time_means(steps, steps.running, edges),
        waiting=_time_means(steps, steps.waiting, edges),
        kv_usage=_time_means(steps, steps.kv_blocks, edges) / blocks,
        distinct_adapters=_time_means(steps, steps.distinct_adapters, edges),
        swap_ins_per_s=_sums(steps.start_s, steps.swap_ins, edges) / width,
        throughput=_served_tokens(run, edges) / width,
    )


def _time_means(steps: StepSeries, values: NDArray[np.int32], edges: F8) -> F8:
    """Means over time of a column that holds during each step and is 0 between steps."""
    area = np.concatenate([[0.0], np.cumsum(values * steps.duration_s)])
    times = np.column_stack([steps.start_s, steps.start_s + steps.duration_s]).ravel()
    so_far = np.column_stack([area[:-1], area[1:]]).ravel()
    if not len(times):
        return np.zeros(len(edges) - 1)
    means: F8 = np.diff(np.interp(edges, times, so_far)) / np.diff(edges)
    return means


def _sums(time_s: F8, values: NDArray[np.int32], edges: F8) -> F8:
    sums: F8 = np.histogram(time_s, bins=edges, weights=values)[0].astype(np.float64)
    return sums


def _served_tokens(run: Run, edges: F8) -> F8:
    done = np.flatnonzero(finished(run))
    table = run.requests
    return _sums(table.finish_s[done], table.prompt_tokens[done] + table.output_tokens[done], edges)
