"""A table to learn from: features, a target, and which rows belong to the same workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from math import isfinite

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError
from loratwin.learn.cases.case import F8, Case, mix_of
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.labels import Labels, labels, middle_slots, on_grid
from loratwin.learn.cases.search import SimulatedHour
from loratwin.learn.models.features import (
    CONFIGURATION,
    LOG_WORKLOAD,
    PUBLISHED,
    configuration_features,
    log_workload_features,
    published_features,
)
from loratwin.learn.models.features import workload_features as all_workload_features
from loratwin.learn.models.targets import Target, known_target
from loratwin.perf import load_profile


@dataclass(frozen=True, eq=False)
class LearningProblem:
    """Rows to learn from.

    Parameters
    ----------
    x, y
        Features of shape (num_rows, num_features), target of shape (num_rows,).
    groups
        Of each row, the number of its workload's rates: rows of a group never are on both sides of a split.
    cases
        Of each row, the index of its case.
    """

    target: Target
    names: tuple[str, ...]
    x: F8
    y: F8
    groups: NDArray[np.int64]
    cases: NDArray[np.int64]

    @property
    def monotone(self) -> list[int]:
        """-1, 0 or +1 for each feature."""
        return [self.target.monotone.get(name.removeprefix("log_of_"), 0) for name in self.names]

    @property
    def estimate(self) -> F8:
        """Weight of each feature in the estimate, shape (num_features,); zeros where the features have none."""
        weights = np.array([self.target.estimate.get(name.removeprefix("log_of_"), 0.0) for name in self.names])
        return weights if np.count_nonzero(weights) == len(self.target.estimate) else np.zeros_like(weights)

    @property
    def smooth(self) -> list[int]:
        """Features that a smooth model sees: what physics gives a sign moves its answer through the estimate only.

        Where there is no estimate, all.
        """
        if not self.estimate.any():
            return list(range(len(self.names)))
        signs = zip(self.monotone, self.estimate, strict=True)
        return [i for i, (sign, weight) in enumerate(signs) if not sign or weight]

    def learned(self) -> F8:
        """The target as a model sees it."""
        return np.log(self.y) if self.target.log else self.y

    def rows(self, keep: NDArray[np.int64] | NDArray[np.bool_]) -> LearningProblem:
        """Some of the rows."""
        return LearningProblem(self.target, self.names, self.x[keep], self.y[keep], self.groups[keep], self.cases[keep])

    def with_feature(self, name: str, values: F8) -> LearningProblem:
        """One feature more, of shape (num_rows,)."""
        return replace(self, names=(*self.names, name), x=np.column_stack([self.x, values]))


def group_numbers(cases: Sequence[Case]) -> NDArray[np.int64]:
    """Cases with the same rates share a number, whatever their ranks and LLM; shape (num_cases,)."""
    numbers: dict[tuple[float, ...], int] = {}
    return np.array([numbers.setdefault(case.rates, len(numbers)) for case in cases])


def workload_problem(name: str, explored: Sequence[Explored], published: bool = False) -> LearningProblem:
    """One row for each workload.

    Parameters
    ----------
    published
        The eight published features, and adapters as points of the published grid, instead of ours.

    Raises
    ------
    DataError
        No workload has this target.
    """
    target, cases = known_target(name), [workload.case for workload in explored]
    y = np.array([_label(labels(workload.case, workload.rows), name, published) for workload in explored])
    names = PUBLISHED if published else LOG_WORKLOAD
    make: Callable[[Case], F8] = _published if published else case_features
    keep = np.flatnonzero(np.isfinite(y) & (y > 0))
    if not len(keep):
        raise DataError(f"no simulated workload has the target {name!r}")
    x = np.array([make(cases[i]) for i in keep])
    return LearningProblem(target, names, x, y[keep], group_numbers(cases)[keep], keep)


@lru_cache(maxsize=8192)
def case_features(case: Case) -> F8:
    """`LOG_WORKLOAD` of a case, shape (num_features,)."""
    return log_workload_features(all_workload_features(mix_of(case), load_profile(case.profile)))


def _published(case: Case) -> F8:
    return published_features(mix_of(case))


def _label(truth: Labels, name: str, published: bool) -> float:
    if name == "served":
        return float(on_grid(truth.counted)) if published else truth.served
    if name == "throughput":
        return truth.throughput
    slots = truth.slots if name == "slots" else truth.latency_slots
    return middle_slots(slots) if slots else float("nan")


def configuration_problem(name: str, explored: Sequence[Explored], most_rows: int | None = None) -> LearningProblem:
    """One row for each server that starts and has the figure.

    Parameters
    ----------
    most_rows
        A sample of so many workloads' rows, the same for the same data; None: all.
    """
    target = known_target(name)
    values = [[_figure(row, name) for row in workload.rows] for workload in explored]
    picked = [[i for i, value in enumerate(of_workload) if isfinite(value) and value > 0] for of_workload in values]
    if most_rows is not None:
        picked = _sampled(picked, most_rows)
    x = [
        configuration_rows(workload.case, [workload.rows[i] for i in rows])
        for workload, rows in zip(explored, picked, strict=True)
        if rows
    ]
    if not x:
        raise DataError(f"no simulated server has the target {name!r}")
    y = np.array([of_workload[i] for of_workload, rows in zip(values, picked, strict=True) for i in rows])
    counts = [len(rows) for rows in picked]
    groups = np.repeat(group_numbers([workload.case for workload in explored]), counts)
    return LearningProblem(
        target, CONFIGURATION, np.concatenate(x), y, groups, np.repeat(np.arange(len(explored)), counts)
    )


def configuration_rows(case: Case, rows: Sequence[SimulatedHour]) -> F8:
    """Features of some servers of a workload, shape (num_rows, num_features): with the rates that the adapters have."""
    profile, features = load_profile(case.profile), np.empty((len(rows), len(CONFIGURATION)))
    adapters, slots = (np.array([getattr(row, name) for row in rows]) for name in ("adapters", "slots"))
    for num in np.unique(adapters):
        same = adapters == num
        features[same] = configuration_features(mix_of(case, int(num)), profile, adapters[same], slots[same])[0]
    return features


def _sampled(picked: list[list[int]], most_rows: int) -> list[list[int]]:
    total = sum(map(len, picked))
    if total <= most_rows:
        return picked
    keep = np.random.Generator(np.random.PCG64(0)).random(total) < most_rows / total
    ends = np.cumsum([0, *map(len, picked)])
    return [[i for i, kept in zip(rows, keep[a:], strict=False) if kept] for rows, a in zip(picked, ends, strict=False)]


def _figure(row: SimulatedHour, name: str) -> float:
    if name == "share":
        return row.share if row.kv_tokens else float("nan")
    return {"ttft": row.ttft_mean_ms, "tpot": row.tpot_mean_ms, "itl": row.itl_mean_ms}[name]
