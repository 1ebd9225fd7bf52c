"""How long one prediction takes: the exported rules, a scikit-learn tree, and the shipped model."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest

from loratwin.learn.cases.case import mix_of
from loratwin.learn.cases.design import design
from loratwin.learn.models.features import log_workload_features, workload_features
from loratwin.learn.models.model import load_model
from loratwin.learn.rules.text import rules_python
from loratwin.learn.rules.trees import learn_rules, rule_features
from loratwin.learn.training.evaluate import fitted
from loratwin.learn.training.problem import workload_problem
from loratwin.learn.training.registry import REGISTRY
from loratwin.perf import load_profile
from tests.learn.small import made_up

CASE = design("published", 1)[0]


@cache
def explored() -> list[Any]:
    """Made-up servers: the time does not depend on what was learned."""
    return made_up(200)


def fastest_s(benchmark: Any) -> float:
    """Seconds of the fastest round."""
    return float(benchmark.stats.stats.min)


def test_exported_function(benchmark: Any) -> None:
    benchmark.group = "one prediction"
    module: dict[str, Any] = {}
    exec(rules_python(learn_rules(explored()), "Rules"), module)
    features = rule_features(CASE)
    benchmark.pedantic(module["served"], kwargs=features, rounds=200, iterations=100)
    assert fastest_s(benchmark) < 0.02e-3


@pytest.mark.parametrize("name", ["decision tree", "linear", "Gaussian process"])
def test_scikit_learn_model(benchmark: Any, name: str) -> None:
    benchmark.group = "one prediction"
    problem = workload_problem("served", explored())
    model = fitted(REGISTRY[name], problem)
    benchmark.pedantic(model.predict, (problem.x[:1],), rounds=300, warmup_rounds=10)
    assert fastest_s(benchmark) < 0.2e-3


def test_shipped_process(benchmark: Any) -> None:
    """The most adapters, features given, by numpy alone."""
    benchmark.group = "one prediction"
    profile = load_profile(CASE.profile)
    features = log_workload_features(workload_features(mix_of(CASE), profile))[None, :]
    benchmark.pedantic(load_model().parts["served"].predict, (features,), rounds=300, warmup_rounds=10)
    assert fastest_s(benchmark) < 0.2e-3


def test_shipped_model(benchmark: Any) -> None:
    """Features from the workload, then all slots: what `learn predict` asks."""
    benchmark.group = "one prediction"
    model, mix, profile = load_model(), mix_of(CASE), load_profile(CASE.profile)
    slots = [8, 16, 32, 64, 96, 128]
    benchmark.pedantic(model.figures, (mix, profile, [128] * len(slots), slots), rounds=50, warmup_rounds=5)
    assert fastest_s(benchmark) < 0.020
