"""Interpretable models and rules distilled from the twin: advice in milliseconds, and rules for the wall.

from loratwin.learn import predict

advice = predict(workload, profile)
advice.slots, advice.throughput
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.learn.cases.design import design
    from loratwin.learn.cases.generate import generate, load_shards
    from loratwin.learn.models.advice import Advice, advice_text, predict
    from loratwin.learn.models.model import LearnedModel, load_model, save_model
    from loratwin.learn.rules.files import check_rules_path, save_rules
    from loratwin.learn.rules.trees import learn_rules
    from loratwin.learn.training.table import compare_models
    from loratwin.learn.training.train import train

_HOMES = {
    "cases.design": ("design",),
    "cases.generate": ("generate", "load_shards"),
    "models.advice": ("Advice", "advice_text", "predict"),
    "models.model": ("LearnedModel", "load_model", "save_model"),
    "rules.files": ("check_rules_path", "save_rules"),
    "rules.trees": ("learn_rules",),
    "training.table": ("compare_models",),
    "training.train": ("train",),
}
"""Imported when asked for: advice needs numpy alone, training scikit-learn."""

__all__ = [
    "Advice",
    "LearnedModel",
    "advice_text",
    "check_rules_path",
    "compare_models",
    "design",
    "generate",
    "learn_rules",
    "load_model",
    "load_shards",
    "predict",
    "save_model",
    "save_rules",
    "train",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
