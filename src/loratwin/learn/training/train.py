"""Fit what ships: a process or trees for every target, their errors and intervals on workloads that were not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingRegressor

from loratwin.learn.cases.case import F8, mix_of
from loratwin.learn.cases.generate import Explored
from loratwin.learn.models.features import LOG_WORKLOAD, WORKLOAD, workload_features
from loratwin.learn.models.forest import Forest, from_boosting
from loratwin.learn.models.model import FORMAT, LOADED, Header, LearnedModel, Part, overload, signature
from loratwin.learn.models.process import from_regression
from loratwin.learn.models.targets import TARGETS
from loratwin.learn.training.evaluate import OUTER, conformal_factor, coverage, f1, folds, half_smape, one_thread
from loratwin.learn.training.problem import (
    LearningProblem,
    case_features,
    configuration_problem,
    group_numbers,
    workload_problem,
)
from loratwin.learn.training.registry import SEED, EstimateProcess
from loratwin.metrics import STARVED_RATIO
from loratwin.perf import load_profile
from loratwin.version import __version__

LEVEL = 0.9
"""Of the intervals."""

SIZES = {"share": (600, 20), "ttft": (500, 24), "tpot": (200, 12), "itl": (120, 12)}
"""Trees and their leaves of each forest for configurations: the file stays below 500 kB."""

EDGE = 0.03
"""A server's share counts by 1 / (EDGE + its distance from starvation): there an error decides."""


@dataclass(frozen=True)
class Fit:
    """One target: what predicts it, and its held-out figures."""

    part: Part
    interval_factor: float
    held_out: str


def train(explored: Sequence[Explored], progress: Callable[[int, int], None] = lambda done, of: None) -> LearnedModel:
    """Learn every target from simulated workloads.

    Parameters
    ----------
    explored
        Simulated workloads, of `load_shards`.
    progress
        Is told how many targets are done, of how many.

    Raises
    ------
    DataError, InputError
        A target has no rows, or there are too few workloads.
    """
    fits: dict[str, Fit] = {}
    with one_thread():
        loads = _HeldOutLoads(explored)
        for done, (name, target) in enumerate(TARGETS.items()):
            progress(done, len(TARGETS))
            fits[name] = fit_workload(name, explored) if target.level == "workload" else fit_server(name, loads)
    progress(len(TARGETS), len(TARGETS))
    return LearnedModel(_header(explored, fits), {name: fit.part for name, fit in fits.items()})


def fit_workload(name: str, explored: Sequence[Explored]) -> Fit:
    """A process fitted to all workloads; errors from processes that have not seen the row's."""
    problem = workload_problem(name, explored)
    predictions = np.full(len(problem.y), np.nan)
    for learn, test in folds(problem.groups, OUTER):
        predictions[test] = _process(problem.rows(learn)).predict(problem.x[test])
    return _fit(problem, np.exp(predictions), from_regression(_process(problem)))


def fit_server(name: str, loads: _HeldOutLoads) -> Fit:
    """Trees fitted to all servers; errors from trees, and loads, that have not seen the row's workload."""
    problem = configuration_problem(name, loads.explored)
    predictions = np.full(len(problem.y), np.nan)
    for known, log_most in loads.of_folds:
        rows = _with_load(problem, log_most)
        test = ~known[problem.cases]
        trees = _trees(rows.rows(~test))
        predictions[test] = trees.predict(rows.x[test]) / overload(name, rows.x[test])
    predictions = np.exp(predictions) if problem.target.log else np.clip(predictions, 1e-3, 1.0)
    return _fit(problem, predictions, _trees(_with_load(problem, loads.of_all)))


def _fit(problem: LearningProblem, predictions: F8, part: Part) -> Fit:
    return Fit(part, conformal_factor(problem.y, predictions, LEVEL), _in_words(problem, predictions))


def _process(problem: LearningProblem, kernel: Any = None) -> EstimateProcess:
    return EstimateProcess(problem.estimate, problem.smooth, kernel=kernel).fit(problem.x, problem.learned())


