"""All models on all targets, held out, as a table like Table 2 of arXiv 2508.08343."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import isnan

import numpy as np

from loratwin.learn.cases.case import F8
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.labels import labels, nearest_slots, on_grid
from loratwin.learn.cases.search import PUBLISHED_GRID
from loratwin.learn.models.targets import TARGETS
from loratwin.learn.training.evaluate import Score, coverage, half_smape, score
from loratwin.learn.training.problem import LearningProblem, configuration_problem, workload_problem
from loratwin.learn.training.registry import REGISTRY

MOST_ROWS = 1500
"""Servers that models are compared on; more would take hours with the slow ones."""

PUBLISHED = {
    "served": {"linear": 40.5, "random forest": 0.0, "RuleFit": 2.0, "FIGS": 0.4, "decision tree": 0.0},
    "throughput": {"linear": 10.4, "random forest": 3.7, "decision tree": 3.3},
    "slots": {"linear": 18.5, "random forest": 8.8, "RuleFit": 15.9, "FIGS": 14.0, "decision tree": 14.1},
}
"""Half-SMAPE in per cent on nine measured workloads, Llama: recomputed from the authors' published logs. Adapters are
points of a grid that ends at 384 there, so one right point is an error of 0."""


@dataclass(frozen=True)
class TableRow:
    """A score, and what else is said of it.

    Parameters
    ----------
    inside
        Slots: share of answers within 1 % of the best; else NaN.
    on_grid
        Adapters served: half-SMAPE after both are put on the published grid, as the published figures; else NaN.
    coverage
        Share of cases inside the 90 % interval.
    """

    score: Score
    inside: float
    on_grid: float
    coverage: float


def comparable_targets(published_features: bool) -> list[str]:
    """Targets that models are compared on: of the published features, those of whole workloads alone."""
    return [name for name, target in TARGETS.items() if target.level == "workload" or not published_features]


def compare_models(
    explored: Sequence[Explored],
    models: Sequence[str] = tuple(REGISTRY),
    targets: Sequence[str] = tuple(TARGETS),
    published_features: bool = False,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[TableRow]:
    """Nested cross-validation, grouped by workload, of every model on every target.

    Parameters
    ----------
    explored
        Simulated workloads, of `load_shards`.
    models, targets
        Names of `training.registry.REGISTRY` and `models.targets.TARGETS`.
    published_features
        The eight published features, and adapters on the published grid; for targets of workloads only.
    progress
        Is told how many pairs are done, of how many.

    Raises
    ------
    DataError, InputError
        A target has no rows, or there are too few workloads.
    """
    scores: list[TableRow] = []
    total = len(models) * len(targets)
    for target in targets:
        problem = _problem(target, explored, published_features)
        for model in models:
            progress(len(scores), total)
            figures, predictions = score(model, REGISTRY[model], problem)
            within = coverage(problem.y, np.maximum(predictions, 1e-6), problem.groups)
            inside = _inside(problem, predictions, explored)
            gridded = _on_grid(problem, predictions, published_features)
            scores.append(TableRow(figures, inside, gridded, within))
    progress(total, total)
    return scores


def _problem(target: str, explored: Sequence[Explored], published: bool) -> LearningProblem:
    if TARGETS[target].level == "workload":
        return workload_problem(target, explored, published)
    return configuration_problem(target, explored, MOST_ROWS)


def _inside(problem: LearningProblem, predictions: F8, explored: Sequence[Explored]) -> float:
    if "slots" not in problem.target.name:
        return float("nan")
    hits = []
    for value, i in zip(predictions, problem.cases, strict=True):
        truth = labels(explored[i].case, explored[i].rows)
        good = truth.slots if problem.target.name == "slots" else truth.latency_slots
        hits.append(nearest_slots(value, truth.tried) in good)
    return float(np.mean(hits))


def _on_grid(problem: LearningProblem, predictions: F8, labels_on_grid: bool) -> float:
    """Rounded down to what is served for sure; to the nearest point where the labels learned from are points."""
    if problem.target.name != "served":
        return float("nan")
    truth = np.array([float(on_grid(value)) for value in problem.y])
    points = [nearest_slots(v, PUBLISHED_GRID) if labels_on_grid else on_grid(v) for v in predictions]
    return half_smape(truth, np.array(points, dtype=float))


HEADER = (
    "target",
    "model",
    "R2",
    "half-SMAPE %",
    "on the grid",
    "published",
    "MAPE %",
    "in the 1 % set",
    "F1 starved",
    "90 % interval holds",
    "one prediction, ms",
)


def table_markdown(rows: Sequence[TableRow]) -> str:
    """The table; a dash where a figure does not apply."""
    lines = ["| " + " | ".join(HEADER) + " |", "|---|---|" + "---:|" * (len(HEADER) - 2)]
    for row in rows:
        s = row.score
        published = PUBLISHED.get(s.target, {}).get(s.model, float("nan"))
        cells = [
            _number(s.r2, ".3f"),
            _number(s.half_smape, ".2f"),
            _number(row.on_grid, ".2f"),
            _number(published, ".1f"),
            _number(s.mape, ".1f"),
            _number(100 * row.inside, ".1f"),
            _number(s.f1, ".3f"),
            _number(100 * row.coverage, ".1f"),
            _number(s.predict_ms, ".3f"),
        ]
        lines.append(f"| {s.target} ({s.num_rows}) | {s.model} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def _number(value: float, form: str) -> str:
    return "–" if isnan(value) else format(value, form)
