"""Requests in flight: exactly, from the moments at which each begins and ends.

Counting the requests that touch a bucket of a second, as `vllm bench serve` does, has shown 111 where 16 were in flight
(vLLM issue 56653).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loratwin.metrics.status import sent
from loratwin.records import Run
from loratwin.records.columns import FloatArray, LongArray


@dataclass(frozen=True, eq=False)
class InFlight:
    """A staircase: `count[i]` requests are in flight from `time_s[i]` to the next, none before the first."""

    time_s: FloatArray  # ascending; several changes at one time are several steps, of which the last counts
    count: LongArray
    window_s: float

    @property
    def peak(self) -> int:
        """The most at any time in [0, window_s)."""
        return int(self.count[self.time_s < self.window_s].max(initial=0))

    @property
    def mean(self) -> float:
        """Over the window, weighted by time."""
        return float(self.means(np.array([0.0, self.window_s]))[0])

    def means(self, edges_s: FloatArray) -> FloatArray:
        """Mean between each two neighbours of `edges_s`, weighted by time. Shape (len(edges_s) - 1,)."""
        if not len(self.time_s):
            return np.zeros(len(edges_s) - 1)
        area = np.concatenate([[0.0], np.cumsum(self.count[:-1] * np.diff(self.time_s))])
        tail = self.count[-1] * np.maximum(edges_s - self.time_s[-1], 0)
        means: FloatArray = np.diff(np.interp(edges_s, self.time_s, area) + tail) / np.diff(edges_s)
        return means


def in_flight(run: Run) -> InFlight:
    """Requests between their sending and their end, as `spans_s` has them."""
    return _staircase(*spans_s(run), run.window_s)


def awaiting_first_token(run: Run) -> InFlight:
    """Requests between their sending and their first token: whoever looks at an empty answer."""
    start_s, end_s, first_token_s = *spans_s(run), run.requests.first_token_s[_begun(run)]
    return _staircase(start_s, np.fmin(first_token_s, end_s), run.window_s)


def spans_s(run: Run) -> tuple[FloatArray, FloatArray]:
    """Begin and end of each request that was sent and not refused, in seconds.

    It begins when it was sent (simulated: when it arrived) and ends when it finished or failed. A failed one that says
    not when ends with the last that was seen of it; one that nothing ended, with the window.
    """
    table, which = run.requests, _begun(run)
    start_s = (table.arrival_s if table.sent_s is None else table.sent_s)[which]
    finish_s = table.finish_s[which]
    end_s = np.where(np.isnan(finish_s), run.window_s, finish_s)
    if table.failure is not None:
        lost = (table.failure[which] >= 0) & np.isnan(finish_s)
        end_s = np.where(lost, np.fmax(start_s, table.first_token_s[which]), end_s)
    return start_s, np.maximum(start_s, end_s)


def _begun(run: Run) -> LongArray:
    return np.flatnonzero(sent(run) & ~run.requests.refused)


def _staircase(start_s: FloatArray, end_s: FloatArray, window_s: float) -> InFlight:
    """Where one ends as another starts, the two were never in flight together."""
    time_s = np.concatenate([end_s, start_s])  # ends first: the sort is stable
    change = np.concatenate([np.full(len(end_s), -1), np.ones(len(start_s), dtype=np.int64)])
    empty = np.concatenate([end_s <= start_s] * 2)  # would count -1 first
    order = np.argsort(time_s[~empty], kind="stable")
    return InFlight(time_s[~empty][order], np.cumsum(change[~empty][order]), window_s)
