"""The summary: the right figure in the right field, and what is left out."""

from __future__ import annotations

import math
from dataclasses import asdict, fields

import pytest

from loratwin.metrics import Summary, over_replications, summarize
from loratwin.records import PrefixCounts
from tests.metrics.runs import NEVER, make_run, make_steps

RUN = make_run(
    [0.0, 1.0, 2.0, 3.0, 4.0],
    first=[1.0, 3.0, 5.0, 6.0, NEVER],
    finish=[3.0, 4.0, 7.0, 11.0, NEVER],
    admitted=[0.0, 2.0, 2.0, 4.0, NEVER],
    prompt=[10, 20, 30, 40, 50],
    output=[3, 2, 3, 4, 5],
    num_preemptions=[0, 1, 2, 0, 0],
    refused=[False, False, False, False, True],
    steps=make_steps([0.0, 2.0, 3.0, 4.0, 6.0], [1.0, 1.0, 1.0, 1.0, 1.0], running=[1, 2, 3, 2, 1], swap_ins=[1] * 5),
    prefix_cache=PrefixCounts(40, 10),
)
EXPECTED = {
    "input_throughput": 6.0,
    "output_throughput": 0.8,
    "total_throughput": 6.8,
    "offered_throughput": 16.7,
    "request_throughput": 0.3,
    "ttft_mean_ms": 2000,
    "ttft_median_ms": 2000,
    "ttft_p90_ms": 2800,
    "ttft_p99_ms": 2980,
    "tpot_mean_ms": 1000,
    "tpot_median_ms": 1000,
    "tpot_p99_ms": 1000,
    "itl_mean_ms": 1000,
    "itl_median_ms": 1000,
    "itl_p99_ms": 1000,
    "e2e_mean_ms": 11000 / 3,
    "e2e_median_ms": 3000,
    "e2e_p99_ms": 4960,
    "queueing_mean_ms": 1000 / 3,
    "running_mean": 0.9,
    "running_max": 3,
    "waiting_mean": 0,
    "waiting_max": 0,
    "kv_usage_mean": 0,
    "kv_usage_max": 0,
    "preemptions": 3,
    "swap_ins": 5,
    "disk_loads": 0,
    "prefix_hit_rate": 0.25,
    "cached_tokens": 10,
    "arrived": 5,
    "completed": 3,
    "refused": 1,
    "censored": 1,
    "served_share": 68 / 167,
    "starved": True,
    "starved_by_throughput": True,
    "starved_reason": "throughput",
}


def test_every_field() -> None:
    assert asdict(summarize(RUN)) == pytest.approx(EXPECTED)


def test_without_percentiles_everything_else_is_the_same() -> None:
    found = asdict(summarize(RUN, percentiles=False))
    left_out = {name for name, value in found.items() if value != value}
    assert left_out == {
        *("ttft_p90_ms", "ttft_p99_ms", "tpot_median_ms", "tpot_p99_ms"),
        *("itl_median_ms", "itl_p99_ms", "e2e_median_ms", "e2e_p99_ms"),
    }
    assert {name: found[name] for name in set(found) - left_out} == pytest.approx(
        {name: EXPECTED[name] for name in set(found) - left_out}
    )


def test_nothing_finished_is_undefined_and_not_zero() -> None:
    found = summarize(make_run([0.0, 1.0]))
    latencies = [getattr(found, item.name) for item in fields(Summary) if item.name.endswith("_ms")]
    assert all(math.isnan(value) for value in latencies)
    assert (found.total_throughput, found.completed, found.censored) == (0.0, 0, 2)
    assert found.starved and math.isnan(found.prefix_hit_rate) and found.cached_tokens is None


def test_a_run_without_requests_has_a_summary() -> None:
    found = summarize(make_run([]))
    assert (found.arrived, found.starved, found.starved_reason) == (0, False, "")


def test_whose_latency_can_be_chosen() -> None:
    run = make_run([0.0], first=[1.0], finish=[2.0], client_overhead_s=0.5)
    assert summarize(run).ttft_mean_ms == pytest.approx(1500)
    assert summarize(run, side="engine").ttft_mean_ms == pytest.approx(1000)


def test_replications_give_an_interval_for_every_number() -> None:
    other = make_run([0.0], first=[1.0], finish=[2.0])
    found = over_replications([summarize(RUN), summarize(other)])
    assert found["ttft_mean_ms"].mean == pytest.approx(1500)
    assert found["starved"].mean == pytest.approx(0.5)
    assert found["swap_ins"].count == 1  # the other run does not know
    assert "starved_reason" not in found


def test_percentiles_of_gaps_are_in_their_field() -> None:
    steps = make_steps([0.0, 1.0, 1.5, 3.5], [1.0, 0.5, 2.0, 1.0])
    found = summarize(make_run([0.0], first=[1.0], finish=[4.5], output=[4], steps=steps))
    assert (found.itl_median_ms, found.itl_p99_ms) == pytest.approx((1000, 1980))
