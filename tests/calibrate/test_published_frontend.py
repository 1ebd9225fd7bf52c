"""The front end's coefficients are found in what matching leaves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.frontend import fit_frontend
from loratwin.calibrate.published.operating_point import Match
from loratwin.calibrate.published.start import starting_profile
from loratwin.errors import DataError
from loratwin.kernel import StepFeatures
from loratwin.perf import Frontend
from tests.calibrate.measured import LLAMA, by_hand, row, serving_runs

START = starting_profile(LLAMA).frontend
TRUTH = Frontend(
    overhead_s=0.012,
    first_use_s=0.5,
    scrape_interval_s=0.8,
    series_s=8e-6,
    series_name_s=2.5e-8,
    stall_ttft=3.0,
    generated_share=0.97,
)


def matches(folder: Path, truth: Frontend = TRUTH, number: int = 60) -> list[Match]:
    """Runs on servers with so many series that scrapes take from nothing to half a second."""
    rng = np.random.default_rng(0)
    rows, seen = [], []
    for i in range(number):
        itl, ttft, served = rng.uniform(0.02, 0.08), rng.uniform(0.05, 0.2), int(rng.integers(8, 300))
        series = np.linspace(0, rng.uniform(0, 2e4), 12)
        names = series * rng.uniform(1, 300)
        stall = truth.stall_s(series, names)
        mean = ttft + truth.overhead_s + truth.extra_ttft_s(stall) + truth.first_use_s * served / 1e4
        figures = {
            "tpot_mean_ms": itl * 1e3,
            "itl_mean_ms": truth.delivery_gap_s(itl, stall) * 1e3,
            "ttft_mean_ms": mean * 1e3,
            "ttft_median_ms": (ttft + truth.overhead_s) * 1e3,
            "completed": 1e4,
        }
        rows.append(by_hand(row(f"r{i}", rate=0.01, served=served), 1000, **figures))
        seen.append((itl, ttft, series, names))
    empty = StepFeatures(*[np.zeros(1)] * len(StepFeatures._fields))
    return [
        Match(run, 1.0, 0.0, itl, 0.0, empty, itl, itl, ttft, ttft, series, names)
        for run, (itl, ttft, series, names) in zip(serving_runs(folder, *rows), seen, strict=True)
    ]


def lost_shares(model: Frontend, found: list[Match]) -> np.ndarray:
    """Share of the time in which nothing is delivered: interval and duration of a stall show only in their ratio."""
    return np.array([model.stall_s(m.num_series, m.num_names).mean() / model.scrape_interval_s for m in found])


def test_planted_stalls_are_found(tmp_path: Path) -> None:
    given = matches(tmp_path)
    fitted = fit_frontend(given, START)
    np.testing.assert_allclose(lost_shares(fitted, given), lost_shares(TRUTH, given), rtol=0.1, atol=0.005)
    assert np.abs(lost_shares(START, given) / lost_shares(TRUTH, given) - 1).max() > 0.2


def test_planted_parts_of_ttft_are_found(tmp_path: Path) -> None:
    fitted = fit_frontend(matches(tmp_path), START)
    assert fitted.overhead_s == pytest.approx(TRUTH.overhead_s, rel=1e-6)
    assert fitted.first_use_s == pytest.approx(TRUTH.first_use_s, rel=0.1)
    given = TRUTH.stall_ttft * (TRUTH.series_s**2) / TRUTH.scrape_interval_s
    assert fitted.stall_ttft * (fitted.series_s**2) / fitted.scrape_interval_s == pytest.approx(given, rel=0.25)


def test_the_share_that_is_generated_is_not_touched(tmp_path: Path) -> None:
    start = START.model_copy(update={"generated_share": 0.5})
    assert fit_frontend(matches(tmp_path, number=20), start).generated_share == 0.5


def test_fast_clients_and_queues_say_nothing(tmp_path: Path) -> None:
    """What a late client measured, and TTFT with a queue, is not the front end's doing."""
    given = matches(tmp_path)
    expected = fit_frontend(given, START)
    wild = {"itl_mean_ms": "900", "ttft_mean_ms": "90000", "ttft_median_ms": "90000"}
    fast = [replace(m, run=replace(m.run, rate_values=(99.0,), row={**m.run.row, **wild})) for m in given]
    queued = [
        replace(m, run=replace(m.run, row={**m.run.row, "waiting_mean": "5", "ttft_median_ms": "90000"})) for m in given
    ]
    assert fit_frontend(given + fast, START) == expected
    assert fit_frontend(given + queued, START).overhead_s == expected.overhead_s


def test_a_few_overloaded_clients_do_not_move_it(tmp_path: Path) -> None:
    given = matches(tmp_path)
    late = [replace(m, run=replace(m.run, row={**m.run.row, "itl_mean_ms": "900"})) for m in given[:6]]
    fitted = fit_frontend(given[6:] + late, START)
    np.testing.assert_allclose(lost_shares(fitted, given), lost_shares(TRUTH, given), rtol=0.15, atol=0.01)


def test_without_a_run_that_tells_it_is_one_clear_line(tmp_path: Path) -> None:
    given = matches(tmp_path, number=3)
    queued = [replace(m, run=replace(m.run, row={**m.run.row, "waiting_mean": "5"})) for m in given]
    with pytest.raises(DataError, match="no run without a queue"):
        fit_frontend(queued, START)
