"""What a client waits beyond the engine, and what loads take: found again in runs where both are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from loratwin.calibrate.regression.overhead import fit_loads, fit_overhead, overheads_s
from loratwin.records import Run
from tests.calibrate.known_steps import known_design, known_runs, run_of


def with_client(run: Run, way_in_s: float, way_out_s: float) -> Run:
    """As a client sees it that sends earlier and gets later than the engine."""
    table = run.requests
    sent = table.arrival_s - way_in_s
    return replace(run, requests=replace(table, sent_s=sent, first_token_s=table.first_token_s + way_out_s))


def test_an_idle_engine_shows_the_ways_in_and_out() -> None:
    server = known_design().servers[0]
    seldom = run_of(server, server.runs[0].model_copy(update={"window_s": 100.0}))
    run = with_client(seldom, 0.002, 0.003)
    found = overheads_s(run)
    assert len(found) > 10
    assert np.median(found) == pytest.approx(0.005, abs=1e-4)


def test_the_estimate_is_the_mean_of_the_runs() -> None:
    runs = [with_client(known_runs()[name], 0.0, out) for name, out in (("few-single", 0.002), ("many-single", 0.004))]
    found = fit_overhead(runs)
    assert found.value == pytest.approx(0.003, abs=2e-4)
    assert found.error == pytest.approx(0.001, rel=0.2) and found.number == 2


def test_runs_with_a_queue_or_without_steps_tell_nothing() -> None:
    queued = known_runs()["few-changing"]
    assert queued.steps is not None and queued.steps.waiting.mean() > 1
    assert not len(overheads_s(queued))
    assert not len(overheads_s(replace(known_runs()["few-single"], steps=None)))
    assert fit_overhead([queued]).number == 0


def test_loads_from_disk_and_swap_ins_are_told_apart() -> None:
    run = known_runs()["rank-disk"]
    steps = run.steps
    assert steps is not None
    rng = np.random.default_rng(0)
    noise = rng.normal(0, 1e-4, len(steps)) * (steps.swap_ins > 0)
    load_s = 0.002 * steps.swap_ins + 0.007 * steps.disk_loads + noise
    found = fit_loads([replace(run, steps=replace(steps, load_s=load_s))])
    assert found.swap_in.value == pytest.approx(0.002, rel=0.05)
    assert found.disk_load.value == pytest.approx(0.007, rel=0.05)
    assert 0 < found.swap_in.error < 0.001


def test_without_loads_nothing_is_told() -> None:
    found = fit_loads([known_runs()["few-single"]])
    assert found.swap_in.number == found.disk_load.number == 0
    assert np.isnan(found.swap_in.value)
