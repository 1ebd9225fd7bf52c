"""Alert rules for Prometheus: a server leaves the range that the twin expects of it. Pure data.

Metrics go by the names that all engines share (`Engine.metrics`); where an engine's versions call one differently, a
rule asks for whichever is there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import isnan, sqrt
from typing import Any, NamedTuple

from loratwin.engines.engine import Engine
from loratwin.fleet.expected import Expected, Range
from loratwin.fleet.targets import DEPLOYED

WINDOW = "10m"
"""Over which rates and means are taken."""

WINDOW_S = 600.0

HOLDS = "5m"
"""How long it must be so."""

SIGMAS = 3
"""A count may exceed what is expected of it by so many of its standard deviations, as that of a Poisson process."""

LEAST_WAITING = 1.0
"""A mean queue of less than this is none."""

FULL = 0.99
"""A KV cache that may be as full as this needs no rule."""


class ServerLabels(NamedTuple):
    """How Prometheus tells the servers of a target apart."""

    label: str
    named: Callable[[str], str]
    """A metric's name there."""


PLAIN = ServerLabels("server", lambda name: name)
"""The label that `scrape.yaml` gives; the engine's own names."""

RAY = ServerLabels("model_name", lambda name: f"ray_{name.replace(':', '_')}")
"""vLLM's `v1/metrics/ray_wrappers.py` and Ray's own prefix; the model's name is that of the server."""


def alert_rules(
    expected: Sequence[Expected], headroom: float, labels: ServerLabels = PLAIN, engine: Engine = DEPLOYED
) -> dict[str, Any]:
    """A file of rules: a group for each server.

    Parameters
    ----------
    headroom
        With which the most that is expected was simulated.
    """
    groups = [
        {"name": f"loratwin-{each.server}", "rules": _Rules(each, headroom, labels, engine).all()} for each in expected
    ]
    return {"groups": groups}


def rules_object(rules: dict[str, Any]) -> dict[str, Any]:
    """The same as an object of the Prometheus operator in Kubernetes."""
    kind = {"apiVersion": "monitoring.coreos.com/v1", "kind": "PrometheusRule", "metadata": {"name": "loratwin"}}
    return {**kind, "spec": rules}


class _Rules:
    """The rules of one server."""

    def __init__(self, expected: Expected, headroom: float, labels: ServerLabels, engine: Engine) -> None:
        self.expected, self.headroom, self.labels, self.engine = expected, headroom, labels, engine

    def all(self) -> list[dict[str, Any]]:
        return [
            each
            for each in (self.silent(), self.traffic(), self.queue(), self.starves(), self.passed_over(), self.ttft(),
                         self.kv_cache(), self.preemptions())
            if each is not None
        ]  # fmt: skip

    def silent(self) -> dict[str, Any]:
        return self._rule("Silent", "critical", f"absent({self._series('waiting')[0]})", "shows no metrics")

    def traffic(self) -> dict[str, Any]:
        known = self.expected.requests_per_s
        what = "answers more requests a second than it was planned for"
        return self._above("Traffic", "warning", self._rate("requests_finished"), _with_chance(known), what, known)

    def queue(self) -> dict[str, Any]:
        known = self.expected.waiting
        mean = f"sum({self._over('avg_over_time', 'waiting')})"
        return self._above(
            "Queue", "warning", mean, max(LEAST_WAITING, known.most), "has a longer queue than expected", known
        )

    def starves(self) -> dict[str, Any]:
        """Starved is what has a queue that keeps growing (`loratwin.metrics.starvation`)."""
        known = self.expected.waiting
        least = f"sum({self._over('min_over_time', 'waiting')}) > {max(LEAST_WAITING, known.most):.4g}"
        grows = f"sum({self._over('deriv', 'waiting')}) > 0"
        return self._rule("Starves", "critical", f"{least} and {grows}", "has a queue that keeps growing", known)

    def passed_over(self) -> dict[str, Any] | None:
        if "waiting_deferred" not in self.engine.metrics:
            return None
        known = self.expected.waiting
        mean = f"sum({self._over('avg_over_time', 'waiting_deferred')})"
        what = "passes requests over for want of slots: adapters starve"
        return self._above("AdaptersStarve", "critical", mean, max(LEAST_WAITING, known.most), what, known)

    def ttft(self) -> dict[str, Any] | None:
        """A quantile of a histogram lies in a class: the bound above what is expected is asked for."""
        known = self.expected.ttft_p99_s
        bound = next((each for each in self.engine.ttft_bounds_s if each >= known.most), None)
        if isnan(known.most) or bound is None:
            return None
        tail = f"histogram_quantile(0.99, sum by (le) ({self._over('rate', 'ttft_s', '_bucket')}))"
        return self._above(
            "Ttft", "warning", tail, bound, "has a longer TTFT (99th percentile, s) than expected", known
        )

    def kv_cache(self) -> dict[str, Any] | None:
        known = self.expected.kv_usage
        if isnan(known.most) or known.most >= FULL:
            return None
        mean = f"max({self._over('avg_over_time', 'kv_usage')})"
        return self._above("KvCache", "warning", mean, known.most, "has a fuller KV cache than expected", known)

    def preemptions(self) -> dict[str, Any]:
        known = self.expected.preemptions_per_s
        what = "preempts more requests a second than expected"
        return self._above("Preemptions", "warning", self._rate("preemptions"), _with_chance(known), what, known)

    def _rate(self, name: str) -> str:
        return f"sum({self._over('rate', name)})"

    def _over(self, function: str, name: str, suffix: str = "") -> str:
        """A function of what the window saw of a metric, under whichever of its names is there."""
        return " or ".join(f"{function}({each}[{WINDOW}])" for each in self._series(name, suffix))

    def _series(self, name: str, suffix: str = "") -> list[str]:
        """The series of this server, by each name of the metric."""
        found = []
        for metric in self.engine.metrics[name]:
            said = {self.labels.label: self.expected.server, **metric.labels}
            matchers = ",".join(f'{label}="{value}"' for label, value in said.items())
            found.append(f"{self.labels.named(f'{metric.name}{suffix}')}{{{matchers}}}")
        return found

    def _above(self, name: str, severity: str, expression: str, most: float, what: str, known: Range) -> dict[str, Any]:
        return self._rule(name, severity, f"{expression} > {most:.4g}", what, known)

    def _rule(self, name: str, severity: str, expression: str, what: str, known: Range | None = None) -> dict[str, Any]:
        notes = {"summary": f"{self.expected.server} {what}"}
        if known is not None:
            higher = f" with all rates {100 * self.headroom:g} % higher" if self.headroom else ""
            notes["expected"] = f"{known.usual:.3g} as planned, {known.most:.3g}{higher}"
        return {
            "alert": f"Loratwin{name}",
            "expr": expression,
            "for": HOLDS,
            "labels": {"severity": severity, "server": self.expected.server},
            "annotations": notes,
        }


def _with_chance(known: Range) -> float:
    """The most that is expected of a rate, and what chance adds to it within the window."""
    return known.most + SIGMAS * sqrt(max(known.most, 1 / WINDOW_S) / WINDOW_S)
