"""The minutes of a calibration are kept: by what starts and runs have taken, with time for what comes later."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.bench import Listener
from loratwin.calibrate.design import OVERHEAD_S, START_S
from loratwin.calibrate.loop.budget import Budget, check_times
from loratwin.calibrate.loop.measuring import PlannedRun, measure_runs
from loratwin.calibrate.loop.source import ServerSource
from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import find_engine
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.bench.servers import timed_server
from tests.calibrate.known_steps import known_design


class Clock:
    """Seconds that pass when told so."""

    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_what_fits_is_judged_by_what_was_seen() -> None:
    clock = Clock()
    budget = Budget(100.0, clock=clock)
    assert budget.server_s([4.0, 4.0]) == START_S + 2 * (4.0 + OVERHEAD_S)
    clock.now += 50.0
    budget.started(50.0)
    assert budget.left_s == 50.0 and budget.start_s == 50.0
    for _ in range(2):
        budget.ran(5.0, 20.0)  # 15 s beyond its window, each
        clock.now += 20.0
    assert budget.run_s(5.0) == 20.0 and budget.left_s == 10.0
    assert not budget.holds(5.0) and Budget(100.0).holds(5.0)


def test_time_for_later_servers_is_not_spent_on_repetitions() -> None:
    budget = Budget(60.0, clock=Clock())
    assert budget.holds(20.0)
    budget.reserved_s = 40.0
    assert not budget.holds(20.0) and budget.left_s == 60.0
    assert budget.holds(20.0, repeats=False)  # what is measured for the first time is worth as much as what comes later


def test_a_run_that_does_not_fit_is_left_out_and_said(tmp_path: Path) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 2, (8, 16)))
    run = known_design().servers[0].runs[0].model_copy(update={"window_s": 0.5, "adapters": 2})
    lines: list[str] = []
    with timed_server(tmp_path, "llm") as server:
        source = ServerSource(tmp_path / "adapters", "--max-loras 2", url=server.url)
        workload = run.workload(source.adapters(), 0)
        names = ("one", "two", "three", "four")
        planned = [PlannedRun(tmp_path / f"{name}.json", workload, run.in_flight, repeats=True) for name in names]
        args, budget = ServerArguments(find_engine("vllm")), Budget(START_S + OVERHEAD_S + 1.0, clock=Clock())
        budget.reserved_s = START_S + OVERHEAD_S  # nothing is left after the first three, which each server has
        measure_runs(source, args, planned, tmp_path / "logs", listener=Listener(lines.append), budget=budget)
        over = Budget(1.0, clock=Clock())
        measure_runs(source, args, planned, tmp_path / "logs", listener=Listener(lines.append), budget=over)
    assert [one.path.exists() for one in planned] == [True, True, True, False]
    assert "four: left out, since it does not fit into the minutes" in lines
    assert lines[-1] == "left out, since the minutes are over: four"
    assert budget.run_s(0.5) != pytest.approx(0.5 + OVERHEAD_S)  # what the first took is known now


@pytest.mark.parametrize("servers", [1, 2])
@pytest.mark.parametrize("minutes", [6.0, 7.0, 12.0, 40.0])
def test_a_check_takes_half_as_long_as_the_design(minutes: float, servers: int) -> None:
    window_s, repeats = check_times(minutes, servers)
    took = servers * (START_S + 4 * repeats * (window_s + OVERHEAD_S))
    assert took <= 30 * minutes + 1
    assert 6 <= window_s <= 18
    assert repeats in (1, 2)


def test_repetitions_come_once_windows_are_long_enough() -> None:
    assert check_times(7.0, 2) == (13.2, 1)
    assert check_times(12.0, 2) == (13.2, 2)
    assert check_times(1.0, 2) == (6.0, 1)  # then it takes longer: fewer seconds tell nothing
    assert check_times(60.0, 2) == (18.0, 2)
