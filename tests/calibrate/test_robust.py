"""Robust non-negative regression: what it is robust against, what a prior does, and what is not linear."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from loratwin.calibrate.robust import Prior, fair, fair_loss, huber, least_squares, robust, spread
from loratwin.calibrate.speed_factor import Search, find_factor

F8 = NDArray[np.float64]

TRUTH = np.array([2.0, 0.0, 0.5])


def problem(noise: float = 0.0, seed: int = 0) -> tuple[F8, F8]:
    rng = np.random.default_rng(seed)
    columns = rng.uniform(0.5, 1.5, (200, 3)) * [1.0, 3.0, 1000.0]
    return columns, (columns @ TRUTH) * np.exp(noise * rng.standard_normal(200))


@given(seed=st.integers(0, 10**6))
@settings(max_examples=30, deadline=None)
def test_least_squares_are_scipys_whatever_the_units(seed: int) -> None:
    from scipy.optimize import nnls

    rng = np.random.default_rng(seed)
    columns = rng.standard_normal((30, 4))
    target, weight = rng.standard_normal(30), rng.uniform(0.1, 2.0, 30)
    root = np.sqrt(weight)
    expected = nnls(columns * root[:, None], target * root)[0]
    units = 10.0 ** rng.uniform(-6, 6, 4)
    np.testing.assert_allclose(least_squares(columns * units, target, weight) * units, expected, rtol=1e-8, atol=1e-10)


def test_a_column_of_nothing_has_no_value() -> None:
    columns, target = problem()
    columns[:, 1] = 0.0
    assert least_squares(columns, columns @ TRUTH, np.ones(200))[1] == 0.0
    assert target.any()


def test_of_two_columns_that_say_the_same_the_first_has_the_value() -> None:
    columns, target = problem(0.1)
    columns[:, 2] = 4 * columns[:, 0]
    for seed in range(20):
        weight = np.random.default_rng(seed).standard_exponential(200)
        values = least_squares(columns, target, weight)
        assert values[2] == 0.0 < values[0]


@pytest.mark.parametrize("kind", ["fair", "huber", "huber of a scale"])
def test_rows_far_off_pull_little(kind: str) -> None:
    columns, target = problem(0.01)
    spoilt = target.copy()
    spoilt[::10] *= 3
    pull = {"fair": fair(0.02), "huber": huber(2.0), "huber of a scale": huber(2.0, np.full(200, 0.01))}[kind]
    found = robust(columns, spoilt, np.ones(200), pull, 15)
    straight = least_squares(columns, spoilt, 1 / spoilt**2)
    assert np.abs(columns @ found.values / target - 1).max() < 0.03 < np.abs(columns @ straight / target - 1).max()
    assert found.weight[::10].max() < 0.2 * np.median(found.weight)
    assert (found.error[::10] > 1.5).all() and spread(found.error) < 0.02


@pytest.mark.parametrize("kind", ["fair", "huber"])
def test_it_is_the_minimum(kind: str) -> None:
    """The loss's slope in every value that is not at 0 vanishes, of rows whose targets span three powers of ten."""
    columns, target = problem(0.05)
    scale = 10.0 ** np.random.default_rng(2).uniform(-3, 0, 200)
    columns, target = columns * scale[:, None], target * scale
    pull = fair(0.02) if kind == "fair" else huber(2.0, np.full(200, 0.02))
    found = robust(columns, target, np.ones(200), pull, 200, unit=target)
    relative = columns / target[:, None]
    slope = (pull(found.error) * found.error) @ relative / np.abs(relative).sum(axis=0)
    assert np.abs(slope[found.values > 0]).max() < 1e-6
    assert pull(np.zeros(200)) == pytest.approx(1.0) and (pull(np.ones(200)) <= 0.05).all()


def test_no_value_is_negative() -> None:
    columns, _ = problem()
    found = robust(columns, columns @ np.array([2.0, -0.1, 0.5]), np.ones(200), huber(2.0), 6)
    assert found.values.min() == 0.0 == found.values[1]


