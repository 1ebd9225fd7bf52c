"""What a client knows beyond the headline figures: counted by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from loratwin.metrics import (
    censored,
    client_figures,
    client_per_adapter,
    failed,
    failures_by_kind,
    goodput,
    never_sent,
    parse_slo,
    queue_grows,
    sent,
    summarize,
)
from loratwin.metrics.latency import finished
from loratwin.records import DeliverySeries, GapHistogram, Run
from tests.metrics.runs import NEVER, make_run

# finished | finished short | censored | HTTP 500 | cut off at 6 | refused | never sent | finished after the window
RUN = make_run(
    [0.5, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    scheduled=[0.5, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0],
    sent=[0.5, 1.5, 2.0, 3.0, 4.0, 5.0, NEVER, 7.0],
    first=[1.5, 2.5, 4.0, NEVER, 5.0, NEVER, NEVER, 9.0],
    finish=[3.5, 3.5, NEVER, NEVER, 6.0, NEVER, NEVER, 11.0],
    output=[3, 2, 9, 9, 9, 9, 9, 9],
    asked=[3, 9, 8, 9, 9, 9, 9, 9],
    received=[3, 2, 4, 0, 1, 0, 0, 5],
    refused=[False] * 5 + [True] + [False] * 2,
    failure=[-1, -1, -1, 1, 0, -1, -1, -1],
    failures=("stream cut off", "HTTP 500"),
    adapter=[0, 1, 1, 0, 1, 0, 0, -1],
    kind="measured",
)


def test_every_request_is_exactly_one_thing() -> None:
    statuses = [finished(RUN), RUN.requests.refused, failed(RUN), never_sent(RUN), censored(RUN)]
    assert np.stack(statuses).sum(axis=0).tolist() == [1] * 8
    assert [np.flatnonzero(status).tolist() for status in statuses] == [[0, 1], [5], [3, 4], [6], [2, 7]]
    assert np.flatnonzero(~sent(RUN)).tolist() == [6]


def test_counts_rates_and_tokens() -> None:
    found = client_figures(RUN)
    assert (found.requests, found.sent, found.finished, found.refused) == (8, 7, 2, 1)
    assert (found.failed, found.censored, found.never_sent, found.wrong_length) == (2, 2, 1, 1)
    assert (found.scheduled_rate, found.sent_rate) == (0.8, 0.7)
    assert found.delivered_throughput == pytest.approx(1.5)
    assert failures_by_kind(RUN) == (("stream cut off", 1), ("HTTP 500", 1))


def test_lag_and_latency_from_the_scheduled_instant() -> None:
    found = client_figures(RUN)
    assert found.lag_mean_ms == pytest.approx(500 / 7)
    assert (found.lag_median_ms, found.lag_max_ms) == (0, 500)
    assert found.lag_p99_ms == pytest.approx(0.94 * 500)
    assert (found.scheduled_ttft_mean_ms, found.scheduled_ttft_median_ms) == (1250, 1250)
    assert found.scheduled_ttft_p99_ms == pytest.approx(1495)
    assert (found.scheduled_e2e_mean_ms, found.scheduled_e2e_median_ms) == (2750, 2750)
    assert summarize(RUN).ttft_mean_ms == 1000  # from the sending: the lag of the second is not in it


def test_requests_in_flight_end_when_they_end() -> None:
    found = client_figures(RUN)
    spans = [3.0, 2.0, 8.0, 0.0, 2.0, 3.0]  # the HTTP 500 says not how long it took
    assert found.in_flight_mean == pytest.approx(sum(spans) / 10)
    assert found.in_flight_max == 3


def test_failed_requests_are_neither_censored_nor_finished_nor_waiting() -> None:
    found = summarize(RUN)
    assert (found.arrived, found.completed, found.refused, found.censored) == (7, 2, 1, 2)
    all_fail = make_run(
        np.linspace(0, 9.9, 100).tolist(), sent=np.linspace(0, 9.9, 100).tolist(), failure=[0] * 100, failures=("x",)
    )
    assert not queue_grows(all_fail)
    assert queue_grows(replace(all_fail, requests=replace(all_fail.requests, failure=None)))


def test_tokens_of_deliveries_where_requests_do_not_say() -> None:
    series = DeliverySeries(end_s=np.array([5.0, 10.0, 15.0]), output_tokens=np.array([30, 10, 99]))
    run = make_run([0.0], deliveries=series)
    assert client_figures(run).delivered_throughput == 4


def test_a_run_without_a_client_leaves_undefined_what_it_cannot_know() -> None:
    found = client_figures(make_run([0.0, 1.0], first=[1.0, 2.0], finish=[3.0, 4.0]))
    assert (found.sent, found.finished, found.failed, found.never_sent) == (2, 2, 0, 0)
    assert math.isnan(found.lag_p99_ms)
    assert math.isnan(found.scheduled_ttft_mean_ms)
    assert math.isnan(found.delivered_throughput)
    assert math.isnan(found.scheduled_rate)
    assert found.sent_rate == 0.2
    assert client_figures(make_run([])).in_flight_max == 0


# --- per adapter


def test_each_adapter_has_its_own_counts() -> None:
    found = client_per_adapter(RUN)
    assert found.name == ("a0", "a1", "(no adapter)")
    assert found.requests.tolist() == [4, 3, 1]
    assert found.sent.tolist() == [3, 3, 1]
    assert found.finished.tolist() == [1, 1, 0]
    assert found.refused.tolist() == [1, 0, 0]
    assert found.failed.tolist() == [1, 1, 0]
    assert found.censored.tolist() == [0, 1, 1]
    assert found.received_tokens.tolist() == [3, 7, 5]
    assert found.throughput.tolist() == [1.3, 1.2, 0]
    assert found.lag_mean_ms.tolist() == [0, pytest.approx(500 / 3), 0]


def many_requests(seed: int = 3) -> Run:
    """500 requests of 4 adapters and none, some unfinished, some failed."""
    rng = np.random.default_rng(seed)
    n = 500
    arrival = np.sort(rng.uniform(0, 10, n))
    first = arrival + rng.exponential(0.3, n)
    finish = np.where(rng.random(n) < 0.9, first + rng.exponential(1, n), np.nan)
    counts = rng.integers(0, 50, (5, 900))
    return make_run(
        arrival.tolist(), first.tolist(), finish.tolist(),
        sent=arrival.tolist(), scheduled=(arrival - rng.exponential(0.01, n)).tolist(),
        output=rng.integers(1, 9, n).tolist(), received=rng.integers(0, 9, n).tolist(),
        failure=np.where(rng.random(n) < 0.05, 0, -1).tolist(), failures=("x",),
        adapter=rng.integers(-1, 4, n).tolist(), num_adapters=4, gaps=GapHistogram(counts), kind="measured",
    )  # fmt: skip


@pytest.mark.parametrize("row", range(5))
def test_an_adapters_figures_are_those_of_a_run_of_its_own(row: int) -> None:
    run, slo = many_requests(), parse_slo("ttft_p99=300ms,tpot_p99=200ms")
    index = row if row < 4 else -1
    assert run.gaps is not None
    counts = np.zeros_like(run.gaps.counts)
    counts[index] = run.gaps.counts[index]
    alone = replace(run, requests=run.requests.take(run.requests.adapter == index), gaps=GapHistogram(counts))
    whole, client, found = summarize(alone), client_figures(alone), client_per_adapter(run, slo)
    for name in ("ttft", "tpot", "itl", "e2e"):
        for short, long in (("mean", "mean"), ("p50", "median"), ("p99", "p99")):
            value = getattr(found, f"{name}_{short}_ms")[row]
            assert value == pytest.approx(getattr(whole, f"{name}_{long}_ms")), (name, short)
    for name in ("sent", "finished", "failed", "censored", "refused"):
        assert getattr(found, name)[row] == getattr(client, name)
    assert found.lag_p99_ms[row] == pytest.approx(client.lag_p99_ms)
    assert found.received_tokens[row] / run.window_s == pytest.approx(client.delivered_throughput)
    assert found.goodput[row] == pytest.approx(goodput(alone, slo.per_request_s()))
    assert 0 < found.goodput[row] < found.finished[row] / run.window_s
    assert found.throughput[row] == pytest.approx(whole.total_throughput)


def test_the_worst_come_first_and_the_unasked_not_at_all() -> None:
    run = make_run(
        [0.0] * 6, first=[1.0, 1.0, 5.0, 2.0, NEVER, 3.0], finish=[2.0, 2.0, 6.0, 3.0, NEVER, 4.0],
        adapter=[0, 0, 3, 2, 2, 4], num_adapters=5, sent=[0.0] * 6,
    )  # fmt: skip
    found = client_per_adapter(run)
    assert found.worst_first().tolist() == [2, 3, 4, 0]  # half of 2 was served, then by TTFT p99: 5, 3, 1
    assert len(found) == 5
