"""Runs side by side: the same rows for all, differences against the measured one, and in what runs differ."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from loratwin.metrics import (
    ComparedRow,
    Comparison,
    client_figures,
    compare,
    config_differences,
    goodput,
    parse_slo,
    run_figures,
    summarize,
    workload_differences,
)
from loratwin.records import EngineConfig, Provenance
from tests.metrics.runs import make_run
from tests.metrics.test_client import many_requests

SIMULATED = make_run([0.0, 1.0, 2.0], first=[1.0, 2.0, 3.0], finish=[2.0, 3.0, 4.0])
MEASURED = make_run(
    [0.0, 1.0, 2.0], first=[3.0, 4.0, 5.0], finish=[4.0, 5.0, 6.0], sent=[0.0, 1.0, 2.0], kind="measured"
)


def row(found: Comparison, key: str) -> ComparedRow:
    (one,) = [row for row in found.rows if row.figure.key == key]
    return one


def test_differences_are_against_the_measured_run() -> None:
    found = compare({"twin": SIMULATED, "run": MEASURED})
    assert found.reference == 1
    ttft = row(found, "ttft_mean_ms")
    assert ttft.values == (1000, 3000)
    assert ttft.difference(0, found.reference) == pytest.approx(-2 / 3)
    assert compare({"a": SIMULATED, "b": SIMULATED}).reference == 0


def test_an_unknown_or_zero_reference_has_no_difference() -> None:
    failed = row(compare({"run": MEASURED, "twin": SIMULATED}), "failed")
    assert math.isnan(failed.difference(1, 0))


def test_rows_that_no_run_knows_are_left_out() -> None:
    keys = {row.figure.key for row in compare({"twin": SIMULATED}).rows}
    assert "queueing_mean_ms" not in keys  # nobody was ever admitted in it
    assert not {"lag_p99_ms", "scheduled_rate", "delivered_throughput"} & keys
    assert {"lag_p99_ms", "delivered_throughput"} <= {row.figure.key for row in compare({"m": many_requests()}).rows}


def test_figures_are_those_of_the_summary_and_of_the_client() -> None:
    run, slo = many_requests(), parse_slo("ttft_p99=300ms,itl_p50=20ms")
    found, summary, client = run_figures(run, slo), summarize(run), client_figures(run)
    assert (found["e2e_p99_ms"], found["lag_max_ms"]) == (summary.e2e_p99_ms, client.lag_max_ms)
    assert found["finished"] == summary.completed == client.finished
    assert found["censored"] == summary.censored == client.censored
    assert found["goodput"] == goodput(run, slo.per_request_s())
    assert found["slo_itl_p50_ms"] == summary.itl_median_ms
    assert row(compare({"run": run}, slo), "slo_ttft_p99_ms").limit == 300


def test_a_client_does_not_see_preemptions() -> None:
    assert math.isnan(run_figures(MEASURED)["preemptions"])
    assert run_figures(SIMULATED)["preemptions"] == 0


def test_in_what_workloads_differ() -> None:
    assert workload_differences({"a": MEASURED, "b": SIMULATED}) == ()
    longer = make_run([0.0, 1.0, 2.0, 3.0], window_s=20.0, num_adapters=3)
    assert workload_differences({"a": MEASURED, "b": longer}) == (
        *("window 10 s | 20 s", "adapters 2 | 3", "requests 3 | 4", "prompt tokens 30 | 40"),
    )
    named = Provenance(workload_hash="1234")
    assert (
        workload_differences({x: replace(run, provenance=named) for x, run in (("a", MEASURED), ("b", longer))}) == ()
    )
    renamed = replace(SIMULATED, adapters=replace(SIMULATED.adapters, name=("a0", "other")))
    assert workload_differences({"a": MEASURED, "b": renamed}) == ("names of adapters",)


def test_in_what_servers_differ() -> None:
    other = replace(SIMULATED, config=EngineConfig(max_loras=4, max_num_seqs=8))
    assert config_differences({"a": MEASURED, "b": other}) == ("max_loras 1 | 4", "max_num_seqs 256 | 8")
    assert config_differences({"a": MEASURED, "b": SIMULATED}) == ()