def test_errors_are_relative_to_what_is_said() -> None:
    columns, target = problem(0.1)
    found = robust(columns, target, np.ones(200), fair(0.02), 12, unit=target)
    np.testing.assert_allclose(found.error, (target - columns @ found.values) / target)
    found = robust(columns, target, np.ones(200), fair(0.02), 12)
    np.testing.assert_allclose(found.error, target / (columns @ found.values) - 1)


def test_a_weight_is_as_good_as_so_many_rows() -> None:
    columns, target = problem(0.1)
    times = np.random.default_rng(1).integers(1, 4, 200)
    weighted = robust(columns, target, times.astype(float), fair(0.02), 12, unit=target)
    repeated = np.repeat(np.arange(200), times)
    twice = robust(columns[repeated], target[repeated], np.ones(len(repeated)), fair(0.02), 12, unit=target[repeated])
    np.testing.assert_allclose(weighted.values, twice.values, rtol=1e-9)


def test_a_prior_decides_what_the_rows_do_not_tell() -> None:
    columns, _ = problem()
    columns[:, 1] = 0.0
    target = columns @ TRUTH
    prior = Prior(centre=np.array([9.0, 7.0, 9.0]), width=np.array([9.0, 7.0, 9.0]))
    found = robust(columns, target, np.full(200, 1e6), huber(2.0), 10, prior=prior, first=prior.centre)
    assert found.values == pytest.approx([2.0, 7.0, 0.5], rel=1e-3)
    firm = Prior(prior.centre, prior.width * 1e-6)
    held = robust(columns, target, np.full(200, 1.0), huber(2.0), 10, prior=firm, first=prior.centre)
    assert held.values == pytest.approx(prior.centre, rel=1e-3)


def test_what_is_homogeneous_is_found_by_its_derivatives() -> None:
    """sqrt((a x)^2 + (b y)^2), as the roofline is."""
    x, y = np.random.default_rng(0).uniform(0.1, 2.0, (2, 100))

    def columns(values: F8) -> F8:
        a, b = np.maximum(values, 1e-9)
        norm = np.hypot(a * x, b * y)
        return np.column_stack([a * x**2 / norm, b * y**2 / norm])

    target = np.hypot(3.0 * x, 0.7 * y)
    found = robust(columns, target, np.ones(100), huber(2.0), 25, first=np.ones(2))
    assert found.values == pytest.approx([3.0, 0.7], rel=1e-6)


def test_the_losses_slope_is_its_pull() -> None:
    error = np.linspace(0.001, 0.5, 50)
    slope = (fair_loss(error + 1e-7, 0.02) - fair_loss(error - 1e-7, 0.02)) / 2e-7
    np.testing.assert_allclose(slope * 0.02**2, fair(0.02)(error) * error, rtol=1e-5)


@pytest.mark.parametrize(("exponent", "true"), [(1.0, 0.3), (2.5, 1.7), (0.6, 2.0)])
def test_the_factor_is_found_with_few_tries(exponent: float, true: float) -> None:
    tried = []

    def serve(factor: float) -> tuple[float, float]:
        tried.append(factor)
        return factor, exponent * float(np.log(factor / true))

    found = find_factor(serve, Search(close=0.002, most_tries=8, most_step=0.5), 1.2)
    assert found.factor == pytest.approx(true, rel=0.005) and found.twin == found.factor
    assert abs(found.residual) < 0.002 and tried[0] == 1.0 and len(tried) < 8


@pytest.mark.parametrize("sign", [1, -1])
def test_the_best_try_counts_where_none_is_near_enough(sign: int) -> None:
    residuals = iter([0.5 * sign, -0.1 * sign, 0.9 * sign, 0.8 * sign])
    tried = []

    def serve(factor: float) -> tuple[int, float]:
        tried.append(factor)
        return len(tried), next(residuals)

    found = find_factor(serve, Search(close=0.01, most_tries=4, most_step=0.3), 1.0)
    assert (found.twin, found.residual, found.factor) == (2, -0.1 * sign, tried[1])
    assert max(abs(np.diff(np.log(tried)))) <= 0.3 + 1e-12
