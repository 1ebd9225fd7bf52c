"""Checks: workloads that span what they should, predictions with intervals, scores, and what a profile learns."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from loratwin.calibrate.checks import loads
from loratwin.calibrate.checks.check import Checked, CheckPrediction, CheckScore, Predicted, predict_check, score_checks
from loratwin.calibrate.checks.learned import with_measured_errors
from loratwin.calibrate.checks.loads import NUM_LOADS, Check, make_checks
from loratwin.calibrate.loop.text import as_text, checked_data
from loratwin.calibrate.regression.drift import reference_step_s
from loratwin.metrics import starvation, summarize
from loratwin.perf import Profile
from loratwin.perf.uncertainty import Uncertainty
from loratwin.records import ReferenceLoad
from loratwin.simulate import simulate
from tests.calibrate.known_steps import ADAPTERS, config_of, known_design, known_profile


@lru_cache(maxsize=1)
def checks() -> list[Check]:
    return make_checks(known_profile(), config_of(known_design().servers[0]), (2, 8), ADAPTERS, 12.0)


def uncertain(spread: float) -> Profile:
    errors = {"step_time.weights_s": 2e-4}
    quantiles = (0.674 * spread, 1.282 * spread, 1.645 * spread, 1.96 * spread)  # of a normal distribution
    residual: Any = {"open": {"itl_mean_ms": quantiles}}
    return known_profile().model_copy(update={"uncertainty": Uncertainty(standard_errors=errors, residual=residual)})


def test_they_span_open_to_overloaded_with_few_slots_and_many() -> None:
    names = [check.name for check in checks()]
    assert names == [f"{kind}-{slots}" for slots in (2, 8) for kind in ("open", "near", "over", "bursts")]
    shares = {c.name: summarize(simulate(c.workload, known_profile(), c.config)) for c in checks()}
    assert all(shares[name].starved == name.startswith("over") for name in names)
    gaps = {c.name: np.diff(c.workload.arrival_s) for c in checks()}
    assert all(g.std() / g.mean() < 1.25 for name, g in gaps.items() if not name.startswith("bursts"))
    per_adapter = [np.diff(c.workload.arrival_s[c.workload.adapter == 0]) for c in checks() if "bursts" in c.name]
    assert all(g.std() / g.mean() > 1.2 for g in per_adapter)


@pytest.mark.parametrize("longest", [64, 200])
def test_a_short_context_is_kept(longest: int) -> None:
    """A calibration can be designed from 64 tokens on; its check must not fail after minutes of measuring."""
    config = config_of(known_design().servers[0]).replace(max_model_len=longest)
    made = make_checks(known_profile(), config, (2,), ADAPTERS, 4.0)
    assert len(made) == NUM_LOADS
    for check in made:
        tokens = check.workload.prompt_tokens + check.workload.output_tokens
        assert 0.5 * longest < tokens.max() < longest


def test_a_check_asks_on_both_sides_of_the_predicted_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the profile is unsure of: 0.85 and 1.2 of the load at which it says that the server begins to starve."""
    unsure, server = uncertain(0.15), config_of(known_design().servers[0])
    found = {c.name: c for c in make_checks(unsure, server, (2,), ADAPTERS, 12.0)}
    assert {name: starves(check, unsure) for name, check in found.items()} == {
        "open-2": False, "near-2": False, "over-2": True, "bursts-2": False,
    }  # fmt: skip
    rates = {name: len(check.workload.arrival_s) for name, check in found.items()}
    assert rates["open-2"] < rates["near-2"] < rates["over-2"]
    monkeypatch.setattr(loads, "NEAR", 1.0)
    monkeypatch.setattr(loads, "OVER", 1.0)
    at_edge = {c.name: starves(c, unsure) for c in make_checks(unsure, server, (2,), ADAPTERS, 12.0)}
    assert not at_edge["near-2"] and not at_edge["over-2"]


def starves(check: Check, profile: Profile) -> bool:
    return starvation(simulate(check.workload, profile, check.config)).starved


def test_intervals_grow_with_the_uncertainty_and_hold_the_prediction() -> None:
    check = checks()[2]
    sure, unsure = predict_check(check, uncertain(0.001), draws=8), predict_check(check, uncertain(0.2), draws=8)
    for name, wide in unsure.figures.items():
        narrow = sure.figures[name]
        assert wide.low <= wide.value <= wide.high
        assert wide.high - wide.low > narrow.high - narrow.low
        assert (
            narrow.value
            == wide.value
            == pytest.approx(getattr(summarize(simulate(check.workload, known_profile(), check.config)), name))
        )
    assert sure.starved and sure.chance_starved == 1.0


