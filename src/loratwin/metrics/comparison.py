"""Figures of several runs beside each other, measured or simulated: the same rows for all, and relative differences."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from loratwin.metrics.client import client_figures
from loratwin.metrics.slo import Slo
from loratwin.metrics.summary import summarize
from loratwin.metrics.throughput import goodput
from loratwin.records import Run

NAN = float("nan")

Unit = Literal["", "ms", "/s", "tokens/s", "share", "tokens"]


@dataclass(frozen=True)
class Figure:
    """A row: what it is called, where it stands, and in which unit."""

    section: str
    title: str
    key: str
    unit: Unit = ""


@dataclass(frozen=True)
class ComparedRow:
    """A figure of every run; NaN where a run cannot know it."""

    figure: Figure
    values: tuple[float, ...]
    limit: float = NAN  # of an SLO, in the figure's unit

    def difference(self, index: int, reference: int) -> float:
        """(Value - reference) / reference; NaN where either is unknown, or the reference is 0."""
        base = self.values[reference]
        return (self.values[index] - base) / base if base else NAN


@dataclass(frozen=True)
class Comparison:
    """Runs by name; differences are against the reference: the first that is measured, else the first."""

    runs: Mapping[str, Run]
    reference: int
    rows: tuple[ComparedRow, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """In the order given."""
        return tuple(self.runs)


def compare(runs: Mapping[str, Run], slo: Slo | None = None) -> Comparison:
    """Every figure that at least one of the runs knows."""
    columns = [run_figures(run, slo) for run in runs.values()]
    kinds = [run.kind for run in runs.values()]
    limits = {f"slo_{limit.name}_ms": limit.limit_s * 1e3 for limit in slo.limits} if slo else {}
    rows = [
        ComparedRow(figure, tuple(column[figure.key] for column in columns), limits.get(figure.key, NAN))
        for figure in _figures(slo)
    ]
    known = tuple(row for row in rows if not all(np.isnan(row.values)))
    return Comparison(runs, kinds.index("measured") if "measured" in kinds else 0, known)


def run_figures(run: Run, slo: Slo | None = None) -> dict[str, float]:
    """All figures of a run by key; NaN where it cannot know them. Percentiles included."""
    summary, client = summarize(run), client_figures(run)
    numbers = {**vars(summary), **vars(client)}
    figures = {figure.key: NAN if (value := numbers[figure.key]) is None else float(value) for figure in FIGURES}
    if run.kind == "measured" and not run.requests.num_preemptions.any():
        figures["preemptions"] = NAN  # a client does not see them
    if slo is not None:
        figures["goodput"] = goodput(run, slo.per_request_s())
        figures |= {f"slo_{limit.name}_ms": limit.value_s(run) * 1e3 for limit in slo.limits}
    return figures


def _figures(slo: Slo | None) -> tuple[Figure, ...]:
    if slo is None:
        return FIGURES
    limits = tuple(Figure("SLO", str(limit), f"slo_{limit.name}_ms", "ms") for limit in slo.limits)
    return (*FIGURES, *limits, Figure("SLO", "goodput", "goodput", "/s"))


def _latencies(title: str, key: str, statistics: tuple[str, ...]) -> list[Figure]:
    return [Figure("Latency", f"{title} {name}", f"{key}_{name}_ms", "ms") for name in statistics]


_SHORT, _LONG = ("mean", "median", "p99"), ("mean", "median", "p90", "p99")

FIGURES: tuple[Figure, ...] = (
    Figure("Requests", "to be sent", "requests"),
    Figure("Requests", "sent", "sent"),
    Figure("Requests", "finished", "finished"),
    Figure("Requests", "unfinished at the end", "censored"),
    Figure("Requests", "refused", "refused"),
    Figure("Requests", "failed", "failed"),
    Figure("Requests", "never sent", "never_sent"),
    Figure("Requests", "of another length than asked", "wrong_length"),
    Figure("Rates", "requests scheduled", "scheduled_rate", "/s"),
    Figure("Rates", "requests sent", "sent_rate", "/s"),
    Figure("Rates", "requests finished", "request_throughput", "/s"),
    Figure("Rates", "tokens offered", "offered_throughput", "tokens/s"),
    Figure("Rates", "tokens of finished requests", "total_throughput", "tokens/s"),
    Figure("Rates", "output tokens of finished requests", "output_throughput", "tokens/s"),
    Figure("Rates", "output tokens delivered", "delivered_throughput", "tokens/s"),
    Figure("Rates", "tokens served of those offered", "served_share", "share"),
    *_latencies("TTFT", "ttft", _LONG),
    *_latencies("TPOT", "tpot", _SHORT),
    *_latencies("ITL", "itl", _SHORT),
    *_latencies("end to end", "e2e", _SHORT),
    *_latencies("TTFT from schedule,", "scheduled_ttft", _SHORT),
    *_latencies("end to end from schedule,", "scheduled_e2e", _SHORT),
    *_latencies("send lag", "lag", (*_SHORT, "max")),
    *_latencies("queueing delay", "queueing", ("mean",)),
    Figure("Server", "requests in flight, mean", "in_flight_mean"),
    Figure("Server", "requests in flight, most", "in_flight_max"),
    Figure("Server", "running, mean", "running_mean"),
    Figure("Server", "running, most", "running_max"),
    Figure("Server", "waiting, mean", "waiting_mean"),
    Figure("Server", "waiting, most", "waiting_max"),
    Figure("Server", "KV memory in use, mean", "kv_usage_mean", "share"),
    Figure("Server", "KV memory in use, most", "kv_usage_max", "share"),
    Figure("Server", "preemptions", "preemptions"),
    Figure("Server", "swap-ins", "swap_ins"),
    Figure("Server", "disk loads", "disk_loads"),
    Figure("Server", "prefix cache, hit rate", "prefix_hit_rate", "share"),
    Figure("Server", "prompt tokens from the prefix cache", "cached_tokens", "tokens"),
)
"""All figures, in the order in which they are shown."""


def workload_differences(runs: Mapping[str, Run]) -> tuple[str, ...]:
    """In what the workloads differ: window, adapters, number of requests, prompts; empty: they may be the same.

    Runs that were made from one workload file and seed say so by its hash, where they know it.
    """
    hashes = {run.provenance.workload_hash for run in runs.values()}
    if len(hashes) == 1 and None not in hashes:
        return ()
    aspects = {
        "window": [f"{run.window_s:g} s" for run in runs.values()],
        "adapters": [f"{len(run.adapters)}" for run in runs.values()],
        "requests": [f"{len(run.requests):,}" for run in runs.values()],
        "prompt tokens": [f"{int(run.requests.prompt_tokens.sum(dtype=np.int64)):,}" for run in runs.values()],
    }
    if len({frozenset(run.adapters.name) for run in runs.values()}) > 1 and len(set(aspects["adapters"])) == 1:
        return ("names of adapters", *_differing(aspects))
    return _differing(aspects)


def config_differences(runs: Mapping[str, Run]) -> tuple[str, ...]:
    """Settings of the servers that differ, as `max_loras 8 | 16`."""
    configs = [run.config.model_dump() for run in runs.values()]
    aspects = {name: [str(config[name]) for config in configs] for name in configs[0]} if configs else {}
    return _differing(aspects)


def _differing(aspects: Mapping[str, list[str]]) -> tuple[str, ...]:
    return tuple(f"{name} {' | '.join(values)}" for name, values in aspects.items() if len(set(values)) > 1)
