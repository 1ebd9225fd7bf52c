"""Whether what is said to hold holds: the score tells a calibrated statement from one that is too sure."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate.published.fit import fit_tables
from loratwin.calibrate.published.serving import ServingRun
from loratwin.metrics import summarize
from loratwin.perf import Profile
from loratwin.perf.uncertainty import Regime, SignedQuantiles
from loratwin.report.chance import chance_markdown
from loratwin.simulate import simulate
from loratwin.validate.chance import (
    EDGE,
    FIGURES,
    SHARE,
    HeldOut,
    Statement,
    around,
    brier,
    judged,
    predict_draws,
    reliability,
    signed_errors,
    statements,
    verdicts,
)
from tests.calibrate.known_server import write_tables
from tests.calibrate.measured import LLAMA, by_hand, row, serving_runs

OFFERED = 0.1 * 32 * 420
"""Tokens/s that `row` asks for."""

WORKLOADS = 8


def held_out(folder: Path, spread: float) -> list[HeldOut]:
    """Runs of several workloads whose latencies are off by a normal error of this spread, 0.2 in the middle."""
    rng = np.random.default_rng(3)
    rows, figures = [], []
    for i in range(160):
        true = {name: 50.0 * math.exp(rng.normal(0, 0.8)) for name in FIGURES}
        off = {name: value * math.exp(rng.normal(0.2, spread)) for name, value in true.items()}
        cycle = " ".join(["8"] * (1 + i % WORKLOADS))
        rows.append(by_hand(row(f"run {i}", adapter_ranks_cycle=cycle), OFFERED, **off))
        figures.append({**true, SHARE: 1.0})
    return [HeldOut(run, own, (own,)) for run, own in zip(serving_runs(folder, *rows), figures, strict=True)]


def test_errors_have_their_sign(tmp_path: Path) -> None:
    found = signed_errors(held_out(tmp_path, 0.3))["open"]["ttft_mean_ms"]
    assert found[4] == pytest.approx(0.2, abs=0.06)
    assert found[7] - found[4] == pytest.approx(1.645 * 0.3, rel=0.15)


def test_how_far_overload_is_off_says_nothing_of_the_edge(tmp_path: Path) -> None:
    runs = held_out(tmp_path, 0.1)
    deep = [HeldOut(each.run, {**each.figures, SHARE: EDGE / 2}, each.draws) for each in runs]
    assert SHARE in signed_errors(runs)["open"]
    assert SHARE not in signed_errors(deep)["saturated"]


def test_chances_of_held_out_runs_come_true(tmp_path: Path) -> None:
    stated = statements(held_out(tmp_path, 0.3))
    nine = around(stated)
    assert nine is not None and nine.number > 500 and 0.85 <= nine.kept <= 0.95
    assert all(abs(each.kept - each.stated) < 0.12 for each in reliability(stated))
    assert brier(stated) < 0.08


def test_verdicts_on_percentiles_count_by_how_much_real_runs_are_slower(tmp_path: Path) -> None:
    """All figures are off by 0.2 in the middle: a percentile's verdict knows it, a mean's does not."""
    runs = held_out(tmp_path, 0.1)
    both = zip(judged(verdicts(runs)), judged(verdicts(runs, corrected=False)), strict=True)
    seen = {one.figure: (one, other) for one, other in both}
    assert seen["ttft_mean_ms"][0] == seen["ttft_mean_ms"][1]
    for figure in ("ttft_p99_ms", "tpot_p99_ms", "itl_p99_ms", "ttft_median_ms"):
        one, other = seen[figure]
        assert one.number == other.number > 500
        assert one.right_share > other.right_share and one.false_kept_share < 0.5 * other.false_kept_share
        assert one.right_share + one.false_kept_share + one.false_missed_share == pytest.approx(1)
    text = chance_markdown(statements(runs), verdicts(runs), verdicts(runs, corrected=False))
    assert "| TTFT p99 | " in text.split("Verdicts, kept or missed")[1]


def test_statements_that_are_too_sure_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Errors a third of what they are."""
    monkeypatch.setattr("loratwin.validate.chance.signed_errors", lambda runs: narrow(signed_errors(runs)))
    stated = statements(held_out(tmp_path, 0.3))
    nine = around(stated)
    assert nine is not None and nine.kept < 0.8


Errors = dict[Regime, dict[str, SignedQuantiles]]


def narrow(errors: Errors) -> Errors:
    return {
        regime: {name: tuple(q[4] + (each - q[4]) / 3 for each in q) for name, q in figures.items()}
        for regime, figures in errors.items()
    }


def test_tenths_hold_all_statements() -> None:
    stated = [Statement("", chance, kept) for chance, kept in [(0.0, False), (0.05, False), (0.9, True), (1.0, True)]]
    low, high = reliability(stated)
    assert (low.number, low.stated, low.kept) == (2, 0.025, 0.0)
    assert (high.number, high.stated, high.kept) == (2, 0.95, 1.0)
    assert brier(stated) == pytest.approx((0.05**2 + 0.1**2) / 4)
    assert around([]) is None
    text = chance_markdown(stated)
    assert "| 90 to 100 % | 2 | 95.0 % | 100.0 % |" in text and "4 statements" in text


def test_runs_are_drawn_with_the_profile_fitted_without_their_workload(tmp_path: Path) -> None:
    data = write_tables(tmp_path, [(0.02, "8"), (0.08, "8 16"), (0.15, "16")])
    fit = fit_tables(data, LLAMA, processes=1, passes=1)
    found = predict_draws(data, {LLAMA.name: fit}, 1, lambda what, done, of: None, draws=1)
    assert len(found) == 9
    first = found[0]
    assert first.figures == of(first.run, fit.without(first.run.group))
    assert first.figures != of(first.run, fit.profile)
    assert len(first.draws) == 1 and first.draws[0] != first.figures


def of(run: ServingRun, profile: Profile) -> dict[str, float]:
    summary = summarize(simulate(run.workload(profile.frontend.generated_share, 0), profile, run.config))
    return {name: float(getattr(summary, name)) for name in (*FIGURES, SHARE)}
