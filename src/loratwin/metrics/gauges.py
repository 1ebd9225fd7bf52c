"""What a dashboard of the server would show over the window: running, waiting, KV use, adapter loads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.records import Gauges, Run, StepSeries
from loratwin.records.columns import FloatArray, IntArray


def gauges(run: Run) -> Gauges:
    """Time-weighted means and maxima over the window; between two steps with a gap the engine is idle: all 0.

    From the step series where there is one, else what the run says of itself, else (means only) from the requests.
    """
    if run.steps is not None:
        return _from_steps(run, run.steps)
    return run.gauges if run.gauges is not None else _from_requests(run)


def _from_steps(run: Run, steps: StepSeries) -> Gauges:
    inside = np.searchsorted(steps.start_s, run.window_s)  # the last step may end after the window
    weight = np.minimum(steps.duration_s[:inside], run.window_s - steps.start_s[:inside]) / run.window_s
    totals = Gauges(
        swap_ins=int(steps.swap_ins.sum()), disk_loads=int(steps.disk_loads.sum()), num_steps=len(steps.start_s)
    )
    blocks = (run.kv_tokens or float("nan")) / run.config.block_size
    running, waiting, owned = (column[:inside] for column in (steps.running, steps.waiting, steps.kv_blocks))
    return replace(
        totals,
        running_mean=_weighted_sum(weight, running),
        running_max=float(running.max(initial=0)),
        waiting_mean=_weighted_sum(weight, waiting),
        waiting_max=float(waiting.max(initial=0)),
        kv_usage_mean=_weighted_sum(weight, owned) / blocks,
        kv_usage_max=float(owned.max(initial=0)) / blocks,
    )


def _weighted_sum(weight: FloatArray, values: IntArray) -> float:
    """Not `weight @ values`: BLAS would start threads for it, and sum in an order that depends on their number."""
    return float(np.einsum("i,i->", weight, values))


def _from_requests(run: Run) -> Gauges:
    """Little's law: time spent in a state by all requests / window. A preempted request counts as running."""
    table, end = run.requests, run.window_s
    if np.isnan(table.admitted_s).all():
        return Gauges()
    here = ~table.refused
    waited = _until(table.admitted_s[here], end) - np.minimum(table.arrival_s[here], end)
    ran = _until(table.finish_s[here], end) - _until(table.admitted_s[here], end)
    return Gauges(running_mean=float(ran.sum()) / end, waiting_mean=float(waited.sum()) / end)


def _until(times_s: FloatArray, end_s: float) -> FloatArray:
    """The times, cut at the end; what never came is cut there too."""
    return np.fmin(times_s, end_s)
