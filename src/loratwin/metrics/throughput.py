"""Tokens and requests per second of the window."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from loratwin.errors import UnknownNameError
from loratwin.metrics.latency import Side, e2e_s, finished, finished_only, tpot_s, ttft_s
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray


class TokenRates(NamedTuple):
    """Tokens per second."""

    input: float
    output: float

    @property
    def total(self) -> float:
        """Input and output."""
        return self.input + self.output


def throughput(run: Run) -> TokenRates:
    """Tokens of requests finished in the window / window."""
    return _per_second(_tokens(run, finished(run)), run.window_s)


def offered(run: Run) -> TokenRates:
    """Tokens of requests that arrived in the window / window; refused ones were offered too."""
    return _per_second(_tokens(run, _arrived(run)), run.window_s)


def served_share(run: Run) -> float:
    """Tokens finished in the window / tokens offered in it; NaN when nothing was offered."""
    asked = sum(_tokens(run, _arrived(run)))
    return sum(_tokens(run, finished(run))) / asked if asked else float("nan")


def goodput(run: Run, limits_s: Mapping[str, float], side: Side = "client") -> float:
    """Requests per second that finished in the window and kept within every limit.

    Parameters
    ----------
    limits_s
        Seconds for any of `ttft`, `tpot`, `e2e`. A request of one token has no TPOT to miss.

    Raises
    ------
    UnknownNameError
        Another name.
    """
    return float(within(finished_only(run), limits_s, side).sum()) / run.window_s


def within(run: Run, limits_s: Mapping[str, float], side: Side = "client") -> BoolArray:
    """Requests of which no latency is above its limit; one that never finished misses none. Shape (num_requests,).

    Raises
    ------
    UnknownNameError
        As `goodput`.
    """
    good = np.ones(len(run.requests), dtype=bool)
    for metric, limit_s in limits_s.items():
        good &= ~(_latency(run, metric, side) > limit_s)
    return good


def _latency(run: Run, metric: str, side: Side) -> FloatArray:
    if metric == "tpot":
        return tpot_s(run)
    known = {"ttft": ttft_s, "e2e": e2e_s}
    if metric not in known:
        raise UnknownNameError("latency of a request", metric, [*known, "tpot"])
    return known[metric](run, side)


def _arrived(run: Run) -> slice:
    return slice(int(np.searchsorted(run.requests.arrival_s, run.window_s)))


def _tokens(run: Run, rows: BoolArray | slice) -> tuple[int, int]:
    """Prompt and output tokens of some requests."""
    prompt, output = run.requests.prompt_tokens[rows], run.requests.output_tokens[rows]
    return int(prompt.sum(dtype=np.int64)), int(output.sum(dtype=np.int64))


def _per_second(tokens: tuple[int, int], window_s: float) -> TokenRates:
    return TokenRates(tokens[0] / window_s, tokens[1] / window_s)
