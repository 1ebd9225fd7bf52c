"""Can a client's run be trusted? Reasons why not, each with its figures.

A load test that did not do what it was asked to do must not look like a result: runs without a single token have been
reported as successes (srt-slurm issue 429), and clients that send a half of what was asked for say nothing.
"""

from __future__ import annotations

import numpy as np

from loratwin.formatting import seconds
from loratwin.metrics.client import failures_by_kind, lag_s, received_tokens, wrong_length
from loratwin.metrics.latency import finished, ttft_s
from loratwin.metrics.status import failed, never_sent, sent
from loratwin.records import Run, Samples, Series

LAG_LEAST_S = 0.005
"""A 99th percentile of the send lag below this distorts nothing that a user would feel ..."""

LAG_SHARE = 0.05
"""... nor does one below this share of the median TTFT, which is then the larger part of what a user waits for."""

RATE_SHORTFALL = 0.01
"""Share of the requests due in the window that may be sent too late for it: as much as the Poisson noise of 10,000."""

FAILED_SHARE = 0.01
"""Share of the requests that may fail. Who fails waits for ever: above it, their p99 would be infinite."""

WRONG_LENGTH_SHARE = 0.01
"""Share of the finished requests that may have another length than asked for; throughput is off by as much."""

UNHEEDED = "ignore_eos unheeded"
"""Among the fields that a server refused: it took this one, and its answers end early all the same (Ollama)."""

LENGTHS_AS_THEY_COME = frozenset({"min_tokens", UNHEEDED})
"""One of them among the fields that a server refused: nothing controls how long its answers are."""


def validity(run: Run) -> tuple[str, ...]:
    """Reasons to mark a measured run invalid; empty: its figures may be trusted.

    A run to which nothing was ever to be sent is valid, and says nothing.
    """
    if not len(run.requests):
        return ()
    checks = (_lag(run), _never_sent(run), _rate(run), _failed(run), _nothing(run), _wrong_length(run))
    return (*(reason for reason in checks if reason), *_restarts(run))


def _lag(run: Run) -> str:
    lag = lag_s(run)
    lag = lag[~np.isnan(lag)]
    if not len(lag):
        return ""
    p99 = float(np.percentile(lag, 99))
    ttft = ttft_s(run)[finished(run)]
    median_ttft = float(np.median(ttft)) if len(ttft) else 0.0
    limit = max(LAG_LEAST_S, LAG_SHARE * median_ttft)
    if p99 <= limit:
        return ""
    return (
        f"the client fell behind its schedule: send lag p99 {seconds(p99)}, above {seconds(limit)} "
        f"(the larger of {seconds(LAG_LEAST_S)} and {LAG_SHARE:.0%} of the median TTFT, {seconds(median_ttft)})"
    )


def _never_sent(run: Run) -> str:
    """None may be left out in silence: what is measured is then another workload. The last few milliseconds may end."""
    left_out, scheduled_s = never_sent(run), run.requests.scheduled_s
    if scheduled_s is not None:
        left_out &= ~(scheduled_s > run.window_s - LAG_LEAST_S)
    left = int(np.count_nonzero(left_out))
    return f"{left:,} of {len(run.requests):,} requests were never sent" if left else ""


def _rate(run: Run) -> str:
    table = run.requests
    if table.scheduled_s is None or table.sent_s is None:
        return ""
    due = int(np.count_nonzero(table.scheduled_s < run.window_s))
    came = int(np.count_nonzero(table.sent_s < run.window_s))
    if came >= (1 - RATE_SHORTFALL) * due:
        return ""
    return (
        f"{came / run.window_s:.4g} requests/s were sent, {due / run.window_s:.4g} were scheduled: "
        f"{1 - came / due:.1%} short, above {RATE_SHORTFALL:.0%}"
    )


def _failed(run: Run) -> str:
    num = int(np.count_nonzero(failed(run)))
    share = num / len(run.requests)
    if share <= FAILED_SHARE:
        return ""
    kinds = ", ".join(f"{kind}: {count:,}" for kind, count in failures_by_kind(run)[:3])
    return f"{num:,} of {len(run.requests):,} requests failed ({share:.1%}, above {FAILED_SHARE:.0%}; {kinds})"


def _nothing(run: Run) -> str:
    num_sent, done = int(np.count_nonzero(sent(run))), finished(run)
    if num_sent and not done.any():
        return f"none of {num_sent:,} sent requests finished in the window of {run.window_s:g} s"
    if done.any() and (received_tokens(run) == 0 or not run.requests.output_tokens[done].any()):
        return f"not one output token of {int(done.sum()):,} finished requests reached the client"
    return ""


def _wrong_length(run: Run) -> str:
    if not LENGTHS_AS_THEY_COME.isdisjoint(run.provenance.left_out):  # the record says so
        return ""
    num, done = int(np.count_nonzero(wrong_length(run))), int(np.count_nonzero(finished(run)))
    if num <= WRONG_LENGTH_SHARE * done:
        return ""
    return (
        f"{num:,} of {done:,} finished requests have another number of tokens than asked for "
        f"({num / done:.1%}, above {WRONG_LENGTH_SHARE:.0%})"
    )


def ended_early(run: Run) -> tuple[int, int]:
    """Requests that finished in the window with fewer output tokens than asked for, and all that finished.

    (0, 0) where so few of them are short, or as some are long, that it is not how the server treats answers.
    """
    asked, done = run.requests.asked_tokens, finished(run)
    if asked is None:
        return 0, 0
    more = run.requests.output_tokens.astype(np.int64) - asked
    short, num = int(np.count_nonzero(done & (more < 0))), int(np.count_nonzero(done))
    return (0, 0) if short <= WRONG_LENGTH_SHARE * num or (done & (more > 0)).any() else (short, num)


def _restarts(run: Run) -> list[str]:
    """A server that started anew while it was measured: its start time changed, or its counters began again."""
    sources = [source for source in run.samples if source.source != "gpu"]
    return [reason for source in sources if (reason := _restart(source))]


def _restart(source: Samples) -> str:
    for one in source.series:
        starts = one.name == "process_start_time_seconds"
        at = _first_change(one, down_only=not starts) if starts or one.name.endswith("_total") else None
        if at is not None:
            what = "start time changed" if starts else f"counter {one.name} fell"
            return f"the server was restarted: its {what} at {source.time_s[at]:.4g} s"
    return ""


def _first_change(one: Series, down_only: bool) -> int | None:
    """Sample at which the value fell (or changed at all) against the last that is known."""
    known = np.flatnonzero(~np.isnan(one.values))
    step = np.diff(one.values[known])
    changed = np.flatnonzero(step < 0 if down_only else step != 0)
    return int(known[changed[0] + 1]) if len(changed) else None
