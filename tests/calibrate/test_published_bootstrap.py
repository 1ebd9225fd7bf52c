"""The bootstrap: whole workloads, the same figures each time, errors that are as large as the noise put in."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.calibrate.published.bootstrap import bootstrap, resampled, step_time_uncertainty
from loratwin.calibrate.published.rows import LINEAR, TableRows
from loratwin.calibrate.published.start import SHAPES, starting_profile
from loratwin.perf import StepTimeModel

TRUTH = starting_profile(SHAPES[0]).step_time
WORKLOADS = frozenset(f"workload {i}" for i in range(8))


def rows(noise: float, seed: int = 0, workload_noise: float = 0.0) -> TableRows:
    """Rows of a server that is as TRUTH says: 8 workloads of 12 runs, 20 micro measurements."""
    rng = np.random.default_rng(seed)
    n = 8 * 12 + 20
    features = rng.uniform(0.0, 1.0, (n, len(LINEAR))) * [
        200,
        5e4,
        0,
        1,
        1,
        50,
        1,
        64,
        64,
        256,
        40,
        40,
        80,
        40,
        500,
        500,
    ]
    tokens = tuple(rng.integers(1, 400, 30).astype(np.float64) for _ in range(n))
    group = [f"workload {i // 12}" for i in range(96)] + ["decode"] * 20
    known = np.zeros(n)
    power = TRUTH.roofline_power
    dense = np.array([np.mean((TRUTH.weights_s**power + (TRUTH.token_s * t) ** power) ** (1 / power)) for t in tokens])
    duration = dense + features @ np.array([getattr(TRUTH, name) for name in LINEAR])
    of_workload = {name: rng.normal(0.0, workload_noise) for name in sorted(WORKLOADS)}
    duration *= np.exp(rng.normal(0.0, noise, n) + [of_workload.get(name, 0.0) for name in group])
    return TableRows(features, duration, known, tokens, np.ones(n), tuple(group))


def test_workloads_are_drawn_as_a_whole_and_micro_measurements_one_by_one() -> None:
    evidence = rows(0.01)
    drawn = resampled(evidence, WORKLOADS, np.random.default_rng(1))
    weights = {name: {w for w, g in zip(drawn.weight, drawn.group, strict=True) if g == name} for name in drawn.group}
    for name in WORKLOADS & set(drawn.group):
        assert drawn.group.count(name) == 12
        assert len(weights[name]) == 1, "a workload's rows count equally often"
    assert sum(drawn.weight[[g in WORKLOADS for g in drawn.group]]) == 96
    assert sum(drawn.weight[[g == "decode" for g in drawn.group]]) == 20
    assert len(weights["decode"]) > 1, "some micro measurements count twice"
    assert len(drawn.tokens) == len(drawn.features) == len(drawn.duration_s) == len(drawn.weight)


def test_the_same_seed_gives_the_same_repetitions() -> None:
    one, two = (bootstrap(rows(0.01), WORKLOADS, TRUTH, repetitions=2, seed=3) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, bootstrap(rows(0.01), WORKLOADS, TRUTH, repetitions=2, seed=4))


def errors(evidence: TableRows) -> dict[str, float]:
    return step_time_uncertainty(evidence, WORKLOADS, TRUTH, repetitions=12).standard_errors


def test_noisier_measurements_are_less_certain() -> None:
    calm, noisy = errors(rows(0.005)), errors(rows(0.05))
    for name in ("step_time.weights_s", "step_time.adapter_s"):
        assert noisy[name] > 3 * calm[name]


def test_workloads_that_err_together_are_less_certain_than_runs_that_err_alone() -> None:
    together, alone = errors(rows(0.001, workload_noise=0.03)), errors(rows(0.03))
    independent = replace(rows(0.001, workload_noise=0.03), group=tuple(f"run {i}" for i in range(116)))
    assert together["step_time.weights_s"] > 0.5 * alone["step_time.weights_s"]
    singly = step_time_uncertainty(independent, frozenset(independent.group), TRUTH, repetitions=12).standard_errors
    assert together["step_time.weights_s"] > singly["step_time.weights_s"]


def test_the_truth_is_rarely_far() -> None:
    """Five measurements of the same server: the adapter's cost is within two standard errors, nearly always."""
    misses = 0
    for seed in range(5):
        evidence = rows(0.02, seed)
        found = bootstrap(evidence, WORKLOADS, TRUTH, repetitions=10, seed=seed)
        column = list(StepTimeModel.model_fields).index("adapter_s")
        misses += abs(found[:, column].mean() - TRUTH.adapter_s) > 2.5 * found[:, column].std()
    assert misses <= 1


def test_what_the_regression_takes_as_given_has_an_error_by_judgement() -> None:
    known = step_time_uncertainty(rows(0.01), WORKLOADS, TRUTH, repetitions=6)
    assert known.standard_errors["step_time.context_s"] == 0.15 * TRUTH.context_s
    assert "step_time.context_s" not in known.correlated
    assert "step_time.graph_tokens" not in known.standard_errors
    assert len(known.correlation) == len(known.correlated) > 3
