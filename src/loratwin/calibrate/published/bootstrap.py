"""How uncertain fitted coefficients are: the regression repeated on resampled workloads.

Runs of one workload (rates and ranks) err together, so whole workloads are drawn with replacement (cluster bootstrap;
Cameron, Gelbach and Miller 2008); micro measurements are drawn within their kind. The design matrix stays, so a
repetition costs some hundredths of a second. With few workloads the spread comes out too small by
sqrt((n - 1) / n), which is put right.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.rows import TableRows
from loratwin.calibrate.published.step_time import fit_roofline
from loratwin.perf import StepTimeModel, Uncertainty

F8 = NDArray[np.float64]

REPETITIONS = 60

GIVEN = {
    "step_time.context_s": 0.15,
    "step_time.prefill_context_s": 0.3,
    "step_time.skipped_s": 0.3,
}
"""Relative errors, by judgement, of what the regression takes as given: parts of a peak that are reached, and the step
of the search for the walk's cost."""

_TRIES = 30
"""Models looked at in a repetition: from the fitted one on, more change the spread by less than a tenth."""

_SMALLEST = 1e-3  # relative standard error below which a coefficient counts as certain


def resampled(rows: TableRows, workloads: frozenset[str], rng: np.random.Generator) -> TableRows:
    """The evidence with each row as often as it was drawn: workloads as a whole, others one by one in their group."""
    times = np.zeros(len(rows.group))
    names = np.array(rows.group)
    clusters = sorted(workloads)
    for drawn in rng.integers(len(clusters), size=len(clusters)):
        times[names == clusters[drawn]] += 1
    for group in sorted(set(rows.group) - workloads):
        mine = np.flatnonzero(names == group)
        np.add.at(times, rng.choice(mine, size=len(mine)), 1)
    keep = np.flatnonzero(times)
    kept = rows.take(keep)
    return replace(kept, weight=kept.weight * times[keep])


def bootstrap(
    rows: TableRows, workloads: frozenset[str], fitted: StepTimeModel, repetitions: int = REPETITIONS, seed: int = 0
) -> F8:
    """Coefficients of each repetition, shape (repetitions, fields of StepTimeModel)."""
    rng = np.random.default_rng(seed)
    models = [fit_roofline(resampled(rows, workloads, rng), fitted, _TRIES) for _ in range(repetitions)]
    return np.array([list(model.model_dump().values()) for model in models])


def step_time_uncertainty(
    rows: TableRows, workloads: frozenset[str], fitted: StepTimeModel, repetitions: int = REPETITIONS, seed: int = 0
) -> Uncertainty:
    """Standard errors and correlation of the step time's coefficients.

    Parameters
    ----------
    workloads
        Groups of the evidence whose rows err together.
    """
    drawn = bootstrap(rows, workloads, fitted, repetitions, seed)
    n = len(workloads)
    errors = drawn.std(axis=0) * (np.sqrt(n / (n - 1)) if n > 1 else 1.0)
    scale = np.maximum(np.abs(drawn).mean(axis=0), np.finfo(float).tiny)
    names = [f"step_time.{name}" for name in type(fitted).model_fields]
    kept = [i for i in range(len(names)) if errors[i] > _SMALLEST * scale[i] and names[i] not in GIVEN]
    given = {name: relative * float(getattr(fitted, name.split(".")[1])) for name, relative in GIVEN.items()}
    return Uncertainty(
        standard_errors={names[i]: float(f"{errors[i]:.4g}") for i in kept} | given,
        correlated=tuple(names[i] for i in kept),
        correlation=_correlation(drawn[:, kept]),
        source=f"{repetitions} repetitions of the regression on resampled workloads",
    )


def _correlation(drawn: F8) -> tuple[tuple[float, ...], ...]:
    """Of the columns, rounded as it is written; rounding may not make it less than positive."""
    if drawn.shape[1] < 2:
        return tuple((1.0,) for _ in range(drawn.shape[1]))
    matrix = 0.999 * np.corrcoef(drawn, rowvar=False) + 0.001 * np.eye(drawn.shape[1])
    return tuple(tuple(round(float(value), 4) for value in row) for row in matrix)
