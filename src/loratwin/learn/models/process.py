"""A Gaussian process as arrays: what an estimate leaves over, smooth between the workloads learned from.

Its mean is predicted with numpy alone and stored without code. Far from everything learned from it is the estimate,
times a constant: what was learned fades.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError
from loratwin.learn.cases.case import F8


@dataclass(frozen=True, eq=False)
class Process:
    """The sum of a constant, of a linear part and of a bump around each point.

    A bump is Matérn's with nu = 3/2: (1 + sqrt(3) r) exp(-sqrt(3) r) at distance r (Rasmussen and Williams 2006, 4.17).

    Parameters
    ----------
    slope
        Of the linear part, shape (num_features,): the estimate that the points correct.
    columns, scale
        Features that distance is measured in, and the inverse of the length scale of each, shape (num_columns,).
    points
        Features of the points times `scale`, shape (num_points, num_columns).
    weight
        Heights of the bumps, shape (num_points,).
    """

    constant: float
    slope: F8
    columns: NDArray[np.int16]
    scale: F8
    points: NDArray[np.float32]
    weight: F8

    def predict(self, x: F8) -> F8:
        """Shape (num_rows,) for features of shape (num_rows, num_features)."""
        wanted = x[:, self.columns] * self.scale
        bumps = np.array([self._bumps(row) for row in wanted])
        total: F8 = self.constant + x @ self.slope + bumps
        return total

    def _bumps(self, row: F8) -> float:
        away = self.points - row
        r = sqrt(3) * np.sqrt(np.einsum("ij,ij->i", away, away))
        return float(((1 + r) * np.exp(-r)) @ self.weight)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """To be stored."""
        return {"constant": np.array(self.constant), **{name: getattr(self, name) for name in _TYPES}}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], num_features: int) -> Process:
        """From what `arrays` gave.

        Raises
        ------
        DataError
            An array is missing, of another shape, or holds no numbers.
        """
        missing = sorted({"constant", *_TYPES} - set(arrays))
        if missing:
            raise DataError(f"a process without {missing[0]!r}")
        process = cls(float(arrays["constant"]), **{name: arrays[name].astype(kind) for name, kind in _TYPES.items()})
        process._check(num_features)
        return process

    def _check(self, num_features: int) -> None:
        if self.slope.shape != (num_features,):
            raise DataError(f"a process for {self.slope.size} features, not {num_features}")
        if self.points.shape != (len(self.weight), len(self.columns)) or self.scale.shape != self.columns.shape:
            raise DataError("a process whose arrays differ in length")
        if not ((self.columns >= 0) & (self.columns < num_features)).all():
            raise DataError(f"a process that needs more than {num_features} features")
        if not all(
            np.isfinite(part).all() for part in (self.constant, self.slope, self.scale, self.points, self.weight)
        ):
            raise DataError("a process with a value that is no number")


_TYPES: dict[str, Any] = {
    "slope": np.float64,
    "columns": np.int16,
    "scale": np.float64,
    "points": np.float32,
    "weight": np.float64,
}


def from_regression(model: Any) -> Process:
    """What a fitted `registry.EstimateProcess` predicts; its `nu` must be 3/2.

    The regression works on features less their mean over their standard deviation; distances need the latter only.
    """
    kernel = model.regression_.kernel_
    bump = kernel.k1.k2
    if bump.nu != 1.5:
        raise DataError(f"a process of nu {bump.nu}; only 1.5 is stored")
    columns = np.asarray(model.columns_, dtype=np.int16)
    scale = 1 / (model.spread_ * np.broadcast_to(bump.length_scale, columns.shape))
    points = model.regression_.X_train_ * model.spread_ + model.centre_
    return Process(
        constant=float(model.constant_),
        slope=np.asarray(model.slope_, dtype=float),
        columns=columns,
        scale=scale,
        points=(points * scale).astype(np.float32),
        weight=np.ravel(model.regression_.alpha_) * kernel.k1.k1.constant_value,
    )
