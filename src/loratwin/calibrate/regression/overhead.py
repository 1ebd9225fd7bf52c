"""What a client waits beyond the engine, from client and step log of the same run; and what loads of adapters take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.evidence import Evidence
from loratwin.calibrate.robust import least_squares
from loratwin.records import Run

F8 = NDArray[np.float64]

_QUEUED = 0.2
"""Waiting requests per step from which on a first token's delay is the queue's, not the front end's."""

_FEWEST = 5
"""Requests of a run below which their mean is not taken."""


class FittedValue(NamedTuple):
    """A figure and its standard error; NaN where nothing tells it."""

    value: float
    error: float
    number: int


UNKNOWN = FittedValue(float("nan"), float("nan"), 0)


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
    delays = []
    answered = np.flatnonzero(~np.isnan(requests.first_token_s) & ~np.isnan(requests.sent_s))
    for i in answered:
        sent, first, prompt = requests.sent_s[i], requests.first_token_s[i], requests.prompt_tokens[i]
        low, high = np.searchsorted(start, sent), np.searchsorted(end, first, side="right")
        rows = low + np.flatnonzero(steps.prefill_tokens[low : max(low, high)] == prompt)
        if len(rows) == 1:
            at = int(rows[0])
            free = max(sent, end[low - 1]) if low else sent
            delays.append((start[at] - free) + (first - end[at]))
    return np.array(delays)


def fit_overhead(runs: Iterable[Run]) -> FittedValue:
    """Mean overhead of a first token: the mean of the runs, each run's being the mean of its requests."""
    means = [float(delays.mean()) for run in runs if len(delays := overheads_s(run)) >= _FEWEST]
    return _estimate(np.array(means))


def overhead_of(evidence: Evidence) -> FittedValue:
    """That of the logged runs whose client was in time; if there are none, of those that were late."""
    in_time = [run for name, run in sorted(evidence.logged.items()) if name in evidence.in_time]
    estimate = fit_overhead(in_time)
    return estimate if estimate.number else fit_overhead(evidence.logged.values())


def with_clients(logged: FittedValue, client_means: Iterable[float]) -> FittedValue:
    """An estimate and the means of further runs, each with the inverse of its squared error as weight.

    Of these the median counts: a run whose server stood still for a moment has a mean of hundreds of milliseconds.
    """
    values = np.array(list(client_means))
    if not len(values):
        return logged
    middle = float(np.median(values))
    around = 1.4826 * float(np.median(np.abs(values - middle)))
    error = 1.2533 * around / np.sqrt(len(values)) if around > 0 else abs(middle)
    middle = max(0.0, middle)
    if not logged.number:
        return FittedValue(middle, float(error), len(values))
    precision = np.array([1 / max(logged.error, 1e-6) ** 2, 1 / max(float(error), 1e-6) ** 2])
    value = float(precision @ np.array([logged.value, middle]) / precision.sum())
    return FittedValue(value, float(precision.sum() ** -0.5), logged.number + len(values))


class LoadTimes(NamedTuple):
    """Seconds of one load."""

    swap_in: FittedValue
    disk_load: FittedValue


def fit_loads(runs: Iterable[Run]) -> LoadTimes:
    """Time of a swap-in and of a load from disk, from the loads that steps waited for (non-negative least squares)."""
    rows = [
        np.column_stack([run.steps.load_s, run.steps.swap_ins, run.steps.disk_loads])[run.steps.load_s > 0]
        for run in runs
        if run.steps is not None and run.steps.load_s is not None
    ]
    table = np.concatenate(rows) if rows else np.empty((0, 3))
    if len(table) < 3:
        return LoadTimes(UNKNOWN, UNKNOWN)
    seconds, events = table[:, 0], table[:, 1:]
    values = least_squares(events, seconds, np.ones(len(table)))
    noise = float(np.std(seconds - events @ values))
    swap, disk = (
        FittedValue(float(value), noise / float(np.sqrt(number)), int(number)) if number else UNKNOWN
        for value, number in zip(values, events.sum(axis=0), strict=True)
    )
    return LoadTimes(swap, disk)


def _estimate(values: F8) -> FittedValue:
    if not len(values):
        return UNKNOWN
    error = float(values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float(values[0])
    return FittedValue(max(0.0, float(values.mean())), error, len(values))
