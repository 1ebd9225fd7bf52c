"""Coefficients of the step time from the evidence: constrained, robust regression.

The linear coefficients are never negative, and a far outlier pulls with a bounded force (`robust`); the three of the
roofline are searched around it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.rows import LINEAR, TableRows
from loratwin.calibrate.robust import fair, fair_loss, robust
from loratwin.perf import StepTimeModel
from loratwin.perf.step_time import roofline_s

F8 = NDArray[np.float64]

KNOWN = ("skipped_s", "context_s", "prefill_context_s")
"""Coefficients that the regression takes as given. The first is found by simulation (`walk_fit`), the others follow
from the hardware (`start`): all measured workloads have the same lengths and cannot tell them from the batch."""

_ROBUST = 0.02  # relative error from which on a row's pull stops growing
_REWEIGHTINGS = 12
_POWER_BOUNDS = (1.0, 8.0)


def mean_roofline_s(tokens: tuple[F8, ...], weights_s: float, token_s: float, power: float) -> F8:
    """Mean time in the dense layers of each row, shape (rows,)."""
    lengths = np.array([len(t) for t in tokens])
    values = roofline_s(weights_s, token_s, power, np.concatenate(tokens))
    sums = np.add.reduceat(values, np.concatenate([[0], np.cumsum(lengths)[:-1]]))
    means: F8 = sums / lengths
    return means


def fit_linear(rows: TableRows, dense_s: F8) -> tuple[F8, float]:
    """Non-negative linear coefficients given the roofline's times; and the robust loss."""
    target = rows.duration_s - dense_s - rows.known_s
    solution = robust(rows.features, target, rows.weight, fair(_ROBUST), _REWEIGHTINGS, unit=rows.duration_s)
    return solution.values, float(rows.weight @ fair_loss(solution.error, _ROBUST))


def fit_roofline(rows: TableRows, start: StepTimeModel, tries: int = 120) -> StepTimeModel:
    """The model that explains the evidence best, from `start` on; what `start` says of KNOWN is kept.

    `tries` bounds the models that are looked at.
    """
    from scipy.optimize import minimize

    known = _explained(rows, start)

    def loss(logs: F8) -> float:
        weights_s, token_s, power = np.exp(logs)
        if not _POWER_BOUNDS[0] < power < _POWER_BOUNDS[1]:
            return float(np.finfo(float).max)
        return fit_linear(known, mean_roofline_s(rows.tokens, weights_s, token_s, power))[1]

    first = np.log([start.weights_s, start.token_s, start.roofline_power])
    simplex = first + np.vstack([np.zeros(3), np.diag([0.05, 0.1, 0.3])])
    options = {"maxfev": tries, "xatol": 3e-3, "fatol": 1e-3, "initial_simplex": simplex}
    best = minimize(loss, first, method="Nelder-Mead", options=options)
    weights_s, token_s, power = (float(v) for v in np.exp(best.x))
    roofline = {"weights_s": weights_s, "token_s": token_s, "roofline_power": power}
    return fit_coefficients(rows, start.model_copy(update=roofline), start.skipped_s)


def fit_coefficients(rows: TableRows, roofline: StepTimeModel, skipped_s: float) -> StepTimeModel:
    """All linear coefficients, the roofline and the cost of the queue's walk being given."""
    dense_s = mean_roofline_s(rows.tokens, roofline.weights_s, roofline.token_s, roofline.roofline_power)
    given = roofline.model_copy(update={"skipped_s": skipped_s})
    linear, _ = fit_linear(_explained(rows, given), dense_s)
    fitted = {name: float(v) for name, v in zip(LINEAR, linear, strict=True) if name not in KNOWN}
    return StepTimeModel(**{**given.model_dump(), **fitted})


def _explained(rows: TableRows, model: StepTimeModel) -> TableRows:
    """The evidence with the known coefficients' part explained and their columns empty."""
    features, known_s = rows.features.copy(), rows.known_s.copy()
    for name in KNOWN:
        column = LINEAR.index(name)
        known_s += getattr(model, name) * features[:, column]
        features[:, column] = 0.0
    return replace(rows, features=features, known_s=known_s)