def test_stated_90_percent_hold_for_servers_as_uncertain_as_stated() -> None:
    rng = np.random.default_rng(5)
    profile, held = uncertain(0.1), []
    for check in (checks()[0], checks()[6]):
        prediction = predict_check(check, profile, draws=30, seed=2)
        for _ in range(20):
            factor = float(np.exp(0.1 * rng.standard_normal()))
            server = profile.model_copy(update={"step_time": profile.step_time.scaled(factor)})
            seen = summarize(simulate(check.workload, server, check.config))
            held.append(prediction.figures["itl_mean_ms"].holds(seen.itl_mean_ms))
    assert np.mean(held) >= 0.8


def test_scores_are_errors_of_the_mean_beside_the_noise() -> None:
    one = CheckScore("x", "itl_mean_ms", Predicted(11.0, 9.0, 12.0), (9.5, 10.5))
    assert one.error == pytest.approx(0.1) and one.noise == pytest.approx(0.05) and one.covered == 1.0
    assert CheckScore("x", "itl_mean_ms", Predicted(11.0, 10.0, 12.0), (9.5, 10.5)).covered == 0.5
    assert np.isnan(CheckScore("x", "itl_mean_ms", Predicted(11.0, 10.0, 12.0), (10.0,)).noise)


def test_measured_runs_are_scored_against_their_prediction() -> None:
    check = checks()[4]
    server = known_profile().model_copy(update={"step_time": known_profile().step_time.scaled(1.2)})
    measured = simulate(check.workload, server, check.config)
    prediction = predict_check(check, known_profile(), draws=3)
    found = score_checks([prediction, replace(prediction, name="not measured")], {check.name: [measured, measured]})
    assert {each.check for each in found.scores} == {check.name}
    errors = {each.figure: each.error for each in found.scores}
    assert errors["itl_mean_ms"] < -0.1  # the server is slower than predicted
    assert found.verdicts_right == (2, 2)
    assert found.mean_error("itl_mean_ms") == pytest.approx(-errors["itl_mean_ms"])


def test_a_check_on_a_slower_machine_says_so() -> None:
    profile = known_profile()
    profile = profile.model_copy(update={"card": profile.card.model_copy(update={"usual_reference": 1.2})})
    check = checks()[4]
    usual_s = 1.2 * reference_step_s(profile.step_time, check.config, profile.behaviour)
    run = replace(simulate(check.workload, profile, check.config), reference=ReferenceLoad(usual_s, 4 * usual_s))
    found = score_checks([CheckPrediction(check.name, {}, False, 0.0)], {check.name: [run]}, profile)
    ((name, (factor,)),) = found.machine
    assert name == check.name and factor == pytest.approx(2.0)
    assert f"2.00 to 2.00 ({name}) times as long as in the calibration: it was NOT steady" in as_text(
        replace(checked_once(), machine=found.machine)
    )
    assert checked_data(found)["machine"] == {name: [factor]}
    assert score_checks([], {check.name: [run]}, known_profile()).machine == ()  # nothing to compare with


def checked_once() -> Checked:
    return Checked((CheckScore("x", "itl_mean_ms", Predicted(11.0, 9.0, 12.0), (9.5,)),), (("x", False, (False,)),))


def test_a_wrong_verdict_counts_as_wrong() -> None:
    found = Checked((), (("x", True, (False, True)),))
    assert found.verdicts_right == (1, 2)
    assert np.isnan(found.mean_error("itl_mean_ms"))


def test_a_profile_learns_how_far_off_it_was() -> None:
    measured = {f"c{i}": 10.0 * np.exp(error) for i, error in enumerate((-0.3, -0.2, -0.1, 0.1, 0.2, 0.3))}
    scores = tuple(CheckScore(n, "itl_mean_ms", Predicted(10.0, 9.0, 11.0), (value,)) for n, value in measured.items())
    checked = Checked(scores, tuple((name, False, (False,)) for name in measured))
    learned = with_measured_errors(known_profile(), checked)
    assert learned.uncertainty is not None
    assert learned.uncertainty.error("itl_mean_ms", "open", 0.5) == pytest.approx(0.2, abs=1e-3)
    assert learned.uncertainty.error("itl_mean_ms", "open", 0.95) > 0.3  # six do not show the largest
    simulated = Uncertainty(standard_errors={}, machine=0.1)
    unsteady = with_measured_errors(known_profile().model_copy(update={"uncertainty": simulated}), checked)
    assert unsteady.uncertainty is not None and unsteady.uncertainty.machine == 0.1
    expected = (0.2**2 - (0.6745 * 0.1) ** 2) ** 0.5  # the rest is simulated
    assert unsteady.uncertainty.error("itl_mean_ms", "open", 0.5) == pytest.approx(expected, abs=1e-3)
    assert "itl_mean_ms" not in learned.uncertainty.residual.get("saturated", {})
    assert "MAPE" in learned.card.held_out_error["itl_mean_ms, before the check was learned from"]
    assert isinstance(predict_check(checks()[0], learned, draws=2), CheckPrediction)
