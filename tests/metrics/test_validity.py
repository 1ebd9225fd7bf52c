"""Reasons not to trust a client's run: each is found, says its figures, and a good run has none."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loratwin.metrics import validity
from loratwin.records import Run, Samples, Series
from tests.metrics.runs import make_run

N = 1000


def good(**changes: Any) -> Run:
    """1,000 requests in 10 s: sent 1 ms late, first token after 0.1 s, finished after 0.5 s, as long as asked for."""
    due = np.arange(N) / N * 9.4
    lists: dict[str, Any] = {
        "scheduled": due,
        "sent": due + 0.001,
        "first": due + 0.101,
        "finish": due + 0.501,
        "output": np.full(N, 5),
        "asked": np.full(N, 5),
        "received": np.full(N, 5),
        "failure": np.full(N, -1),
    }
    lists.update(changes)
    return make_run(due.tolist(), failures=("HTTP 500", "timeout"), kind="measured", **lists)


def some(values: Any, share: float, other: Any) -> Any:
    """The values, the first of them replaced."""
    changed = np.array(values, dtype=float if isinstance(other, float) else int)
    changed[: round(share * N)] = other
    return changed


def test_a_good_run_has_none() -> None:
    assert validity(good()) == ()
    assert validity(make_run([], kind="measured")) == ()


DUE = np.arange(N) / N * 9.4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sent": DUE + 0.02}, ("behind its schedule", "p99 20 ms", "above 5 ms", "median TTFT, 81 ms")),
        ({"sent": some(DUE + 0.001, 0.002, np.nan)}, ("2 of 1,000 requests were never sent",)),
        ({"sent": np.where(DUE > 9.2, 10.5, DUE)}, ("97.9 requests/s were sent, 100 were scheduled: 2.1% short",)),
        ({"failure": some(np.full(N, -1), 0.02, 1)}, ("20 of 1,000 requests failed (2.0%, above 1%; timeout: 20)",)),
        ({"finish": np.full(N, np.nan)}, ("none of 1,000 sent requests finished in the window of 10 s",)),
        ({"received": np.zeros(N)}, ("not one output token of 1,000 finished requests",)),
        ({"output": some(np.full(N, 5), 0.02, 4)}, ("20 of 1,000 finished requests have another number of tokens",)),
    ],
)
def test_each_reason_is_found_with_its_figures(changes: dict[str, Any], words: tuple[str, ...]) -> None:
    changes = {name: value.astype(int) if name in ("received",) else value for name, value in changes.items()}
    found = validity(good(**changes))
    assert found
    assert any(all(word in reason for word in words) for reason in found), found


def test_a_tolerable_share_is_tolerated() -> None:
    assert validity(good(failure=some(np.full(N, -1), 0.01, 0))) == ()
    assert validity(good(output=some(np.full(N, 5), 0.01, 4))) == ()
    assert validity(good(sent=some(DUE + 0.001, 0.009, 9.9))) == ()  # nine are very late: the 99th of 100 is not


def test_the_lag_is_measured_by_what_users_wait_for() -> None:
    slow = {"sent": DUE + 0.02, "first": DUE + 0.5, "finish": DUE + 0.52}
    assert validity(good(**slow)) == ()  # 20 ms of 480


def test_what_was_due_in_the_last_milliseconds_may_be_left_out() -> None:
    last = np.zeros(N, dtype=bool)
    last[-1] = True
    due = np.where(last, 9.999, DUE)
    run = good(scheduled=due, sent=np.where(last, np.nan, DUE), finish=np.where(last, np.nan, DUE + 0.5))
    assert validity(run) == ()
    assert validity(replace(run, requests=replace(run.requests, scheduled_s=DUE))) != ()


def with_series(name: str, values: list[float], source: str = "server") -> Run:
    time_s = np.arange(len(values), dtype=float)
    return replace(good(), samples=(Samples(source, time_s, (Series(name, (), np.array(values)),)),))


def test_a_server_that_was_restarted() -> None:
    (reason,) = validity(with_series("process_start_time_seconds", [7.0, np.nan, 7.0, 9.0]))
    assert reason == "the server was restarted: its start time changed at 3 s"
    (reason,) = validity(with_series("vllm:prompt_tokens_total", [7.0, 8.0, np.nan, 0.0, 3.0]))
    assert reason == "the server was restarted: its counter vllm:prompt_tokens_total fell at 3 s"
    assert validity(with_series("vllm:prompt_tokens_total", [7.0, 8.0, np.nan, 8.0])) == ()
    assert validity(with_series("vllm:num_requests_running", [7.0, 0.0])) == ()  # a gauge may
    assert validity(with_series("energy_total", [7.0, 0.0], source="gpu")) == ()
