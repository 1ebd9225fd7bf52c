"""One contract for every model; none is missing."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from loratwin.errors import DataError, UnknownNameError
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.search import SimulatedHour
from loratwin.learn.models.features import CONFIGURATION, LOG_WORKLOAD, PUBLISHED
from loratwin.learn.models.targets import known_target
from loratwin.learn.training.evaluate import fitted, one_thread, predicted
from loratwin.learn.training.problem import LearningProblem, configuration_problem, workload_problem
from loratwin.learn.training.registry import REGISTRY, BoostedRidge, CapacityOverRate, EstimateProcess
from tests.learn.small import made_up, minute_case
from tests.slow import SLOW, slow

EXPLORED = made_up(48)
LONG = ("RuleFit", "FIGS", "explainable boosting")
"""Of other libraries, compared with ours in a table and never shipped."""


def test_no_model_is_missing() -> None:
    assert set(REGISTRY) == {
        "baseline", "linear", "ridge", "bayesian ridge", "partial least squares", "decision tree", "random forest",
        "gradient boosting", "boosted ridge", "Gaussian process", "RuleFit", "FIGS", "explainable boosting",
        "k-nearest neighbours",
    }  # fmt: skip


@pytest.mark.parametrize("name", [pytest.param(name, marks=[slow] if name in LONG else []) for name in REGISTRY])
def test_every_model_learns_and_predicts(name: str) -> None:
    problem = workload_problem("served", EXPLORED)
    model = fitted(REGISTRY[name], problem)
    found = predicted(model, problem, problem.x)
    assert found.shape == problem.y.shape and (found > 0).all()
    within = np.median(np.abs(np.log(found / problem.y)))
    assert within < (0.15 if name != "baseline" else 0.3)
    if not SLOW:
        return
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


def test_the_process_learns_what_the_estimate_leaves_over() -> None:
    """Near its rows the process knows the curve; far away it is the estimate times what it is wrong by on average."""
    rng = np.random.default_rng(0)
    x = np.column_stack([rng.uniform(0, 3, 120), rng.normal(size=120)])
    y = 2 * x[:, 0] + 0.5 + 0.3 * np.sin(3 * x[:, 0])
    with one_thread():
        model = EstimateProcess((2.0, 0.0)).fit(x, y)
        alone = EstimateProcess((2.0, 0.0), columns=(1,), kernel=ConstantKernel(1.0) * Matern() + WhiteKernel(1.0))
        alone.fit(x, y)
    near, far = np.array([[1.3, 0.0]]), np.array([[1e4, 0.0]])
    assert model.predict(near)[0] == pytest.approx(2.6 + 0.5 + 0.3 * np.sin(3.9), abs=0.02)
    assert model.predict(far)[0] == pytest.approx(2e4 + np.mean(y - 2 * x[:, 0]), abs=1e-3)
    moved = alone.predict(near) - alone.predict(np.array([[0.3, 0.0]]))
    assert moved[0] == pytest.approx(2.0)  # it does not see the first feature; the estimate does
    assert alone.regression_.kernel_.k2.noise_level == 1.0  # a kernel that is given is kept


def test_load_and_ranks_move_a_smooth_model_through_the_estimate_only() -> None:
    problem = workload_problem("served", EXPLORED)
    seen = [problem.names[i] for i in problem.smooth]
    assert "log_of_estimated_adapters" in seen and "log_of_output_mean" in seen
    unseen = {"rate_mean", "tokens_per_s", "kv_per_adapter", "rank_max", "rank_mean"}
    assert not {f"log_of_{name}" for name in unseen} & set(seen)
    assert dict(zip(problem.names, problem.estimate, strict=True))["log_of_estimated_adapters"] == 1
    theirs = workload_problem("served", EXPLORED, published=True)
    assert len(theirs.smooth) == 8 and not theirs.estimate.any()


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
    one: LearningProblem = sample.rows(sample.cases == sample.cases[0])
    assert len(set(one.groups)) == 1


def test_a_server_is_seen_with_the_rates_of_its_own_adapters() -> None:
    case = minute_case()
    problem = configuration_problem("share", [Explored(case, tuple(server(n) for n in (1, 3, 30)))])
    requests = np.exp(problem.x[:, problem.names.index("log_requests_per_s")])
    assert requests == pytest.approx([1.0, 0.5 + 2 * 1.0, 30 * 0.75])


def server(adapters: int) -> SimulatedHour:
    return SimulatedHour(adapters, 1, 1000, offered=1.0, throughput=1.0, share=1.0)


def test_targets_that_nothing_has_are_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown target 'serve'. Did you mean 'served'"):
        known_target("serve")
    with pytest.raises(DataError, match="no simulated workload has the target 'served'"):
        workload_problem("served", [type(each)(each.case, each.rows[:1]) for each in EXPLORED])
