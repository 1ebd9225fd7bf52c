"""The cost of the queue's walk, told by the runs in which it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from loratwin.calibrate.published.queue_walk import telling, walk_error
from loratwin.calibrate.published.serving import profile_for
from loratwin.perf import Profile
from tests.calibrate.measured import LLAMA, by_hand, measured, row, serving_runs

LONG = {"waiting_mean": 5000.0, "kv_usage_mean": 0.3}


def test_telling_runs_have_a_long_queue_free_blocks_and_a_client_that_keeps_up(tmp_path: Path) -> None:
    runs = serving_runs(
        tmp_path,
        by_hand(row("telling", rate=1), 1000, **LONG),
        by_hand(row("short queue", rate=1), 1000, **{**LONG, "waiting_mean": 500.0}),
        by_hand(row("full", rate=1), 1000, **{**LONG, "kv_usage_mean": 0.95}),
        by_hand(row("fast", rate=20), 1000, **LONG),
        row("not measured"),
    )
    assert [run.name for run in telling(runs)] == ["telling"]


def test_many_telling_runs_are_thinned_over_all_workloads(tmp_path: Path) -> None:
    rows = [row(f"{g}-{i}", rate=0.1 * g, served=8 * i) for g in (3, 1, 2) for i in range(1, 21)]
    runs = serving_runs(tmp_path, *(by_hand(values, 10, **LONG) for values in rows))
    found = telling(runs)
    assert 10 <= len(found) <= 15
    assert {run.group for run in found} == {run.group for run in runs}
    assert [run.name for run in telling(runs[:6])] == [run.name for run in runs[:6]]


def test_without_telling_runs_there_is_no_error() -> None:
    assert walk_error(profile_for(LLAMA.name), []) == 0.0


def with_walk(skipped_s: float) -> Profile:
    profile = profile_for(LLAMA.name)
    return profile.model_copy(update={"step_time": profile.step_time.model_copy(update={"skipped_s": skipped_s})})


def test_the_true_cost_has_the_least_error(tmp_path: Path) -> None:
    truth = with_walk(4e-6)
    values = measured(tmp_path, row(rate=1.5, slots=8, served=64, window_s=120), truth)
    [run] = serving_runs(tmp_path, values)
    assert telling([run])
    errors = {cost: walk_error(with_walk(cost), [run]) for cost in (1e-6, 4e-6, 9e-6)}
    assert errors[4e-6] == pytest.approx(0, abs=1e-9)
    assert min(errors[1e-6], errors[9e-6]) > 0.02
