"""Trees as arrays."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.ensemble import HistGradientBoostingRegressor

from loratwin.errors import DataError
from loratwin.learn.models.forest import Forest, from_boosting
from loratwin.learn.training.evaluate import one_thread

RNG = np.random.default_rng(0)
X = RNG.normal(size=(400, 3))
Y = X[:, 0] ** 2 + np.sign(X[:, 1])
with one_thread():
    MODEL = HistGradientBoostingRegressor(max_iter=20, max_leaf_nodes=8, early_stopping=False).fit(X, Y)


def by_hand() -> Forest:
    """Two trees: x0 <= 1 ? 10 : (x1 <= 0 ? 20 : 30), and 100 always; 1 + 2 x0 besides."""
    return Forest(
        constant=1.0,
        slope=np.array([2.0, 0.0]),
        feature=np.array([0, -1, 1, -1, -1, -1], np.int16),
        threshold=np.array([1, 0, 0, 0, 0, 0], np.float32),
        left=np.array([1, 0, 3, 0, 0, 0], np.uint16),
        right=np.array([2, 0, 4, 0, 0, 0], np.uint16),
        value=np.array([0, 10, 0, 20, 30, 100], np.float32),
        roots=np.array([0, 5], np.int32),
    )


def test_by_hand() -> None:
    x = np.array([[1.0, 5.0], [1.1, 0.0], [2.0, 0.1]])
    assert by_hand().predict(x).tolist() == pytest.approx([1 + 2 + 110, 1 + 2.2 + 120, 1 + 4 + 130])


def test_it_predicts_what_scikit_learn_predicts() -> None:
    assert from_boosting(MODEL, 3).predict(X) == pytest.approx(MODEL.predict(X), abs=1e-5)
    line = from_boosting(MODEL, 3, np.array([1.0, 0, 0]), 5.0)
    assert line.predict(X) == pytest.approx(MODEL.predict(X) + X[:, 0] + 5, abs=1e-5)


def test_what_was_stored_comes_back() -> None:
    forest = from_boosting(MODEL, 3)
    assert np.array_equal(Forest.from_arrays(forest.arrays(), 3).predict(X), forest.predict(X))


@pytest.mark.parametrize(
    ("name", "at", "value", "message"),
    [
        ("left", 0, 9, "a node that points nowhere"),
        ("right", 2, 2, "a node that points nowhere"),
        ("feature", 0, 2, "needs more than 2 features"),
        ("roots", 0, 1, "whose trees overlap"),
    ],
)
def test_a_forest_that_would_not_end_is_refused(name: str, at: int, value: int, message: str) -> None:
    arrays = by_hand().arrays()
    arrays[name] = arrays[name].copy()
    arrays[name][at] = value
    with pytest.raises(DataError, match=message):
        Forest.from_arrays(arrays, 2)


def test_missing_and_short_arrays_are_refused() -> None:
    arrays = by_hand().arrays()
    with pytest.raises(DataError, match="a forest without 'left'"):
        Forest.from_arrays({name: array for name, array in arrays.items() if name != "left"}, 2)
    with pytest.raises(DataError, match="a forest whose arrays differ in length"):
        Forest.from_arrays({**arrays, "value": arrays["value"][:-1]}, 2)
    with pytest.raises(DataError, match="a forest for 2 features, not 3"):
        Forest.from_arrays(arrays, 3)
