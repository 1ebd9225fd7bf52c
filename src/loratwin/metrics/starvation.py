"""Does the server keep up? Two signs that it does not: tokens that never come, and a queue that keeps growing."""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt

import numpy as np

from loratwin.metrics.latency import finished
from loratwin.metrics.percentiles import percentiles
from loratwin.metrics.status import accepted
from loratwin.metrics.throughput import served_share
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, LongArray

STARVED_RATIO = 0.9
"""Tokens finished / tokens offered at or below which a run of an hour is starved (arXiv 2508.08343)."""

SLOW_TTFT_MS = 10e3
"""TTFT p99 from which a server that keeps up is said to be slow."""

GROWTH_SHARE = 0.01
"""A queue grows when it takes in at least this share of the arrivals ..."""

GROWTH_SIGMAS = 2.0
"""... and more than chance would: so many standard deviations of the number of arrivals (Poisson: its square root)."""

_SAMPLES = 240


@dataclass(frozen=True)
class Starvation:
    """The verdict and its reasons; of an hour `by_throughput` alone is the definition of arXiv 2508.08343."""

    ratio: float  # tokens finished / tokens offered; NaN when nothing was offered
    by_throughput: bool
    by_queue: bool

    @property
    def starved(self) -> bool:
        """Either sign."""
        return self.by_throughput or self.by_queue

    @property
    def reason(self) -> str:
        """The signs in words; empty when the server keeps up."""
        signs = {"throughput": self.by_throughput, "growing queue": self.by_queue}
        return " and ".join(sign for sign, seen in signs.items() if seen)


def starvation(run: Run) -> Starvation:
    """The verdict on a whole run.

    Tokens that never come are a sign only where some request is `missing`: in a window that is short beside a request
    more than a tenth of what was offered is still on its way at the end, on a server that does nothing else.
    """
    ratio = served_share(run)
    lost = ratio <= STARVED_RATIO and bool(missing(run).any())
    return Starvation(ratio, by_throughput=lost, by_queue=queue_grows(run))


def missing(run: Run) -> BoolArray:
    """Requests that should have finished by the end of the window and did not: refused, or left behind.

    Left behind is who arrived longer ago than a tenth of the window (1 - `STARVED_RATIO`: where requests keep arriving,
    a lag of so much is what takes a tenth of the tokens), and longer ago than 99 % of the finished requests needed from
    admission to finish. Younger ones may still be on their way.
    """
    table = run.requests
    done = finished(run)
    needed_s = _needed_s(run)[done]
    needed_s = needed_s[~np.isnan(needed_s)]
    usual_s = percentiles(needed_s, (99,))[0] if len(needed_s) else 0.0
    patience_s = max((1 - STARVED_RATIO) * run.window_s, usual_s)
    left_behind: BoolArray = ~done & (table.refused | (table.arrival_s < run.window_s - patience_s))
    return left_behind


def _needed_s(run: Run) -> FloatArray:
    """From admission to finish; at a client, which knows no admission, after the shortest wait for a first token."""
    table = run.requests
    if not np.isnan(table.admitted_s).all():
        return table.finish_s - table.admitted_s
    waits_s = table.first_token_s - table.arrival_s
    return table.finish_s - table.first_token_s + (np.nanmin(waits_s) if (~np.isnan(waits_s)).any() else 0.0)


def _admitted_s(run: Run) -> FloatArray:
    """When each request was admitted; a run measured at a client does not know: there the first token stands for it."""
    table = run.requests
    return table.first_token_s if np.isnan(table.admitted_s).all() else table.admitted_s


def is_slow(ttft_p99_ms: float) -> bool:
    """Whether a server that keeps up lets its customers wait so long that "not starved" would mislead."""
    return ttft_p99_ms >= SLOW_TTFT_MS


def queue_grows(run: Run) -> bool:
    """Whether the number of waiting requests keeps growing.

    The mean queue is taken over the second, third and fourth quarter of the window (the first is warm-up). It grows
    when each is longer than the one before, and from the second to the fourth quarter (half a window apart) it took in
    at least `GROWTH_SHARE` of the requests that arrive in half a window, and more than `GROWTH_SIGMAS` times the square
    root of that number. A queue at an honest 95 % load, long but steady, does not; a burst that is over does not.
    """
    _, second, third, fourth = waiting_over_time(run).reshape(4, -1).mean(axis=1)
    arrivals = len(run.requests) / 2
    least = max(GROWTH_SHARE * arrivals, GROWTH_SIGMAS * sqrt(arrivals))
    return bool(second < third < fourth and fourth - second > least)


def waiting_over_time(run: Run) -> FloatArray:
    """Requests waiting (arrived, not refused, not yet admitted) at the ends of 240 equal parts of the window.

    A run measured at a client does not know how long a request waited that failed in the end: failed ones are left out.
    """
    table, here = run.requests, accepted(run)
    ends_s: FloatArray = run.window_s / _SAMPLES * np.arange(1, _SAMPLES + 1, dtype=np.float64)
    came = table.arrival_s[np.flatnonzero(here)]
    admitted = _admitted_s(run)
    admitted = admitted[np.flatnonzero((admitted < run.window_s) & here)]
    waiting: FloatArray = (np.searchsorted(came, ends_s) - _before(admitted, ends_s)).astype(np.float64)
    return waiting


def _before(times_s: FloatArray, ends_s: FloatArray) -> LongArray:
    """How many times lie before each of the equally spaced ends: as a search in the sorted times, without sorting."""
    part = np.clip(times_s * (len(ends_s) / ends_s[-1]), 0, len(ends_s)).astype(np.int64)  # to rounding
    edges_s = np.concatenate([[-np.inf], ends_s, [np.inf]])
    part += edges_s[part + 1] <= times_s
    part -= edges_s[part] > times_s
    counts: LongArray = np.cumsum(np.bincount(part, minlength=len(ends_s))[: len(ends_s)]).astype(np.int64)
    return counts
