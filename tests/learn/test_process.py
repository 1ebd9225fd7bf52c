"""A Gaussian process as arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from loratwin.errors import DataError
from loratwin.learn.models.process import Process, from_regression
from loratwin.learn.training.evaluate import one_thread
from loratwin.learn.training.registry import EstimateProcess

RNG = np.random.default_rng(0)
X = np.column_stack([RNG.normal(size=80), RNG.uniform(5, 9, 80), np.full(80, 3.0)])
Y = X[:, 0] ** 2 + 0.7 * X[:, 1]


def fitted(**settings: Any) -> EstimateProcess:
    with one_thread():
        return EstimateProcess((0.0, 0.7, 0.0), **settings).fit(X, Y)


def by_hand() -> Process:
    """1 + 2 x0, a bump of 10 where x1 = 5 and one of -3 where x1 = 6; x1 in halves."""
    return Process(
        constant=1.0,
        slope=np.array([2.0, 0.0]),
        columns=np.array([1], np.int16),
        scale=np.array([2.0]),
        points=np.array([[10.0], [12.0]], np.float32),
        weight=np.array([10.0, -3.0]),
    )


def test_by_hand() -> None:
    bump = (1 + np.sqrt(12)) * np.exp(-np.sqrt(12))  # at distance 2
    assert by_hand().predict(np.array([[7.0, 5.0], [0.0, 6.0], [1.0, 1e6]])).tolist() == pytest.approx([
        1 + 14 + 10 - 3 * bump, 1 - 3 + 10 * bump, 1 + 2,
    ])  # fmt: skip


def rounding_of_points(process: Process) -> float:
    """How far a prediction may be off since the points are stored in single precision.

    Each moves by at most 2**-24 of its distance from 0, and a bump nowhere falls faster than sqrt(3) / e. The other
    operations are of double precision, some 2**29 times as exact: for them we round 0.64 up to 0.7.
    """
    moved = 2.0**-24 * np.linalg.norm(process.points, axis=1)
    return 0.7 * float(np.abs(process.weight) @ moved)


@pytest.mark.parametrize("columns", [(), (0,), (2, 0)])
def test_it_predicts_what_scikit_learn_predicts(columns: tuple[int, ...]) -> None:
    """With a kernel that is given: the likeliest has next to no noise, and weights of 1e6 that magnify rounding."""
    lengths = np.linspace(0.5, 2.0, len(columns) or 3)
    model = fitted(columns=columns, kernel=ConstantKernel(2.0) * Matern(lengths, nu=1.5) + WhiteKernel(0.1))
    new = X + np.array([0.1, 1.0, 0.0])
    process = from_regression(model)
    assert rounding_of_points(process) < 1e-5  # of values near 6
    assert np.abs(process.predict(new) - model.predict(new)).max() <= rounding_of_points(process)


def test_what_was_stored_comes_back() -> None:
    process = from_regression(fitted())
    again = Process.from_arrays(process.arrays(), 3)
    assert np.array_equal(again.predict(X), process.predict(X))


def test_another_kernel_is_not_stored() -> None:
    with pytest.raises(DataError, match=r"a process of nu 2.5; only 1.5 is stored"):
        from_regression(fitted(nu=2.5))


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slope", np.zeros(3), "a process for 3 features, not 2"),
        ("columns", np.array([2], np.int16), "a process that needs more than 2 features"),
        ("columns", np.array([-1], np.int16), "a process that needs more than 2 features"),
        ("scale", np.ones(2), "a process whose arrays differ in length"),
        ("weight", np.ones(3), "a process whose arrays differ in length"),
        ("points", np.ones((2, 2), np.float32), "a process whose arrays differ in length"),
        ("weight", np.array([1.0, np.nan]), "a process with a value that is no number"),
    ],
)
def test_damaged_arrays_are_refused(name: str, value: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        Process.from_arrays({**by_hand().arrays(), name: value}, 2)


def test_missing_arrays_are_refused() -> None:
    arrays = {name: array for name, array in by_hand().arrays().items() if name != "weight"}
    with pytest.raises(DataError, match="a process without 'weight'"):
        Process.from_arrays(arrays, 2)
