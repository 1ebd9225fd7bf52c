"""What a client knows beyond the headline figures: what became of its requests, how late it sent them, what arrived.

A client that falls behind its schedule measures a gentler load than it was asked for, and shorter latencies than its
users would have seen (coordinated omission). So the lag stands beside the figures, and latencies are also given from
the instant at which a request was to be sent.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from loratwin.metrics.concurrency import in_flight
from loratwin.metrics.latency import finished
from loratwin.metrics.status import censored, failed, never_sent, sent
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray

NAN = float("nan")


@dataclass(frozen=True)
class ClientFigures:
    """Counts over all requests of a run, and what only its client could see; undefined is NaN.

    finished + refused + failed + censored + never_sent = requests. A simulated run has no schedule, no failures and no
    record of single deliveries; what it lacks is NaN.
    """

    requests: int  # that were to be sent in the window
    sent: int
    finished: int  # in the window
    refused: int
    failed: int
    censored: int  # sent, and cut off by the end of the window
    never_sent: int
    wrong_length: int  # finished with another number of tokens than asked for
    in_flight_mean: float
    in_flight_max: int
    delivered_throughput: float  # output tokens per second that reached the client, of unfinished requests too
    scheduled_rate: float  # requests per second that were to be sent in the window
    sent_rate: float  # that were sent in it
    lag_mean_ms: float  # sent - scheduled
    lag_median_ms: float
    lag_p99_ms: float
    lag_max_ms: float
    scheduled_ttft_mean_ms: float  # first token - scheduled, of requests finished in the window
    scheduled_ttft_median_ms: float
    scheduled_ttft_p99_ms: float
    scheduled_e2e_mean_ms: float  # finish - scheduled
    scheduled_e2e_median_ms: float
    scheduled_e2e_p99_ms: float


def client_figures(run: Run) -> ClientFigures:
    """All of them."""
    flight = in_flight(run)
    return ClientFigures(
        requests=len(run.requests),
        **{name: int(np.count_nonzero(which)) for name, which in _by_status(run).items()},
        wrong_length=int(np.count_nonzero(wrong_length(run))),
        in_flight_mean=flight.mean,
        in_flight_max=flight.peak,
        delivered_throughput=received_tokens(run) / run.window_s,
        **_rates(run),
        **_timings_ms(run),
    )


def _by_status(run: Run) -> dict[str, BoolArray]:
    return {
        "sent": sent(run),
        "finished": finished(run),
        "refused": run.requests.refused,
        "failed": failed(run) & ~run.requests.refused,
        "censored": censored(run),
        "never_sent": never_sent(run),
    }


def wrong_length(run: Run) -> BoolArray:
    """Requests that finished in the window with another number of output tokens than asked. Shape (num_requests,)."""
    asked = run.requests.asked_tokens
    if asked is None:
        return np.zeros(len(run.requests), dtype=bool)
    differs: BoolArray = finished(run) & (run.requests.output_tokens != asked)
    return differs


def received_tokens(run: Run) -> float:
    """Output tokens that reached the client within the window; NaN where nobody counted."""
    if run.requests.received_tokens is not None:
        return float(run.requests.received_tokens.sum(dtype=np.int64))
    if run.deliveries is not None:
        return float(run.deliveries.output_tokens[run.deliveries.end_s <= run.window_s].sum())
    return NAN


def lag_s(run: Run) -> FloatArray:
    """Sent - scheduled; NaN where either is unknown. Shape (num_requests,)."""
    if run.requests.sent_s is None or run.requests.scheduled_s is None:
        return np.full(len(run.requests), np.nan)
    lag: FloatArray = run.requests.sent_s - run.requests.scheduled_s
    return lag


def failures_by_kind(run: Run) -> tuple[tuple[str, int], ...]:
    """Each kind of failure that occurred, and how many requests it took; the most frequent first."""
    if run.requests.failure is None:
        return ()
    kinds = run.requests.failure[run.requests.failure >= 0]
    counts = np.bincount(kinds, minlength=len(run.failures))
    order = np.argsort(-counts, kind="stable")
    return tuple((run.failures[i], int(counts[i])) for i in order if counts[i])


def _rates(run: Run) -> dict[str, Any]:
    table = run.requests
    sent_s = table.arrival_s if table.sent_s is None else table.sent_s
    return {
        "scheduled_rate": NAN if table.scheduled_s is None else _per_second(table.scheduled_s, run.window_s),
        "sent_rate": _per_second(sent_s, run.window_s),
    }


def _per_second(times_s: FloatArray, window_s: float) -> float:
    return int(np.count_nonzero(times_s < window_s)) / window_s  # NaN is not below


def _timings_ms(run: Run) -> dict[str, Any]:
    table, done = run.requests, finished(run)
    unknown = np.full(len(table), np.nan)
    scheduled_s = unknown if table.scheduled_s is None else table.scheduled_s
    columns = {
        "lag": lag_s(run),
        "scheduled_ttft": np.where(done, table.first_token_s - scheduled_s, np.nan),
        "scheduled_e2e": np.where(done, table.finish_s - scheduled_s, np.nan),
    }
    seconds = {f"{name}_{key}": value for name, column in columns.items() for key, value in _figures(column).items()}
    return {name: seconds[name.removesuffix("_ms")] * 1e3 for name in _TIMINGS}


_TIMINGS = [item.name for item in fields(ClientFigures) if item.name.endswith("_ms")]


def _figures(values: FloatArray) -> dict[str, float]:
    known = values[~np.isnan(values)]
    if not len(known):
        return dict.fromkeys(("mean", "median", "p99", "max"), NAN)
    median, p99, most = np.percentile(known, (50, 99, 100)).tolist()
    return {"mean": float(known.mean()), "median": median, "p99": p99, "max": most}
