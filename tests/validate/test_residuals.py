"""Held-out errors as quantiles, and whether intervals made of them hold what they say."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.published.serving import ServingRun
from loratwin.perf.uncertainty import LEVELS
from loratwin.validate import Prediction
from loratwin.validate.residuals import coverage, held_out_errors
from tests.calibrate.measured import by_hand, row, serving_runs

OFFERED = 0.1 * 32 * 420
"""Tokens/s that `row` asks for."""


def many(
    folder: Path, errors: np.ndarray[Any, Any], total: float = OFFERED
) -> tuple[list[ServingRun], list[Prediction]]:
    """Runs of five workloads whose TPOT is off by these logarithms, throughput right."""
    rows = [
        by_hand(
            row(f"run {i}", adapter_ranks_cycle=" ".join(["8"] * (1 + i % 5))), total, tpot_mean_ms=20.0 * math.exp(e)
        )
        for i, e in enumerate(errors)
    ]
    predictions = [
        Prediction(f"run {i}", total_throughput=total, tpot_mean_ms=20.0, starts=1) for i in range(len(errors))
    ]
    return serving_runs(folder, *rows), predictions


def test_quantiles_are_of_the_size_of_the_error(tmp_path: Path) -> None:
    errors = np.linspace(-0.2, 0.2, 41)
    found = held_out_errors(*many(tmp_path, errors))["open"]
    expected = np.quantile(np.abs(errors), LEVELS)
    assert found["tpot_mean_ms"] == pytest.approx(tuple(expected), abs=1e-5)
    assert found["total_throughput"] == pytest.approx((0, 0, 0, 0), abs=1e-5)


def test_servers_that_keep_up_and_saturated_ones_are_apart(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    open_ones, saturated = many(tmp_path, np.full(20, 0.01)), many(tmp_path / "a", np.full(20, 0.3), OFFERED / 2)
    found = held_out_errors([*open_ones[0], *saturated[0]], [*open_ones[1], *saturated[1]])
    assert found["open"]["tpot_mean_ms"][0] == pytest.approx(0.01, abs=1e-5)
    assert found["saturated"]["tpot_mean_ms"][0] == pytest.approx(0.3, abs=1e-5)


def test_a_few_runs_say_nothing(tmp_path: Path) -> None:
    assert held_out_errors(*many(tmp_path, np.full(9, 0.1))) == {}


def test_what_did_not_run_does_not_count(tmp_path: Path) -> None:
    runs, predictions = many(tmp_path, np.full(12, 0.1))
    predictions[:3] = [Prediction(p.run, starts=0) for p in predictions[:3]]
    assert held_out_errors(runs, predictions) == {}


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_stated_and_found_coverage_agree_where_workloads_are_alike(level: float, tmp_path: Path) -> None:
    errors = np.random.default_rng(4).normal(0.0, 0.1, 400)
    [found] = [each for each in coverage(*many(tmp_path, errors), level) if each.metric == "tpot_mean_ms"]
    assert (found.runs, found.regime) == (400, "open")
    assert found.share == pytest.approx(level, abs=0.03)
    assert found.mean_error == pytest.approx(math.expm1({0.5: 0.0674, 0.9: 0.1645}[level]), rel=0.12)


def test_a_workload_that_errs_more_than_the_others_is_seen(tmp_path: Path) -> None:
    """Its own errors must not widen its own intervals."""
    errors = np.where(np.arange(100) % 5 == 2, 0.5, 0.01)
    [found] = [each for each in coverage(*many(tmp_path, errors), 0.5) if each.metric == "tpot_mean_ms"]
    assert found.share == pytest.approx(0.8)