class _HeldOutLoads:
    """The most requests/s as predicted for every workload by a process that has not seen it, as trees must learn from.

    Not the most adapters: what does not divide among the rates gives each number of adapters a mean rate of its own.

    Parameters
    ----------
    of_folds
        For each fold: which cases are known, and the logarithm of the most requests/s of each case, shape (num_cases,).
    of_all
        The same where all are known: each predicted by those of other groups.
    """

    def __init__(self, explored: Sequence[Explored]) -> None:
        self.explored = explored
        cases = [workload.case for workload in explored]
        self._x = np.array([case_features(case) for case in cases])
        self._log_rate = np.log([case.mean_rate for case in cases])
        self._groups = group_numbers(cases)
        self._served = workload_problem("served", explored)
        splits = folds(self._groups, OUTER)
        known = [np.isin(np.arange(len(cases)), learn) for learn, _ in splits]
        self.of_folds = [(fold, self._predicted(fold)) for fold in known]
        self.of_all = self._predicted(np.ones(len(cases), dtype=bool))

    def _predicted(self, known: NDArray[np.bool_]) -> F8:
        """By a process on the known cases; the known ones by processes on the others of them, of the same kernel."""
        whole = _process(self._served.rows(known[self._served.cases]))
        predictions = whole.predict(self._x)
        cases = np.flatnonzero(known)
        for learn, test in folds(self._groups[known], OUTER):
            rows = self._served.rows(np.isin(self._served.cases, cases[learn]))
            predictions[cases[test]] = _process(rows, whole.regression_.kernel_).predict(self._x[cases[test]])
        return predictions + self._log_rate


def _with_load(problem: LearningProblem, log_most: F8) -> LearningProblem:
    requests = problem.x[:, problem.names.index("log_requests_per_s")]
    return problem.with_feature(LOADED[-1], requests - log_most[problem.cases])


def _trees(problem: LearningProblem) -> Forest:
    num_trees, leaves = SIZES[problem.target.name]
    trees = HistGradientBoostingRegressor(
        max_iter=num_trees,
        max_leaf_nodes=leaves,
        learning_rate=0.1,
        min_samples_leaf=20,
        early_stopping=False,
        monotonic_cst=problem.monotone,
        random_state=SEED,
    )
    y = problem.learned() * overload(problem.target.name, problem.x) - problem.x @ problem.estimate
    weight = 1 / (EDGE + np.abs(problem.y - STARVED_RATIO)) if problem.target.name == "share" else None
    return from_boosting(trees.fit(problem.x, y, weight), len(problem.names), problem.estimate)


def _in_words(problem: LearningProblem, predictions: F8) -> str:
    text = f"half-SMAPE {half_smape(problem.y, predictions):.2f} %"
    text += f", 90 % intervals hold {100 * coverage(problem.y, predictions, problem.groups, LEVEL):.1f} %"
    if problem.target.name == "share":
        text += f", starvation F1 {f1(problem.y <= STARVED_RATIO, predictions <= STARVED_RATIO):.3f}"
    return f"{text} ({len(problem.y)} rows, {len(np.unique(problem.groups))} workloads)"


def _header(explored: Sequence[Explored], fits: dict[str, Fit]) -> Header:
    features = np.array(
        [workload_features(mix_of(workload.case), load_profile(workload.case.profile)) for workload in explored]
    )
    low, high = features.min(axis=0), features.max(axis=0)
    rows = sum(len(workload.rows) for workload in explored)
    return Header(
        format=FORMAT,
        loratwin_version=__version__,
        profiles={
            name: signature(load_profile(name)) for name in sorted({workload.case.profile for workload in explored})
        },
        workload_features=LOG_WORKLOAD,
        configuration_features=LOADED,
        ranges={name: (float(a), float(b)) for name, a, b in zip(WORKLOAD, low, high, strict=True)},
        interval_factor={name: fit.interval_factor for name, fit in fits.items()},
        held_out={name: fit.held_out for name, fit in fits.items()},
        learned_from=f"{rows} simulated hours of {len(explored)} workloads, none of them measured",
    )
