"""Robust non-negative regression, the one behind all fits.

    minimise  sum over rows  weight x loss(error)
            + sum over columns  ((value - centre) / width)^2,       no value negative

by iterated non-negative least squares (Lawson and Hanson 1974): the error of a row is relative, and what a far row
pulls with is bounded: its weight falls with its error (Fair's and Huber's functions: Holland and Welsch 1977).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.metrics.intervals import t_quantile
from loratwin.perf.uncertainty import LEVELS, Quantiles

F8 = NDArray[np.float64]

Pull = Callable[[F8], F8]
"""Factor of a row's weight by its error, 1 at an error of 0. Shape (rows,)."""

_LEAST = 1e-3
"""Part of the target that a prediction counts as at least: an error relative to nothing says nothing."""


def fair(scale: float) -> Pull:
    """Fair's: 1 / (1 + |error| / scale); the loss is `fair_loss`."""
    return lambda error: np.asarray(1 / (1 + np.abs(error) / scale))


def fair_loss(error: F8, scale: float) -> F8:
    """What `fair` minimises: a square for small errors, straight for large ones. Shape (rows,)."""
    size = np.abs(error) / scale
    return np.asarray(size - np.log1p(size))


def huber(limit: float, scale: F8 | None = None) -> Pull:
    """Huber's: the pull stops growing at `limit` scales (None: at so many spreads of the errors at hand)."""

    def pull(error: F8) -> F8:
        size = spread(error) if scale is None else scale
        return np.asarray(np.minimum(1.0, limit * size / np.maximum(np.abs(error), 1e-12)))

    return pull


def spread(errors: F8) -> float:
    """Standard deviation of normal errors around 0, by the median, which outliers do not move; at least 1e-6."""
    return max(1e-6, 1.4826 * float(np.median(np.abs(errors))))


@dataclass(frozen=True)
class Prior:
    """What is taken of the values before the rows are seen: normal, each by itself. Arrays of shape (columns,)."""

    centre: F8
    width: F8


@dataclass(frozen=True)
class Solution:
    """Values of least robust loss, and what became of the rows."""

    values: F8  # (columns,)
    error: F8  # (rows,) (target - predicted) / unit
    weight: F8  # (rows,) final, of the squared residuals target - predicted


def least_squares(columns: F8, target: F8, weight: F8, prior: Prior | None = None) -> F8:
    """Values of least weighted squares, none negative. Shape (columns,).

    Parameters
    ----------
    columns
        Shape (rows, columns).
    weight
        Of the squared residuals, shape (rows,).
    """
    from scipy.optimize import nnls

    root = np.sqrt(weight)
    table, wanted = columns * root[:, None], target * root
    if prior is not None:
        table = np.vstack([table, np.diag(1 / prior.width)])
        wanted = np.concatenate([wanted, prior.centre / prior.width])
    size = np.abs(table).max(axis=0)
    size[size == 0] = 1.0
    return np.asarray(nnls(table / size, wanted)[0] / size)  # not of a QR: columns that are equal must stay so


def robust(
    columns: F8 | Callable[[F8], F8],
    target: F8,
    weight: F8,
    pull: Pull,
    iterations: int,
    unit: F8 | None = None,
    prior: Prior | None = None,
    first: F8 | None = None,
) -> Solution:
    """The values of least robust loss.

    Parameters
    ----------
    columns
        Shape (rows, columns); or a function of the values that gives them: the derivatives of what is not linear but
        homogeneous of first degree (Euler), taken anew in every iteration.
    target, weight
        Shape (rows,); the weights are those of the squared errors.
    unit
        What errors are relative to, shape (rows,); None: the prediction.
    first
        Values to begin with; None: every prediction is the median of the targets. A function of values needs them.
    """
    values, pulled = first, np.ones(len(target))
    for _ in range(iterations):
        table = columns(values) if callable(columns) and values is not None else np.asarray(columns)
        values = least_squares(table, target, weight * pulled / _unit(unit, table, values, target) ** 2, prior)
        size = _unit(unit, table, values, target)
        error = (target - table @ values) / size
        pulled = pull(error)
    assert values is not None
    return Solution(values, error, weight * pulled / size**2)


def _unit(given: F8 | None, table: F8, values: F8 | None, target: F8) -> F8:
    """What the errors are relative to. Shape (rows,)."""
    if given is not None:
        return given
    if values is None:
        return np.full(len(target), float(np.median(target)))
    return np.asarray(np.maximum(table @ values, _LEAST * target))


def error_quantiles(errors: F8) -> Quantiles:
    """How large the size of a further error of the same kind is, at `LEVELS`.

    The k-th of n sizes is the level k / (n + 1) of a further one (Vovk et al. 2005: conformal prediction), linear
    between them; beyond the largest they grow as Student's t with n degrees of freedom does.

    Parameters
    ----------
    errors
        Logarithms of measured / predicted, shape (n,).
    """
    sizes, n = np.sort(np.abs(errors)), len(errors)
    known = np.arange(n + 1) / (n + 1)
    most = known[-1]

    def at(level: float) -> float:
        if level <= most:
            return float(np.interp(level, known, [0.0, *sizes]))
        return float(sizes[-1] * t_quantile((1 + level) / 2, n) / t_quantile((1 + most) / 2, n))

    first, second, third, fourth = (round(at(level), 5) for level in LEVELS)
    return first, second, third, fourth
