"""Fit what ships: trees for every target, their errors and intervals on workloads that were not seen."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingRegressor  # type: ignore[import-untyped]

import loratwin
from loratwin.learn.case import F8, mix_of
from loratwin.learn.evaluate import OUTER, conformal_factor, coverage, f1, folds, half_smape, one_thread
from loratwin.learn.features import CONFIGURATION, WORKLOAD, workload_features
from loratwin.learn.forest import Forest, from_boosting
from loratwin.learn.generate import Explored
from loratwin.learn.model import FORMAT, Header, LearnedModel, anchor, overload, signature
from loratwin.learn.problem import LOG_WORKLOAD, TARGETS, Problem, configuration_problem, workload_problem
from loratwin.learn.registry import SEED, BoostedRidge
from loratwin.metrics import STARVED_RATIO
from loratwin.perf import load_profile

LEVEL = 0.9
"""Of the intervals."""

SIZES = {"share": (400, 20), "ttft": (500, 24), "tpot": (200, 12), "itl": (120, 12)}
"""Trees and their leaves of each forest for configurations: the file stays below 300 kB."""


@dataclass(frozen=True)
class Fit:
    """One target: its forest and its held-out figures."""

    forest: Forest
    interval_factor: float
    held_out: str


def train(explored: Sequence[Explored], progress: Callable[[int, int], None] = lambda done, of: None) -> LearnedModel:
    """Learn every target from simulated workloads.

    Raises
    ------
    DataError, InputError
        A target has no rows, or there are too few workloads.
    """
    fits = {}
    for done, (name, target) in enumerate(TARGETS.items()):
        progress(done, len(TARGETS))
        make = workload_problem if target.level == "workload" else configuration_problem
        fits[name] = fit(make(name, explored))
    progress(len(TARGETS), len(TARGETS))
    return LearnedModel(_header(explored, fits), {name: each.forest for name, each in fits.items()})


def fit(problem: Problem) -> Fit:
    """Fit to all rows; errors from models that have not seen the row's workload."""
    name = problem.target.name
    y = problem.learned() * overload(name, problem.x) - anchor(name, problem.x)
    found = np.full(len(y), np.nan)
    for learn, test in folds(problem.groups, OUTER):
        found[test] = grow(problem.rows(learn), y[learn]).predict(problem.x[test])
    found = _in_unit(problem, (found + anchor(name, problem.x)) / overload(name, problem.x))
    factor = conformal_factor(problem.y, found, LEVEL)
    return Fit(grow(problem, y), factor, _in_words(problem, found))


def grow(problem: Problem, y: F8) -> Forest:
    """Trees for some rows; figures of a workload have a linear part as well."""
    num_features = len(problem.names)
    with one_thread():
        return _grow(problem, y, num_features)


def _grow(problem: Problem, y: F8, num_features: int) -> Forest:
    if problem.target.level == "workload":
        both = BoostedRidge(problem.monotone, max_iter=150, max_leaf_nodes=6).fit(problem.x, y)
        return from_boosting(both.trees_, num_features, both.slope_, both.constant_)
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
    return from_boosting(trees.fit(problem.x, y), num_features)


def _in_unit(problem: Problem, found: F8) -> F8:
    return np.exp(found) if problem.target.log else np.clip(found, 1e-3, 1.0)


def _in_words(problem: Problem, found: F8) -> str:
    text = f"half-SMAPE {half_smape(problem.y, found):.2f} %"
    text += f", 90 % intervals hold {100 * coverage(problem.y, found, problem.groups, LEVEL):.1f} %"
    if problem.target.name == "share":
        text += f", starvation F1 {f1(problem.y <= STARVED_RATIO, found <= STARVED_RATIO):.3f}"
    return f"{text} ({len(problem.y)} rows, {len(np.unique(problem.groups))} workloads)"


def _header(explored: Sequence[Explored], fits: dict[str, Fit]) -> Header:
    features = np.array([workload_features(mix_of(each.case), load_profile(each.case.profile)) for each in explored])
    low, high = features.min(axis=0), features.max(axis=0)
    rows = sum(len(each.rows) for each in explored)
    return Header(
        format=FORMAT,
        loratwin_version=loratwin.__version__,
        profiles={name: signature(load_profile(name)) for name in sorted({each.case.profile for each in explored})},
        workload_features=LOG_WORKLOAD,
        configuration_features=CONFIGURATION,
        ranges={name: (float(a), float(b)) for name, a, b in zip(WORKLOAD, low, high, strict=True)},
        interval_factor={name: each.interval_factor for name, each in fits.items()},
        held_out={name: each.held_out for name, each in fits.items()},
        learned_from=f"{rows} simulated hours of {len(explored)} workloads, none of them measured",
    )
