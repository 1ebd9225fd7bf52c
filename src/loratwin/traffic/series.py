"""Counters of servers over time, from Prometheus or from pages of `/metrics`, as traffic of each adapter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import NamedTuple

import numpy as np

from loratwin.engines.engine import Engine
from loratwin.engines.registry import ENGINES
from loratwin.errors import DataError
from loratwin.telemetry.names import LENGTHS, distinct
from loratwin.traffic.observed import F8, I8, NOTHING, Buckets, Grown, Observed, cells_of

_SERVER = ("job", "namespace", "pod", "instance")


class Counted(NamedTuple):
    """A series: values of a counter at the steps' ends, but for those that are as the one before.

    A day of 10,000 adapters has 600 million values of buckets, nearly all of which repeat the one before.
    """

    name: str
    labels: Mapping[str, str]
    place: I8
    """Which end of a step, of those at which somebody saw another value than before; shape (num_values,)."""
    value: F8
    num_steps: int
    server_from: int = 0
    """When its server was first seen. A series that comes later began at zero: servers show a label when they first
    count it. What a server had counted before it was seen is nobody's step."""

    @classmethod
    def of(cls, name: str, labels: Mapping[str, str], values: F8) -> Counted:
        """From values at all ends, NaN where nobody saw it; shape (num_steps + 1,)."""
        place = np.flatnonzero(~np.isnan(values))
        value = values[place]
        if name not in _infos():
            new = np.diff(value, prepend=np.nan) != 0
            place, value = place[new], value[new]
        return cls(name, labels, place, value, len(values) - 1)

    @property
    def grown(self) -> Grown:
        """By how much it grew, restarts from zero included."""
        if not len(self.place):
            return NOTHING
        began = 0.0 if self.place[0] > self.server_from else self.value[0]
        steps = np.diff(self.value, prepend=began)
        amount = np.where(steps < 0, self.value, steps)
        kept = amount != 0
        return Grown(self.place[kept] - 1, amount[kept])

    @property
    def server(self) -> tuple[str, ...]:
        """What tells one server from another, as Prometheus labels them."""
        return tuple(self.labels.get(key, "") for key in _SERVER)


def names_needed() -> list[str]:
    """Series that tell traffic, of every engine."""
    names: list[str] = []
    for engine in ENGINES.values():
        for shared in ("requests_finished", "prompt_tokens", "generation_tokens"):
            names += [metric.name for metric in engine.metrics.get(shared, ())]
        for metric in (metric for shared in LENGTHS for metric in engine.metrics.get(shared, ())):
            names += [f"{metric.name}{part}" for part in ("_sum", "_count", "_bucket", "")]  # "": a native histogram
        if engine.adapter_info is not None:
            names.append(engine.adapter_info.series)
    return names


@cache
def _infos() -> frozenset[str]:
    """Series whose every value counts, since it says when a line was the latest."""
    return frozenset(engine.adapter_info.series for engine in ENGINES.values() if engine.adapter_info is not None)


def observed_of(
    series: Sequence[Counted], step_s: float, begin: str, source: str, label: str = "model_name"
) -> Observed:
    """Traffic of each value of a label, all servers together.

    Raises
    ------
    DataError
        No series counts requests, or none counts tokens.
    """
    by_name: dict[str, list[Counted]] = {}
    for one in _with_servers(series):
        by_name.setdefault(one.name, []).append(one)
    requests = _first(by_name, "requests_finished", label) or _by_lengths(by_name, label)
    if not requests:
        asked = ", ".join(_metrics("requests_finished"))
        raise DataError(f"{source}: has no series that counts requests ({asked})")
    names = tuple(sorted(requests))
    prompt, prompt_buckets = _lengths(by_name, "prompt_lengths", "prompt_tokens", label)
    output, output_buckets = _lengths(by_name, "output_lengths", "generation_tokens", label)
    if not prompt or not output:
        lacks = "prompt" if not prompt else "output"
        raise DataError(f"{source}: counts requests, and no {lacks} tokens")
    running = _running(by_name, step_s)
    columns = ([each.get(name, NOTHING) for name in names] for each in (requests, prompt, output))
    return Observed(
        names, step_s, cells_of(series[0].num_steps, *columns), begin, source, prompt_buckets, output_buckets,
        base=names if running else (), running=running, notes=_notes(names, running, label),
    )  # fmt: skip


def _with_servers(series: Sequence[Counted]) -> list[Counted]:
    """Each series with the time at which its server was first seen."""
    first: dict[tuple[str, ...], int] = {}
    for one in series:
        if len(one.place):
            first[one.server] = min(first.get(one.server, one.num_steps), int(one.place[0]))
    return [one._replace(server_from=first.get(one.server, 0)) for one in series]


def _notes(names: tuple[str, ...], running: Mapping[str, float] | None, label: str) -> tuple[str, ...]:
    if running:
        return (
            f"vLLM counts requests by {label}, which is the base LLM's name whichever adapter was asked for",
            "shares of adapters: from how much of the time each had requests running, as if all were alike in length",
        )
    if len(names) == 1:
        return (f"all traffic has one {label}; vLLM's is the base LLM's name whichever adapter was asked for",)
    return ()


