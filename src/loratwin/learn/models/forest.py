"""Trees as arrays: predicted with numpy alone, stored without code."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError
from loratwin.learn.cases.case import F8

I4 = NDArray[np.int32]


@dataclass(frozen=True, eq=False)
class Forest:
    """The sum of a constant, of a linear part and of one leaf of each tree.

    A row goes left where its feature is at most the threshold.

    Parameters
    ----------
    slope
        Of the linear part, shape (num_features,).
    feature, threshold, left, right, value
        Of all nodes, shape (num_nodes,); a leaf has feature -1. `left` and `right` are indices of nodes.
    roots
        Index of each tree's first node, shape (num_trees,).
    """

    constant: float
    slope: F8
    feature: NDArray[np.int16]
    threshold: NDArray[np.float32]
    left: NDArray[np.uint16]
    right: NDArray[np.uint16]
    value: NDArray[np.float32]
    roots: I4

    def predict(self, x: F8) -> F8:
        """Shape (num_rows,) for features of shape (num_rows, num_features)."""
        num_rows = len(x)
        rows = np.arange(num_rows)[:, None]
        node = np.broadcast_to(self.roots, (num_rows, len(self.roots))).astype(np.int64)
        root = node.copy()
        inner = self.feature[node] >= 0
        while inner.any():
            goes_left = x[rows, np.maximum(self.feature[node], 0)] <= self.threshold[node]
            child = root + np.where(goes_left, self.left[node], self.right[node])
            node = np.where(inner, child, node)
            inner = self.feature[node] >= 0
        answers: F8 = self.constant + x @ self.slope + self.value[node].sum(axis=1, dtype=np.float64)
        return answers

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To be stored."""
        return {"constant": np.array(self.constant), **{name: getattr(self, name) for name in _TYPES}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], num_features: int) -> Forest:
        """From what `arrays` gave.

        Raises
        ------
        DataError
            An array is missing, or a node points nowhere.
        """
        missing = sorted({"constant", *_TYPES} - set(arrays))
        if missing:
            raise DataError(f"a forest without {missing[0]!r}")
        forest = cls(float(arrays["constant"]), **{name: arrays[name].astype(kind) for name, kind in _TYPES.items()})
        forest._check(num_features)
        return forest

    def _check(self, num_features: int) -> None:
        """Every path ends at a leaf: children lie behind their parent and inside the arrays."""
        num = len(self.feature)
        if len(self.slope) != num_features:
            raise DataError(f"a forest for {len(self.slope)} features, not {num_features}")
        if any(len(getattr(self, name)) != num for name in ("threshold", "left", "right", "value")):
            raise DataError("a forest whose arrays differ in length")
        starts = np.append(self.roots, num)
        if not len(self.roots) or self.roots[0] != 0 or (np.diff(starts) < 1).any():
            raise DataError("a forest whose trees overlap")
        size = np.repeat(np.diff(starts), np.diff(starts))
        place = np.arange(num) - np.repeat(self.roots, np.diff(starts))
        inner = self.feature >= 0
        for child in (self.left, self.right):
            if (child[inner] <= place[inner]).any() or (child[inner] >= size[inner]).any():
                raise DataError("a forest with a node that points nowhere")
        if (self.feature >= num_features).any():
            raise DataError(f"a forest that needs more than {num_features} features")


_TYPES: dict[str, Any] = {
    "slope": np.float64,
    "feature": np.int16,
    "threshold": np.float32,
    "left": np.uint16,
    "right": np.uint16,
    "value": np.float32,
    "roots": np.int32,
}


def from_boosting(model: Any, num_features: int, slope: F8 | None = None, constant: float = 0.0) -> Forest:
    """The trees of a fitted `HistGradientBoostingRegressor`, on top of a linear part."""
    trees = [predictors[0].nodes for predictors in model._predictors]
    nodes = np.concatenate(trees)
    leaf = nodes["is_leaf"].astype(bool)
    sizes = [len(tree) for tree in trees]
    return Forest(
        constant=constant + float(np.ravel(model._baseline_prediction)[0]),
        slope=np.zeros(num_features) if slope is None else slope,
        feature=np.where(leaf, -1, nodes["feature_idx"]).astype(np.int16),
        threshold=np.where(leaf, np.float32(0), _float32_above(nodes["num_threshold"])),
        left=nodes["left"].astype(np.uint16),
        right=nodes["right"].astype(np.uint16),
        value=np.where(leaf, nodes["value"], 0).astype(np.float32),
        roots=np.cumsum([0, *sizes[:-1]]).astype(np.int32),
    )


def _float32_above(thresholds: F8) -> NDArray[np.float32]:
    """Rounded to 32 bits, never down: a threshold may be a value that was learned from, which goes left."""
    with np.errstate(over="ignore"):
        rounded = thresholds.astype(np.float32)
    return np.where(rounded < thresholds, np.nextafter(rounded, np.float32(np.inf)), rounded)
