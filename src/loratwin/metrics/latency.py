"""Latencies of single requests, each one formula over the time points of a run.

Every function returns seconds, shape (num_requests,), NaN where the request never came so far. Which requests count in
a figure is `finished`: those that finished within the window, as a client that stops at its end would see.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import numpy as np

from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray

Side = Literal["client", "engine"]
"""Where a latency is seen: by the client that sent the request, or by the engine that it arrived at."""


def finished(run: Run) -> BoolArray:
    """Requests that finished within the window: the only ones in throughput and latencies. Shape (num_requests,).

    A request that failed has not finished, though its `finish_s` may say when it failed.
    """
    in_window: BoolArray = run.requests.finish_s <= run.window_s  # False for NaN
    return in_window if run.requests.failure is None else in_window & (run.requests.failure < 0)


def finished_only(run: Run) -> Run:
    """The run with only those requests: its latencies are the ones that count."""
    return only_of(run, finished(run))


def only_of(run: Run, which: BoolArray) -> Run:
    """The run with only these requests, for their latencies (what they shared is left out)."""
    return replace(run, requests=run.requests.take(which), sharing=None)


def ttft_s(run: Run, side: Side = "client") -> FloatArray:
    """Time to first token: first token - sent (client), or - arrival (engine).

    A simulated run has no client: there the client's is the engine's plus `client_overhead_s`.
    """
    return _since_start(run, run.requests.first_token_s, side)


def e2e_s(run: Run, side: Side = "client") -> FloatArray:
    """End to end: finish - sent (client), or - arrival (engine)."""
    return _since_start(run, run.requests.finish_s, side)


def tpot_s(run: Run) -> FloatArray:
    """Time per output token: (finish - first token) / (output tokens - 1); undefined (NaN) for one token."""
    gaps = np.where(run.requests.output_tokens > 1, run.requests.output_tokens - 1, np.nan)
    per_token: FloatArray = (run.requests.finish_s - run.requests.first_token_s) / gaps
    return per_token


def queueing_s(run: Run) -> FloatArray:
    """Queueing delay: admitted - arrival."""
    delay: FloatArray = run.requests.admitted_s - run.requests.arrival_s
    return delay


def _since_start(run: Run, end_s: FloatArray, side: Side) -> FloatArray:
    if side == "client" and run.requests.sent_s is not None:
        return end_s - run.requests.sent_s
    overhead_s = run.client_overhead_s if side == "client" else 0.0
    return end_s - run.requests.arrival_s + overhead_s
