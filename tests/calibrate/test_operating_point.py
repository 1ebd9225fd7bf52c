"""The operating point of a client's run: closed loops are found and kept, and the twin that served it fits at once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.calibrate.rows.operating_point import (
    closed_loop,
    match,
    serve_closed,
)
from loratwin.metrics import in_flight, itl_mean_s
from loratwin.workload import served_rows, served_workload
from tests.calibrate.known_clients import OVERHEAD_S, client_runs, open_
from tests.calibrate.known_steps import ADAPTERS, config_of, known_design, known_profile


@pytest.mark.parametrize(("name", "number"), [("few-full", 16), ("few-changing", 32), ("many-single", 1)])
def test_a_closed_loop_is_told_by_what_was_in_flight(name: str, number: int) -> None:
    assert closed_loop(client_runs()[name]) == number


@pytest.mark.parametrize("rate", [10.0, 60.0])
def test_an_open_loop_is_none_whether_the_server_keeps_up_or_not(rate: float) -> None:
    assert closed_loop(open_(rate, config_of(known_design().servers[0]))) == 0


def test_each_arrival_of_a_closed_loop_follows_a_finish() -> None:
    server = known_design().servers[0]
    run = next(run for run in server.runs if run.name == "half")
    twin = serve_closed(run.workload(ADAPTERS, 0), run.in_flight, known_profile(), config_of(server))
    table = twin.requests
    ends = np.sort(table.finish_s[table.finish_s + OVERHEAD_S < run.window_s])
    assert (table.arrival_s[: run.in_flight] == 0).all()
    caused = table.arrival_s[run.in_flight :]
    assert abs(len(caused) - len(ends)) <= 1  # which side of the window's end the last is on
    num = min(len(caused), len(ends))
    np.testing.assert_allclose(caused[:num], ends[:num] + OVERHEAD_S, rtol=1e-12)
    assert in_flight(twin).mean == pytest.approx(run.in_flight, rel=0.05)  # a little is on its way


@pytest.mark.parametrize("factor", [0.4, 2.5])
@pytest.mark.parametrize("name", ["few-full", "few-prompts", "many-changing", "many-single"])
def test_a_profile_that_is_off_by_a_factor_is_brought_back(name: str, factor: float) -> None:
    run, truth = client_runs()[name], known_profile()
    off = truth.model_copy(update={"step_time": truth.step_time.scaled(factor)})
    found = match(name, run, off)
    assert found.usable and found.held
    assert found.factor * factor == pytest.approx(1.0, rel=0.03)
    assert itl_mean_s(found.twin) == pytest.approx(itl_mean_s(run), rel=0.01)


def test_an_open_loop_is_served_as_it_was_sent() -> None:
    run = open_(12.0, config_of(known_design().servers[1]))
    found = match("open", run, known_profile())
    assert not found.held and found.factor == pytest.approx(1.0, rel=0.01)
    np.testing.assert_array_equal(found.twin.requests.arrival_s, run.requests.sent_s)
    assert len(found.both) > 0.8 * len(run.requests)


def test_what_was_not_sent_or_failed_is_not_served() -> None:
    run = open_(12.0, config_of(known_design().servers[0]))
    sent, failure = run.requests.sent_s.copy(), np.full(len(run.requests), -1, dtype=np.int32)
    sent[3], failure[5] = np.nan, 0
    some = replace(run, requests=replace(run.requests, sent_s=sent, failure=failure), failures=("HTTP 500",))
    rows = served_rows(some)
    assert set(range(len(run.requests))) - set(rows.tolist()) == {3, 5}
    assert served_workload(some).num_requests == len(run.requests) - 2
