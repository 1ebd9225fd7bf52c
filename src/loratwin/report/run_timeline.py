"""Runs over time: requests, tokens, and the engine's steps where they were logged."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from loratwin.metrics import awaiting_first_token, in_flight
from loratwin.metrics.latency import finished_only
from loratwin.records import Run
from loratwin.records.columns import FloatArray
from loratwin.report.looks import Look
from loratwin.report.run_axes import edges_s, equal_parts_s, middles, over_time
from loratwin.simulate import time_series

Line = tuple[FloatArray, FloatArray]


def timeline(shown: Sequence[Look]) -> list[str]:
    """Requests in flight and without a first token, output tokens, and arrivals, over the window."""
    edges = edges_s(shown)
    panels: list[tuple[str, str, Callable[[Run], FloatArray]]] = [
        ("in-flight", "Requests in flight", lambda run: in_flight(run).means(edges)),
        ("no-token", "Requests without a first token", lambda run: awaiting_first_token(run).means(edges)),
        ("tokens", "Output tokens/s", lambda run: output_tokens_per_s(run, edges)),
        ("arrivals", "Requests sent/s", lambda run: _sent_per_s(run, edges)),
    ]
    return [
        over_time(name, title, [(look, middles(edges), values(look.run)) for look in shown])
        for name, title, values in panels
    ]


def output_tokens_per_s(run: Run, edges: FloatArray) -> FloatArray:
    """Output tokens in each part: as delivered, else as the steps emitted them, else spread over each request.

    The last knows finished requests only: from first token to finish, evenly.
    """
    if run.deliveries is not None:
        ends = np.concatenate([[0.0], run.deliveries.end_s])
        so_far = np.concatenate([[0], np.cumsum(run.deliveries.output_tokens)])
    elif run.steps is not None and len(run.steps):
        ends, so_far = _emitted(run)
    else:
        ends, so_far = _spread(run)
    rates: FloatArray = np.diff(np.interp(edges, ends, so_far)) / np.diff(edges)
    return rates


def _emitted(run: Run) -> Line:
    """Cumulative tokens at 0 and the ends of steps: one for each decode request, and the first tokens."""
    assert run.steps is not None
    ends = run.steps.start_s + run.steps.duration_s
    firsts = np.sort(run.requests.first_token_s[~np.isnan(run.requests.first_token_s)])
    so_far = np.cumsum(run.steps.decode_requests) + np.searchsorted(firsts, ends, side="right")
    return np.concatenate([[0.0], ends]), np.concatenate([[0.0], so_far])


def _spread(run: Run) -> Line:
    """Cumulative tokens as a line that bends where requests begin and finish."""
    done = finished_only(run).requests
    first, finish = done.first_token_s, np.maximum(done.finish_s, done.first_token_s + 1e-9)
    slope = done.output_tokens / (finish - first)
    time_s = np.concatenate([[0.0], first, finish])
    change = np.concatenate([[0.0], slope, -slope])
    order = np.argsort(time_s, kind="stable")
    rates = np.cumsum(change[order])[:-1]
    return time_s[order], np.concatenate([[0.0], np.cumsum(rates * np.diff(time_s[order]))])


def _sent_per_s(run: Run, edges: FloatArray) -> FloatArray:
    sent_s = run.requests.arrival_s if run.requests.sent_s is None else run.requests.sent_s
    rates: FloatArray = np.histogram(sent_s[~np.isnan(sent_s)], bins=edges)[0] / np.diff(edges)
    return rates


def steps(shown: Sequence[Look]) -> list[str]:
    """The engine's steps, where they were logged: batch, adapters, swap-ins, KV memory, and how long a step takes."""
    logged = [look for look in shown if look.run.steps is not None and len(look.run.steps)]
    if not logged:
        return []
    series = {id(look): time_series(look.run, _num_parts(look.run)) for look in logged}
    panels: list[tuple[str, str, Callable[[Look], FloatArray]]] = [
        ("step-running", "Requests in the batch", lambda look: series[id(look)].running),
        ("step-waiting", "Requests in the engine's queue", lambda look: series[id(look)].waiting),
        ("step-adapters", "Distinct adapters in the batch", lambda look: series[id(look)].distinct_adapters),
        ("step-swaps", "Swap-ins/s", lambda look: series[id(look)].swap_ins_per_s),
        ("step-kv", "KV memory in use, %", lambda look: 100 * series[id(look)].kv_usage),
        ("step-time", "Duration of a step, ms", lambda look: 1e3 * _step_time(look.run)),
    ]
    drawn = [
        (name, title, [(look, middles(_edges(look.run)), value(look)) for look in logged])
        for name, title, value in panels
    ]
    return [
        over_time(name, title, lines) for name, title, lines in drawn if not all(np.isnan(y).all() for _, _, y in lines)
    ]


def _num_parts(run: Run) -> int:
    return len(_edges(run)) - 1


def _edges(run: Run) -> FloatArray:
    return equal_parts_s(run.window_s)


def _step_time(run: Run) -> FloatArray:
    """Mean duration of the steps that begin in each part; NaN where the engine was idle all along."""
    assert run.steps is not None
    total, _ = np.histogram(run.steps.start_s, bins=_edges(run), weights=run.steps.duration_s)
    count, _ = np.histogram(run.steps.start_s, bins=_edges(run))
    mean: FloatArray = np.divide(total, count, out=np.full(len(count), np.nan), where=count > 0)
    return mean
