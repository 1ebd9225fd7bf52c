"""One contract for every model; none is missing."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import DataError, UnknownNameError
from loratwin.learn.evaluate import fitted, one_thread, predicted
from loratwin.learn.features import CONFIGURATION, PUBLISHED
from loratwin.learn.problem import (
    LOG_WORKLOAD,
    Problem,
    configuration_problem,
    known_target,
    workload_problem,
)
from loratwin.learn.registry import REGISTRY, BoostedRidge, CapacityOverRate
from tests.learn.small import made_up

EXPLORED = made_up(48)


def test_no_model_is_missing() -> None:
    assert set(REGISTRY) == {
        "baseline", "linear", "ridge", "bayesian ridge", "partial least squares", "decision tree", "random forest",
        "gradient boosting", "boosted ridge", "RuleFit", "FIGS", "explainable boosting", "k-nearest neighbours",
    }  # fmt: skip


@pytest.mark.parametrize("name", REGISTRY)
def test_every_model_learns_and_predicts(name: str) -> None:
    problem = workload_problem("served", EXPLORED)
    model = fitted(REGISTRY[name], problem)
    found = predicted(model, problem, problem.x)
    assert found.shape == problem.y.shape and (found > 0).all()
    within = np.median(np.abs(np.log(found / problem.y)))
    assert within < (0.15 if name != "baseline" else 0.3)
    if name == "RuleFit":
        return  # a second fit takes seconds
    again = predicted(fitted(REGISTRY[name], problem), problem, problem.x)
    assert np.allclose(found, again, rtol=0.2 if name == "FIGS" else 0)  # FIGS breaks ties at random


def test_the_baseline_is_capacity_over_rate() -> None:
    x, y = np.log([[1.0], [2.0], [4.0]]), np.log([40.0, 20.0, 12.0])
    model = CapacityOverRate(0).fit(x, y)
    assert model.capacity_ == pytest.approx(40)
    assert np.exp(model.predict(np.log([[8.0]]))) == pytest.approx(5)
    plain = CapacityOverRate(0, log_rate=False, log_target=False).fit(np.array([[2.0]]), np.array([10.0]))
    assert plain.predict(np.array([[4.0]])) == pytest.approx(5)


@pytest.mark.parametrize("sign", [-1, 1])
def test_the_boosted_ridge_keeps_the_signs_it_is_given(sign: int) -> None:
    rng = np.random.default_rng(0)
    x = rng.uniform(0, 1, (300, 2))
    y = 2 * x[:, 0] - x[:, 1] + 0.3 * np.sin(9 * x[:, 0]) + rng.normal(0, 0.1, 300)
    with one_thread():  # as everywhere else: on a busy machine OpenMP's threads wait for each other
        model, other = BoostedRidge((sign, 0)).fit(x, y), BoostedRidge((0, -1)).fit(x, y)
    line = np.column_stack([np.linspace(0, 1, 50), np.full(50, 0.5)])
    assert (sign * np.diff(model.predict(line)) >= -1e-9).all()
    assert model.slope_[0] == pytest.approx(2 if sign == 1 else 0, abs=0.7) and model.slope_[1] < -0.5
    assert other.slope_ == pytest.approx([2, -1], abs=0.7)


def test_problems_have_their_features() -> None:
    ours, theirs = workload_problem("served", EXPLORED), workload_problem("served", EXPLORED, published=True)
    assert ours.names == LOG_WORKLOAD and theirs.names == PUBLISHED
    assert ours.x.shape == (48, len(LOG_WORKLOAD)) and theirs.x.shape == (48, 8)
    assert set(theirs.y) <= {16, 32, 64, 96, 128, 160, 192, 256, 320, 384}
    assert dict(zip(ours.names, ours.monotone, strict=True))["log_of_rate_mean"] == -1


def test_a_problem_of_servers_has_a_row_for_each_that_starts() -> None:
    problem = configuration_problem("share", EXPLORED)
    assert problem.names == CONFIGURATION
    assert len(problem.y) == sum(row.share > 0 for each in EXPLORED for row in each.rows)
    sample = configuration_problem("share", EXPLORED, most_rows=200)
    assert 140 < len(sample.y) < 260 and set(sample.y) <= set(problem.y)
    one: Problem = sample.rows(sample.cases == sample.cases[0])
    assert len(set(one.groups)) == 1


def test_targets_that_nothing_has_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown target 'serve'. Did you mean 'served'"):
        known_target("serve")
    with pytest.raises(DataError, match="no simulated workload has the target 'served'"):
        workload_problem("served", [type(each)(each.case, each.rows[:1]) for each in EXPLORED])
