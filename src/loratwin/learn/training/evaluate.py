"""How good a model is on workloads that it has not seen: nested cross-validation, grouped by workload."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import ceil, nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import make_scorer
from sklearn.model_selection import GridSearchCV, GroupKFold
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from loratwin.errors import InputError
from loratwin.learn.cases.case import F8
from loratwin.learn.training.problem import LearningProblem
from loratwin.learn.training.registry import Member
from loratwin.metrics import STARVED_RATIO

OUTER, INNER = 5, 3
"""Folds: errors are those of the outer ones, settings are chosen in the inner ones."""

TIMED = 50
"""Single predictions whose median is the time of one."""


@dataclass(frozen=True)
class Score:
    """Held-out figures of one model on one target.

    Parameters
    ----------
    half_smape
        Mean |a - b| / (|a| + |b|), per cent: the published measure.
    f1
        Of starvation, where the target is the served share; else NaN.
    predict_ms
        One prediction, features given.
    """

    model: str
    target: str
    num_rows: int
    r2: float
    half_smape: float
    mape: float
    f1: float
    fit_s: float
    predict_ms: float


def half_smape(truth: F8, predictions: F8) -> float:
    """Mean |a - b| / (|a| + |b|) in per cent, 0 where both are 0 (arXiv 2508.08343)."""
    size = np.abs(truth) + np.abs(predictions)
    return float(100 * np.mean(np.divide(np.abs(truth - predictions), size, out=np.zeros_like(size), where=size > 0)))


def mape(truth: F8, predictions: F8) -> float:
    """Mean |prediction / truth - 1| in per cent."""
    return float(100 * np.mean(np.abs(predictions / truth - 1)))


def r_squared(truth: F8, predictions: F8) -> float:
    """1 - residual / total sum of squares; NaN where the truth is constant."""
    total = float(((truth - truth.mean()) ** 2).sum())
    return 1 - float(((truth - predictions) ** 2).sum()) / total if total else nan


def f1(truth: NDArray[np.bool_], predictions: NDArray[np.bool_]) -> float:
    """Harmonic mean of precision and recall of `True`; NaN where there is none on either side."""
    hits, size = int((truth & predictions).sum()), int(truth.sum()) + int(predictions.sum())
    return 2 * hits / size if size else nan


def folds(groups: NDArray[np.int64], num: int) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Rows to learn from and rows to test on; the rows of a group are never on both sides.

    Raises
    ------
    InputError
        Fewer groups than folds.
    """
    num_groups = len(np.unique(groups))
    if num_groups < num:
        raise InputError(f"{num_groups} different workloads are too few for {num} folds; simulate more")
    return list(GroupKFold(num).split(groups, groups=groups))


def one_thread() -> Any:
    """Within it, OpenMP and BLAS use one thread: results do not depend on the cores, and small fits are faster."""
    return threadpool_limits(1)


def _loss(log: bool) -> Callable[[F8, F8], float]:
    def loss(truth: F8, predictions: F8) -> float:
        predictions = np.ravel(predictions)
        return half_smape(np.exp(truth), np.exp(predictions)) if log else half_smape(truth, predictions)

    return loss


def fitted(member: Member, problem: LearningProblem) -> Any:
    """The model with the settings that grouped cross-validation finds best, fitted to all rows."""
    model = member.make(problem)
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the libraries, on convergence and on names: the score says enough
        if not member.grid:
            return model.fit(problem.x, problem.learned())
        scorer = make_scorer(_loss(problem.target.log), greater_is_better=False)
        search = GridSearchCV(model, dict(member.grid), scoring=scorer, cv=GroupKFold(INNER))
        return search.fit(problem.x, problem.learned(), groups=problem.groups).best_estimator_


def predicted(model: Any, problem: LearningProblem, x: F8) -> F8:
    """Predictions in the target's unit, shape (num_rows,)."""
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        predictions: F8 = np.ravel(np.asarray(model.predict(x), dtype=float))
    return np.exp(np.clip(predictions, -50, 50)) if problem.target.log else predictions


def out_of_fold(
    member: Member, problem: LearningProblem, num: int = OUTER, progress: Callable[[], None] = lambda: None
) -> tuple[F8, list[Any]]:
    """A prediction of each row by a model that has seen no row of its group, and the models."""
    predictions, models = np.full(len(problem.y), nan), []
    for train, test in folds(problem.groups, num):
        model = fitted(member, problem.rows(train))
        predictions[test] = predicted(model, problem, problem.x[test])
        models.append(model)
        progress()
    return predictions, models


def score(
    name: str, member: Member, problem: LearningProblem, progress: Callable[[], None] = lambda: None
) -> tuple[Score, F8]:
    """Held-out figures by nested cross-validation, and the held-out predictions."""
    start = time.perf_counter()
    predictions, models = out_of_fold(member, problem, progress=progress)
    fit_s = (time.perf_counter() - start) / OUTER
    starved = problem.target.name == "share"
    return Score(
        model=name,
        target=problem.target.name,
        num_rows=len(problem.y),
        r2=r_squared(problem.y, predictions),
        half_smape=half_smape(problem.y, predictions),
        mape=mape(problem.y, predictions),
        f1=f1(problem.y <= STARVED_RATIO, predictions <= STARVED_RATIO) if starved else nan,
        fit_s=fit_s,
        predict_ms=one_prediction_ms(models[0], problem),
    ), predictions


def one_prediction_ms(model: Any, problem: LearningProblem) -> float:
    """Median time of a prediction of one row, milliseconds."""
    times = []
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for i in range(TIMED):
            row = problem.x[i % len(problem.x)][None, :]
            start = time.perf_counter()
            model.predict(row)
            times.append(time.perf_counter() - start)
    return 1e3 * float(np.median(times))


def conformal_factor(truth: F8, predictions: F8, level: float = 0.9) -> float:
    """The factor q so that truth is within prediction / q ... prediction x q in at least `level` of new cases.

    Split conformal prediction on held-out log errors (Lei et al. 2018, JASA 113): the
    ceil((n + 1) x level)-th smallest.
    Infinite where there are too few cases to say so.
    """
    errors = np.sort(np.abs(np.log(truth / predictions)))
    rank = ceil((len(errors) + 1) * level)
    return float(np.exp(errors[rank - 1])) if rank <= len(errors) else float("inf")


def coverage(truth: F8, predictions: F8, groups: NDArray[np.int64], level: float = 0.9) -> float:
    """Share of cases inside intervals whose factor comes from the other groups' held-out errors."""
    inside = np.zeros(len(truth), dtype=bool)
    for train, test in folds(groups, OUTER):
        factor = conformal_factor(truth[train], predictions[train], level)
        inside[test] = np.abs(np.log(truth[test] / predictions[test])) <= np.log(factor)
    return float(inside.mean())