def _metrics(shared: str) -> list[str]:
    return [metric.name for engine in ENGINES.values() for metric in engine.metrics.get(shared, ())]


def _first(by_name: Mapping[str, list[Counted]], shared: str, label: str) -> dict[str, Grown] | None:
    """Growth by label, of each engine the first series that is there: pods of two are added up; None: there is none."""
    found = [grown for engine in ENGINES.values() if (grown := _of_engine(engine, by_name, shared, label))]
    return _added(found) if found else None


def _of_engine(engine: Engine, by_name: Mapping[str, list[Counted]], shared: str, label: str) -> dict[str, Grown]:
    name = next((metric.name for metric in engine.metrics.get(shared, ()) if metric.name in by_name), None)
    return {} if name is None else _grown(by_name[name], label)


def _by_lengths(by_name: Mapping[str, list[Counted]], label: str) -> dict[str, Grown]:
    """Requests as the histograms of their lengths count them, where nothing else does."""
    found = []
    for engine in ENGINES.values():
        names = (f"{metric.name}_count" for shared in LENGTHS for metric in engine.metrics.get(shared, ()))
        name = next((name for name in names if name in by_name), None)
        found += [_grown(by_name[name], label)] if name is not None else []
    return _added(found)


def _added(parts: Sequence[Mapping[str, Grown]]) -> dict[str, Grown]:
    names = dict.fromkeys(name for part in parts for name in part)
    return {name: Grown.together([part[name] for part in parts if name in part]) for name in names}


def _grown(series: Sequence[Counted], label: str) -> dict[str, Grown]:
    of: dict[str, list[Grown]] = {}
    for one in distinct(series, lambda each: each.labels):
        of.setdefault(one.labels.get(label, ""), []).append(one.grown)
    return {name: Grown.together(parts) for name, parts in of.items()}


def _lengths(
    by_name: Mapping[str, list[Counted]], histogram: str, counter: str, label: str
) -> tuple[dict[str, Grown], dict[str, Buckets] | None]:
    """Tokens of requests, by the histogram of lengths, else by the counter of tokens; and the histogram."""
    tokens: list[dict[str, Grown]] = []
    buckets: dict[str, Buckets] = {}
    for engine in ENGINES.values():
        counted = (metric.name for metric in engine.metrics.get(histogram, ()) if f"{metric.name}_sum" in by_name)
        name = next(counted, None)
        if name is None:
            tokens.append(_of_engine(engine, by_name, counter, label))
            continue
        tokens.append(_grown(by_name[f"{name}_sum"], label))
        buckets = (_buckets(by_name.get(f"{name}_bucket", ()), label) or {}) | buckets
    return _added(tokens), buckets or None


def _buckets(series: Sequence[Counted], label: str) -> dict[str, Buckets] | None:
    by_label: dict[str, dict[float, list[Grown]]] = {}
    num_steps = 0
    for one in distinct(series, lambda each: each.labels):
        upper = float(one.labels.get("le", "inf").replace("+Inf", "inf"))
        by_label.setdefault(one.labels.get(label, ""), {}).setdefault(upper, []).append(one.grown)
        num_steps = one.num_steps
    found = {name: _bucketed(ends, num_steps) for name, ends in by_label.items()}
    return {name: buckets for name, buckets in found.items() if buckets is not None} or None


def _bucketed(ends: Mapping[float, Sequence[Grown]], num_steps: int) -> Buckets | None:
    """Of one adapter: buckets count all that is shorter, too."""
    upper = np.array(sorted(end for end in ends if np.isfinite(end)))
    if not len(upper):
        return None
    wholes = [Grown.together(ends[end]) for end in upper]
    cumulative = np.stack([np.bincount(one.step, one.amount, num_steps) for one in wholes], axis=1)
    counts = np.diff(cumulative, axis=1, prepend=0.0)
    return Buckets.of(upper, np.maximum(counts, 0.0))


def _running(by_name: Mapping[str, list[Counted]], step_s: float) -> dict[str, float] | None:
    """Share of the steps in which each adapter had a request running: of each server the latest line says who has."""
    infos = [engine.adapter_info for engine in ENGINES.values() if engine.adapter_info is not None]
    for info in infos:
        if info.series in by_name:
            return _present(by_name[info.series], info.running, (info.running, info.waiting, info.most))
    return None


def _present(series: Sequence[Counted], running: str, own: tuple[str, ...]) -> dict[str, float] | None:
    by_server: dict[tuple[tuple[str, str], ...], list[Counted]] = {}
    for one in series:
        server = tuple(sorted((key, value) for key, value in one.labels.items() if key not in own))
        by_server.setdefault(server, []).append(one)
    times: dict[str, float] = {}
    seen = 0
    for lines in by_server.values():
        stamps = np.full((len(lines), lines[0].num_steps + 1), -np.inf)
        for row, one in zip(stamps, lines, strict=True):
            row[one.place] = one.value
        latest = stamps.argmax(axis=0)
        for at in np.flatnonzero(np.isfinite(stamps.max(axis=0))):
            seen += 1
            for name in lines[latest[at]].labels.get(running, "").split(","):
                if name:
                    times[name] = times.get(name, 0.0) + 1
    return {name: count / seen for name, count in sorted(times.items())} if times else None
