"""The fit of logged steps: a known server's coefficients come back, what nothing shows is said, noise is survived."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.calibrate.steps.fit import StepFit, fit_steps
from loratwin.calibrate.steps.rows import STEP_LINEAR, STEPS_PER_ROW, StepRows, step_features, step_rows
from loratwin.errors import DataError
from loratwin.kernel import StepFeatures, step_time_s
from tests.calibrate.known_steps import STEP_TIME, known_profile, known_runs

BEHAVIOUR = known_profile().behaviour


def rows(noise: float = 0.0, but: str = "nothing") -> StepRows:
    runs = [(name, run) for name, run in known_runs(noise).items() if but not in name]
    return step_rows(runs, BEHAVIOUR, 0.0)


@pytest.mark.parametrize("name", ["few-changing", "many-full", "rank-disk", "few-base", "few-prompts"])
def test_the_features_are_those_of_the_kernel(name: str) -> None:
    run = known_runs()[name]
    steps = run.steps
    assert steps is not None
    linear = np.array([getattr(STEP_TIME, each) for each in STEP_LINEAR])
    dense = STEP_TIME.weights_s + STEP_TIME.token_s * (steps.decode_requests + steps.prefill_tokens)
    found = dense + step_features(run, BEHAVIOUR, 0.0) @ linear
    cost = STEP_TIME.resolve(run.config.max_loras, run.config.max_lora_rank, BEHAVIOUR)
    names = set(StepFeatures._fields) & set(steps.column_types())
    for i in range(0, len(steps), 7):
        known = {key: int(getattr(steps, key)[i]) for key in names}
        has = known["prefill_tokens"] if known["distinct_adapters"] else 0
        decodes = known["decode_requests"] if known["distinct_adapters"] else 0
        step = StepFeatures(**known, lora_decode_requests=decodes, lora_prefill_tokens=has)
        assert found[i] == pytest.approx(step_time_s(cost, step), rel=1e-9)


def test_a_known_servers_coefficients_come_back() -> None:
    found = fit_steps(rows(), 0.0, draws=8)
    for name in ("weights_s", "slot_s", "adapter_s", "slot_rank_s", "skipped_s", "lora_decode_s"):
        assert getattr(found.model, name) == pytest.approx(getattr(STEP_TIME, name), rel=0.03), name
    assert found.swap_extra_s == pytest.approx(4e-3, rel=0.03)  # the log has no time of the loads: all is extra
    assert found.between_runs < 0.005


def of_runs_s(fit: StepFit, truth: StepRows) -> dict[str, float]:
    """Predicted time of each run's steps."""
    dense = fit.model.weights_s * (1 + truth.tokens / (fit.model.weights_s / fit.model.token_s)).mean(axis=1)
    linear = np.array([getattr(fit.model, name) for name in STEP_LINEAR])
    predicted = dense + truth.features @ linear + fit.swap_extra_s * truth.swap_ins
    return {name: float(predicted[truth.run == i].sum()) for i, name in enumerate(truth.names)}


def test_noise_widens_the_errors_and_hardly_moves_the_predictions() -> None:
    noisy, clean = fit_steps(rows(noise=0.2), 0.0, draws=30), fit_steps(rows(), 0.0, draws=30)
    truth = rows()
    predicted = of_runs_s(noisy, truth)
    for i, name in enumerate(truth.names):
        mine = truth.run == i
        mean = np.exp(0.2**2 / 2)  # of a factor whose logarithm is normal around 0
        assert predicted[name] == pytest.approx(mean * truth.duration_s[mine].sum(), rel=0.1), name
    assert noisy.draws["weights_s"].std() > 10 * clean.draws["weights_s"].std()
    assert 0.02 < noisy.spread < 0.2  # of rows: means of eight steps
    assert noisy.between_runs < 0.05
    assert noisy.model.slot_s > 0 and noisy.model.adapter_s > 0


def test_a_coefficient_that_no_run_shows_is_named_and_0() -> None:
    found = fit_steps(rows(but="rank-"), 0.0, draws=2)
    assert found.model.slot_rank_s == found.model.adapter_rank_s == 0.0
    assert "always together with" in found.unknown["adapter_rank_s"]
    assert "always together with" in found.unknown["eager_s"]


def test_a_disturbed_stretch_of_time_pulls_little() -> None:
    clean = rows()
    duration = clean.duration_s.copy()
    duration[10:20] *= 30
    disturbed = StepRows(clean.features, duration, clean.tokens, clean.swap_ins, clean.run, clean.names)
    found = fit_steps(disturbed, 0.0, draws=2)
    assert found.num_outliers >= 10
    for name, seconds in of_runs_s(found, clean).items():
        assert seconds == pytest.approx(clean.duration_s[clean.run == clean.names.index(name)].sum(), rel=0.03), name


def test_too_few_steps_are_refused() -> None:
    few = rows().take(np.arange(len(rows())) < 10)
    with pytest.raises(DataError, match="10 rows of steps are too few"):
        fit_steps(few, 0.0)


def test_rows_are_means_and_runs_count_the_same() -> None:
    found = rows()
    run = known_runs()["few-single"].steps
    assert run is not None
    first = int(np.flatnonzero(found.run == found.names.index("few-single"))[0])
    # back-to-back steps last until the next begins, and the twin has no gaps
    assert found.duration_s[first] == pytest.approx(run.duration_s[:STEPS_PER_ROW].mean())
    total = np.bincount(found.run, found.weight)
    assert total == pytest.approx(np.full(len(found.names), total[0]))
