"""The first rule as a picture, with what it depends on: SVG without scripts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, NullFormatter

from loratwin.learn.cases.case import F8
from loratwin.learn.cases.generate import Explored
from loratwin.learn.cases.labels import labels
from loratwin.learn.rules.text import WORDS
from loratwin.learn.rules.trees import LearnedRule, rule_features

STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "loratwin-rules", "font.size": 9, "text.parse_math": False}

QUESTION = {"served": "adapters", "slots": "slots", "latency_slots": "slots for latency", "throughput": "throughput"}


def rules_svg(rules: Sequence[LearnedRule], explored: Sequence[Explored], title: str) -> str:
    """Left: adapters against work, as simulated and by the rule; right: what each rule depends on."""
    buffer = StringIO()
    with rc_context(STYLE):
        figure = Figure(figsize=(9, 4.2), layout="constrained")
        left, right = figure.subplots(1, 2, width_ratios=(2, 1))
        figure.suptitle(title)
        served = next((rule for rule in rules if rule.target.name == "served"), None)
        if served is not None:
            _effects(left, served, explored)
        _importance(right, rules)
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)


def _effects(axes: Any, rule: LearnedRule, explored: Sequence[Explored]) -> None:
    """Each workload as a point; the rule as steps, for the median spread and rank."""
    features = [rule_features(workload.case) for workload in explored]
    work = np.array([values["work_per_s"] for values in features])
    most = np.array([labels(workload.case, workload.rows).served for workload in explored])
    axes.scatter(work, most, s=6, color="#8a8f98", label="the twin, one workload each")
    usual = {name: float(np.median([values[name] for values in features])) for name in ("rate_cv", "rank_max")}
    at: F8 = np.geomspace(work.min(), work.max(), 2000)
    steps = [rule.tree.answer({**usual, "work_per_s": value}) for value in at]
    axes.plot(at, steps, color="#b4441c", linewidth=1.5, label="the rule")
    axes.set(xscale="log", yscale="log", xlabel="work of the average adapter, tokens/s", ylabel="adapters served")
    for axis in (
        axes.xaxis,
        axes.yaxis,
    ):  # matplotlib's own labels are powers in mathematical type, which is not read here
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.legend(frameon=False)


def _importance(axes: Any, rules: Sequence[LearnedRule]) -> None:
    """Share of the explained variance that splits on each feature account for."""
    names = list(WORDS)
    height = 0.8 / max(1, len(rules))
    for i, rule in enumerate(rules):
        places = np.arange(len(names)) + i * height
        axes.barh(places, [rule.importance.get(name, 0.0) for name in names], height, label=QUESTION[rule.target.name])
    axes.set(xlabel="importance in the rule", yticks=np.arange(len(names)) + 0.4 - height / 2)
    axes.set_yticklabels([WORDS[name] for name in names])
    axes.invert_yaxis()
    axes.legend(frameon=False, fontsize=7)
