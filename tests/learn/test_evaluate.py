"""Scores, folds and intervals."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.neighbors import KNeighborsRegressor

from loratwin.errors import InputError
from loratwin.learn.models.targets import TARGETS
from loratwin.learn.training.evaluate import (
    conformal_factor,
    coverage,
    f1,
    folds,
    half_smape,
    mape,
    out_of_fold,
    r_squared,
    score,
)
from loratwin.learn.training.problem import LearningProblem, group_numbers, workload_problem
from loratwin.learn.training.registry import REGISTRY, Member
from tests.learn.small import made_up


def test_errors_by_hand() -> None:
    truth, found = np.array([100.0, 200.0]), np.array([150.0, 200.0])
    assert half_smape(truth, found) == pytest.approx(100 * (50 / 250) / 2)
    assert half_smape(np.zeros(1), np.zeros(1)) == 0
    assert mape(truth, found) == pytest.approx(25)
    assert r_squared(truth, found) == pytest.approx(1 - 2500 / 5000)
    assert f1(np.array([True, True, False]), np.array([True, False, True])) == pytest.approx(0.5)


def test_a_group_is_never_on_both_sides() -> None:
    groups = np.array([0, 1, 2, 3, 4, 5] * 7)
    for learn, test in folds(groups, 3):
        assert not set(groups[learn]) & set(groups[test])
    with pytest.raises(InputError, match="6 different workloads are too few for 7 folds; simulate more"):
        folds(groups, 7)


def test_what_is_only_remembered_does_not_count() -> None:
    """The target is noise of each group: a model that remembers its neighbour is perfect unless groups are kept out."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(30), 4)
    x, y = groups[:, None] + rng.uniform(0, 0.1, (120, 1)), np.exp(rng.normal(size=30))[groups]
    problem = LearningProblem(TARGETS["served"], ("group",), x, y, groups, groups)
    member = Member(lambda problem: KNeighborsRegressor(1))
    found, _ = out_of_fold(member, problem)
    assert r_squared(np.log(y), np.log(found)) < 0.3
    remembered = KNeighborsRegressor(1).fit(x, y).predict(x)
    assert r_squared(y, remembered) > 0.99


def test_rates_make_the_groups_whatever_ranks_and_llm() -> None:
    cases = [each.case for each in made_up(4)]
    assert group_numbers([cases[0], cases[1], cases[0], cases[3]]).tolist() == [0, 1, 0, 2]


def test_the_conformal_factor_is_the_right_order_statistic() -> None:
    errors = np.arange(1, 20) / 100  # 19 cases: the 18th smallest holds 90 %
    truth = np.ones(19)
    assert conformal_factor(truth, np.exp(errors), 0.9) == pytest.approx(np.exp(0.18))
    assert conformal_factor(truth[:5], np.exp(errors[:5]), 0.9) == float("inf")


def test_intervals_hold_as_often_as_they_say() -> None:
    rng = np.random.default_rng(1)
    truth = np.exp(rng.normal(size=4000))
    found = truth * np.exp(0.2 * rng.standard_t(3, size=4000))
    assert coverage(truth, found, np.arange(4000) // 4) == pytest.approx(0.9, abs=0.02)


def test_scores_are_held_out_and_timed() -> None:
    problem = workload_problem("served", made_up(40))
    figures, found = score("linear", REGISTRY["linear"], problem)
    assert figures.half_smape == pytest.approx(half_smape(problem.y, found))
    assert figures.r2 > 0.9 and figures.num_rows == 40 and figures.predict_ms > 0
    baseline, _ = score("baseline", REGISTRY["baseline"], problem)
    assert figures.half_smape < baseline.half_smape
