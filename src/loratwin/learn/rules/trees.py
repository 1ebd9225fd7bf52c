"""Rules for the wall: one small tree for each target, on features that anybody can work out by hand.

Thresholds and values are rounded as they are printed, and errors are those of the rounded rules.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import floor, log10

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError
from loratwin.learn.cases.case import F8, Case, Mix, mix_of
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.labels import Labels, labels, middle_slots, nearest_slots
from loratwin.learn.cases.search import PUBLISHED_GRID, SLOTS
from loratwin.learn.training.evaluate import OUTER, folds, half_smape
from loratwin.learn.training.problem import group_numbers

GRID = (1, 2, 3, 4, 6, 8, 12, *PUBLISHED_GRID, 512, 640, 768, 1024, 1280, 1536, 2048, 2560, 3072, 4096, 6144, 8192)
"""The published grid, carried on at both ends: steps of a fifth to a third. A decision is right to one step of it."""

PROMPT_WEIGHT = 0.25
"""A prompt token costs about this much of an output token: of 0.25, 0.5, 0.75 and 1, the least held-out error."""

FEATURES = {
    "work_per_s": "work of the average adapter: requests/s x (output tokens + prompt tokens / 4)",
    "rate_cv": "spread of the adapters' rates: standard deviation / mean",
    "rank_max": "highest rank",
}


@dataclass(frozen=True)
class RuleTarget:
    """A question that a small tree answers.

    Parameters
    ----------
    answer
        The sentence of a leaf, with `{}` for its value.
    monotone
        By feature: what physics says. More work, or a higher rank, never means more adapters.
    """

    name: str
    question: str
    answer: str
    leaves: int
    monotone: Mapping[str, int]
    features: tuple[str, ...] = tuple(FEATURES)


RULES = {
    rule.name: rule
    for rule in (
        RuleTarget(
            "served", "How many adapters can one GPU serve?", "{} adapters", 20, {"work_per_s": -1, "rank_max": -1}
        ),
        RuleTarget("slots", "How many slots give the most throughput, near that many adapters?", "{} slots", 5, {}),
        RuleTarget("latency_slots", "How many slots give the least latency there?", "{} slots", 5, {}),
        RuleTarget("throughput", "How many tokens per second are served at most?", "{} tokens/s", 4, {}),
    )
}


@dataclass(frozen=True)
class Node:
    """A leaf, or a question: `below` where the feature is at most the threshold, else `above`."""

    value: float
    feature: str = ""
    threshold: float = 0.0
    below: Node | None = None
    above: Node | None = None

    @property
    def is_leaf(self) -> bool:
        """Whether it answers."""
        return self.below is None

    def answer(self, features: Mapping[str, float]) -> float:
        """The value of the leaf that the features lead to."""
        node = self
        while node.below is not None and node.above is not None:
            node = node.below if features[node.feature] <= node.threshold else node.above
        return node.value

    @property
    def num_leaves(self) -> int:
        """Answers that the tree can give."""
        if self.below is None or self.above is None:
            return 1
        return self.below.num_leaves + self.above.num_leaves


@dataclass(frozen=True)
class LearnedRule:
    """A tree and how far it can be trusted.

    Parameters
    ----------
    error
        In words, on workloads that were not learned from.
    agreement
        Share of held-out answers within one step of the grid (slots: of the best; throughput: within 10 %).
    """

    target: RuleTarget
    tree: Node
    error: str
    agreement: float
    importance: Mapping[str, float]


def mix_rule_features(mix: Mix) -> dict[str, float]:
    """`FEATURES` of a workload."""
    work = mix.mean_rate * (mix.output_mean + PROMPT_WEIGHT * mix.prompt_mean)
    return {"work_per_s": work, "rate_cv": mix.rate_cv, "rank_max": float(mix.rank_max)}


def rule_features(case: Case) -> dict[str, float]:
    """The same of a case."""
    return mix_rule_features(mix_of(case))


def learn_rules(explored: Sequence[Explored], names: Sequence[str] = tuple(RULES)) -> list[LearnedRule]:
    """A rule for each target.

    Parameters
    ----------
    explored
        Simulated workloads, of `load_shards`.
    names
        Targets.

    Raises
    ------
    DataError
        No workload has the target.
    InputError
        Too few workloads.
    """
    truths = [labels(workload.case, workload.rows) for workload in explored]
    return [_rule(RULES[name], explored, truths) for name in names]


@dataclass(frozen=True, eq=False)
class _Table:
    x: F8
    y: F8
    groups: NDArray[np.int64]
    labels: list[Labels]


def _rule(target: RuleTarget, explored: Sequence[Explored], truths: Sequence[Labels]) -> LearnedRule:
    table = _table(target, explored, truths)
    if not len(table.y):
        raise DataError(f"no simulated workload has the target {target.name!r}")
    held_out = np.full(len(table.y), np.nan)
    for learn, test in folds(table.groups, OUTER):
        tree, _ = _grow(target, table.x[learn], table.y[learn])
        held_out[test] = _answers(target, tree, table.x[test])
    tree, importance = _grow(target, table.x, table.y)
    agreement, words = _judged(target, table, held_out)
    return LearnedRule(target, tree, words, agreement, importance)


def _answers(target: RuleTarget, tree: Node, x: F8) -> F8:
    return np.array([tree.answer(dict(zip(target.features, row, strict=True))) for row in x])


def _table(target: RuleTarget, explored: Sequence[Explored], truths: Sequence[Labels]) -> _Table:
    keep = [i for i, truth in enumerate(truths) if np.isfinite(_goal(target, truth)) and _goal(target, truth) > 0]
    features = [rule_features(explored[i].case) for i in keep]
    return _Table(
        np.array([[values[name] for name in target.features] for values in features]),
        np.array([_goal(target, truths[i]) for i in keep]),
        group_numbers([workload.case for workload in explored])[keep],
        [truths[i] for i in keep],
    )


def _goal(target: RuleTarget, truth: Labels) -> float:
    if target.name == "served":
        return truth.served
    if target.name == "throughput":
        return truth.throughput
    slots = truth.slots if target.name == "slots" else truth.latency_slots
    return middle_slots(slots) if slots else float("nan")


def _grow(target: RuleTarget, x: F8, y: F8) -> tuple[Node, dict[str, float]]:
    from sklearn.tree import DecisionTreeRegressor

    tree = DecisionTreeRegressor(
        max_leaf_nodes=target.leaves,
        min_samples_leaf=min(4, max(1, len(y) // 20)),
        monotonic_cst=[target.monotone.get(name, 0) for name in target.features],
        random_state=0,
    ).fit(x, np.log(y))
    importance = dict(zip(target.features, (float(v) for v in tree.feature_importances_), strict=True))
    return _simplified(_node(target, tree.tree_, 0)), importance


def _node(target: RuleTarget, tree: object, i: int) -> Node:
    t: NDArray[np.float64] = tree.value  # type: ignore[attr-defined]
    value = float(t[i].ravel()[0])
    printed = _rounded(float(np.exp(value)), target)
    left, right = int(tree.children_left[i]), int(tree.children_right[i])  # type: ignore[attr-defined]
    if left < 0:
        return Node(printed)
    feature = target.features[int(tree.feature[i])]  # type: ignore[attr-defined]
    threshold = significant(float(tree.threshold[i]), 3)  # type: ignore[attr-defined]
    return Node(printed, feature, threshold, _node(target, tree, left), _node(target, tree, right))


def _rounded(value: float, target: RuleTarget) -> float:
    """As printed: adapters down, slots to what is tried, others to three digits."""
    if target.name == "served":
        return float(max(1, floor(significant(value, 2, down=True))))
    if "slots" in target.name:
        return float(nearest_slots(value, (1, 2, *SLOTS)))
    return significant(value, 3)


def significant(value: float, digits: int, down: bool = False) -> float:
    """Rounded to so many significant digits."""
    if value == 0:
        return 0.0
    places = digits - 1 - floor(log10(abs(value)))
    if down:
        return float(floor(value * 10.0**places + 1e-9) / 10.0**places)
    return float(round(value, places))


def _simplified(node: Node) -> Node:
    """Without questions whose answers are the same after rounding."""
    if node.below is None or node.above is None:
        return node
    below, above = _simplified(node.below), _simplified(node.above)
    if below.is_leaf and above.is_leaf and below.value == above.value:
        return Node(below.value)
    return Node(node.value, node.feature, node.threshold, below, above)


def grid_step(value: float) -> int:
    """The point of `GRID` that a number of adapters comes down to."""
    return int(np.searchsorted(GRID, value + 1e-9, side="right"))


def _judged(target: RuleTarget, table: _Table, held_out: F8) -> tuple[float, str]:
    """Agreement with the twin and the error in words, of held-out answers."""
    error = half_smape(table.y, held_out)
    num = f"{len(table.y)} workloads not learned from"
    if "slots" in target.name:
        inside, near = _slot_hits(target, table, held_out)
        return near, f"{100 * inside:.1f} % within 1 % of the best, {100 * near:.1f} % to one step ({num})"
    if target.name == "throughput":
        return float(np.mean(np.abs(held_out / table.y - 1) <= 0.1)), f"half-SMAPE {error:.1f} % ({num})"
    steps = np.abs([grid_step(a) - grid_step(b) for a, b in zip(held_out, table.y, strict=True)])
    near = float(np.mean(steps <= 1))
    return near, f"half-SMAPE {error:.1f} %, {100 * near:.1f} % to one grid step ({num})"


def _slot_hits(target: RuleTarget, table: _Table, held_out: F8) -> tuple[float, float]:
    inside, near = [], []
    for value, truth in zip(held_out, table.labels, strict=True):
        good = truth.slots if target.name == "slots" else truth.latency_slots
        said = nearest_slots(value, truth.tried)
        inside.append(said in good)
        near.append(min(abs(truth.tried.index(said) - truth.tried.index(slots)) for slots in good) <= 1)
    return float(np.mean(inside)), float(np.mean(near))
