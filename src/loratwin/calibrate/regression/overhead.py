"""What a client waits beyond the engine, from client and step log of the same run; and what loads of adapters take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.records import Run

F8 = NDArray[np.float64]

_QUEUED = 0.2
"""Waiting requests per step from which on a first token's delay is the queue's, not the front end's."""


class Estimate(NamedTuple):
    """A figure and its standard error; NaN where nothing tells it."""

    value: float
    error: float
    number: int


def overheads_s(run: Run) -> F8:
    """Seconds that first tokens took beyond the engine, one for each request that is found in the step log.

    A request is found when exactly one step between its sending and its first token computed as many prompt tokens as
    it has. The engine would have begun with it when it was sent, or when the step then in progress ended; it began
    later by the way in. The way out is from the end of the step to the client.
    """
    steps, requests = run.steps, run.requests
    if steps is None or requests.sent_s is None or steps.waiting.mean() > _QUEUED:
        return np.empty(0)
    start, end = steps.start_s, steps.start_s + steps.duration_s
    found = []
    answered = np.flatnonzero(~np.isnan(requests.first_token_s) & ~np.isnan(requests.sent_s))
    for i in answered:
        sent, first, prompt = requests.sent_s[i], requests.first_token_s[i], requests.prompt_tokens[i]
        low, high = np.searchsorted(start, sent), np.searchsorted(end, first, side="right")
        rows = low + np.flatnonzero(steps.prefill_tokens[low : max(low, high)] == prompt)
        if len(rows) == 1:
            at = int(rows[0])
            free = max(sent, end[low - 1]) if low else sent
            found.append((start[at] - free) + (first - end[at]))
    return np.array(found)


def fit_overhead(runs: Iterable[Run]) -> Estimate:
    """Mean overhead of a first token: the mean of the runs, each run's being the mean of its requests."""
    means = [float(found.mean()) for run in runs if len(found := overheads_s(run)) >= 5]
    return _estimate(np.array(means))


class LoadTimes(NamedTuple):
    """Seconds of one load."""

    swap_in: Estimate
    disk_load: Estimate


def fit_loads(runs: Iterable[Run]) -> LoadTimes:
    """Time of a swap-in and of a load from disk, from the loads that steps waited for (non-negative least squares)."""
    from scipy.optimize import nnls

    rows = [
        np.column_stack([run.steps.load_s, run.steps.swap_ins, run.steps.disk_loads])[run.steps.load_s > 0]
        for run in runs
        if run.steps is not None and run.steps.load_s is not None
    ]
    table = np.concatenate(rows) if rows else np.empty((0, 3))
    none = Estimate(float("nan"), float("nan"), 0)
    if len(table) < 3:
        return LoadTimes(none, none)
    events = table[:, 1:]
    solution, _ = nnls(events, table[:, 0])
    noise = float(np.std(table[:, 0] - events @ solution))
    numbers = events.sum(axis=0)
    swap, disk = (
        Estimate(float(value), noise / float(np.sqrt(number)), int(number)) if number else none
        for value, number in zip(solution, numbers, strict=True)
    )
    return LoadTimes(swap, disk)


def _estimate(values: F8) -> Estimate:
    if not len(values):
        return Estimate(float("nan"), float("nan"), 0)
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float(values[0])
    return Estimate(max(0.0, float(values.mean())), error, len(values))
