"""One name for a quantity, whichever engine and version shows it (the table: engine.md 2.7 and 3.1)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeVar

import numpy as np

from loratwin.engines.engine import Metric
from loratwin.engines.registry import ENGINES
from loratwin.errors import LoratwinError
from loratwin.http import Connection
from loratwin.records.columns import FloatArray
from loratwin.records.series import Samples, Series
from loratwin.telemetry.exposition import ADAPTERS_RUNNING, ADAPTERS_WAITING, MAX_LORAS, Exposition
from loratwin.telemetry.table import SeriesKey

_T = TypeVar("_T")


class _Fold(Enum):
    """How the series of one name, as of several engines, become one."""

    SUM = "sum"
    MEAN = "mean"
    RATIO = "ratio"  # of a histogram: sum / count of what ended since the scrape before


FOLDS: dict[str, _Fold] = {
    "running": _Fold.SUM,
    "waiting": _Fold.SUM,
    "waiting_deferred": _Fold.SUM,
    "waiting_capacity": _Fold.SUM,
    "kv_usage": _Fold.MEAN,
    "prompt_tokens": _Fold.SUM,
    "prompt_tokens_cached": _Fold.SUM,
    "prefix_queries": _Fold.SUM,
    "prefix_hits": _Fold.SUM,
    "prefix_query_blocks": _Fold.SUM,
    "prefix_hit_blocks": _Fold.SUM,
    "generation_tokens": _Fold.SUM,
    "preemptions": _Fold.SUM,
    "requests_finished": _Fold.SUM,
    "adapters_running": _Fold.SUM,
    "adapters_waiting": _Fold.SUM,
    "slots_used": _Fold.SUM,
    "max_loras": _Fold.SUM,
    "ttft_s": _Fold.RATIO,
    "itl_s": _Fold.RATIO,
    "e2e_s": _Fold.RATIO,
    "queue_s": _Fold.RATIO,
    "prefill_s": _Fold.RATIO,
    "decode_s": _Fold.RATIO,
    "tokens_per_step": _Fold.RATIO,
}

LENGTHS = ("prompt_lengths", "output_lengths")
"""Histograms of tokens of finished requests: not over time, but of traffic as a whole (`loratwin.traffic`)."""

_OUR_OWN = {key.name.partition(":")[2]: Metric(key.name) for key in (ADAPTERS_RUNNING, ADAPTERS_WAITING, MAX_LORAS)}
"""Series that `Exposition` makes of those that an engine shows."""

_FINISHED = tuple(engine.finished for engine in ENGINES.values() if engine.finished is not None)


def _sources(name: str) -> tuple[Metric, ...]:
    """The first that a server shows is taken."""
    own = (_OUR_OWN[name],) if name in _OUR_OWN else ()
    return (*own, *(metric for engine in ENGINES.values() for metric in engine.metrics.get(name, ())))


def canonical(samples: Samples) -> dict[str, Series]:
    """The series of a server under one name each, whatever engine it is; absent where it does not show them.

    Gauges and counters: running, waiting, waiting_deferred (held back by the adapter limit), waiting_capacity, kv_usage
    (0 to 1), prompt_tokens, prompt_tokens_cached, prefix_queries and prefix_hits (tokens looked up in the prefix cache,
    and found), prefix_query_blocks and prefix_hit_blocks (the same in blocks), generation_tokens, preemptions,
    requests_finished and
    requests_finished{stop}, {length}, ..., adapters_running, adapters_waiting, slots_used, max_loras. Means over what
    ended since the scrape before, in seconds: ttft_s, itl_s, e2e_s, queue_s, prefill_s, decode_s; tokens_per_step.
    """
    found = {name: series for name, fold in FOLDS.items() if (series := _apply(name, fold, samples)) is not None}
    for metric, label in _FINISHED:
        shown = samples.find(metric.name, **metric.labels)
        for reason in sorted({value for one in shown for key, value in one.labels if key == label}):
            name = f"requests_finished{{{reason}}}"
            found[name] = Series(name, (), _nansum([one.values for one in shown if (label, reason) in one.labels]))
    return found


def _apply(name: str, fold: _Fold, samples: Samples) -> Series | None:
    for source in _sources(name):
        values = _folded(fold, source, samples)
        if values is not None:
            return Series(name, (), values)
    return None


def _labels(series: Series) -> Mapping[str, str]:
    return dict(series.labels)


def _folded(fold: _Fold, source: Metric, samples: Samples) -> FloatArray | None:
    if fold is _Fold.RATIO:
        sums, counts = samples.find(f"{source.name}_sum"), samples.find(f"{source.name}_count")
        if not sums or not counts:
            return None
        total, number = _nansum([one.values for one in sums]), _nansum([one.values for one in counts])
        mean: FloatArray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
        return mean
    found = [one.values for one in distinct(samples.find(source.name, **source.labels), _labels)]
    if not found:
        return None
    total = _nansum(found)
    return total / np.maximum(1, _num_there(found)) if fold is _Fold.MEAN else total


def distinct(series: Sequence[_T], labels_of: Callable[[_T], Mapping[str, str]]) -> list[_T]:
    """Series of one name without those that say once more what others say.

    Ranks of one server that show the same (`Engine.rank_labels`): the first. Parts of a total beside it
    (`Engine.part_labels`): the total.
    """
    ranks = {label for engine in ENGINES.values() for label in engine.rank_labels}
    parts = {label for engine in ENGINES.values() for label in engine.part_labels}
    if not any((ranks | parts) & labels_of(one).keys() for one in series):
        return list(series)
    groups: dict[tuple[tuple[str, str], ...], list[_T]] = {}
    for one in series:
        rest = tuple(sorted(item for item in labels_of(one).items() if item[0] not in ranks | parts))
        groups.setdefault(rest, []).append(one)
    return [
        one for group in groups.values() for one in _of_first_rank(_totals(group, labels_of, parts), labels_of, ranks)
    ]


def _totals(group: list[_T], labels_of: Callable[[_T], Mapping[str, str]], parts: set[str]) -> list[_T]:
    whole = [one for one in group if not any(labels_of(one).get(label) for label in parts)]
    return whole or group


def _of_first_rank(group: list[_T], labels_of: Callable[[_T], Mapping[str, str]], ranks: set[str]) -> list[_T]:
    def rank(one: _T) -> tuple[str, ...]:
        return tuple(labels_of(one).get(label, "").rjust(6) for label in sorted(ranks))

    first = min(map(rank, group))
    return [one for one in group if rank(one) == first]


def _nansum(values: list[FloatArray]) -> FloatArray:
    """The sum of what is there; NaN where nothing is. A label that appears later counts from then on."""
    total: FloatArray = np.where(_num_there(values) > 0, np.nansum(values, axis=0), np.nan)
    return total


def _num_there(values: list[FloatArray]) -> FloatArray:
    number: FloatArray = np.sum(~np.isnan(values), axis=0, dtype=np.float64)
    return number


def increase(counter: Series) -> float:
    """By how much a counter grew over its samples, restarts from zero included; NaN with fewer than two samples."""
    values = counter.values[~np.isnan(counter.values)]
    steps = np.diff(values)
    return float(np.where(steps < 0, values[1:], steps).sum()) if len(steps) else float("nan")


@dataclass(frozen=True)
class Counters:
    """What a server has counted since its start; None: it does not tell."""

    prompt_tokens: int | None = None
    generation_tokens: int | None = None
    requests_finished: dict[str, int] | None = None  # by reason; "" where the engine knows none
    preemptions: int | None = None


def counters(url: str, headers: Mapping[str, str] | None = None) -> Counters:
    """What a server has counted so far, to be compared with what a client sent and received.

    A server that does not answer has nothing to tell: all is None.
    """
    with Connection(url, headers) as connection:
        try:
            values = Exposition().read(connection.get("/metrics").decode("utf-8", "replace"))
        except LoratwinError:
            return Counters()
    return counters_of(values)


def counters_of(values: Mapping[SeriesKey, float]) -> Counters:
    """The same of a page that has been read."""
    once = Samples(
        "server", np.zeros(1), tuple(Series(key.name, key.labels, np.array([v])) for key, v in values.items())
    )
    series = {name: int(one.values[0]) for name, one in canonical(once).items() if np.isfinite(one.values[0])}
    finished = {name[18:-1]: number for name, number in series.items() if name.startswith("requests_finished{")}
    if not finished and "requests_finished" in series:
        finished = {"": series["requests_finished"]}
    return Counters(
        series.get("prompt_tokens"), series.get("generation_tokens"), finished or None, series.get("preemptions")
    )
