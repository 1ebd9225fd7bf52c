"""One name for a quantity, whichever engine and version shows it (the table: engine.md 2.7 and 3.1)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from loratwin.errors import LoratwinError
from loratwin.http import Connection
from loratwin.records.columns import FloatArray
from loratwin.records.series import Samples, Series
from loratwin.telemetry.exposition import ADAPTERS_RUNNING, ADAPTERS_WAITING, MAX_LORAS, Exposition
from loratwin.telemetry.table import SeriesKey


class _Fold(Enum):
    """How the series of one name, as of several engines, become one."""

    SUM = "sum"
    MEAN = "mean"
    RATIO = "ratio"  # of a histogram: sum / count of what ended since the scrape before


@dataclass(frozen=True)
class _Rule:
    name: str
    fold: _Fold
    sources: tuple[str, ...]  # the first that the server shows is taken
    labels: Mapping[str, str] = field(default_factory=dict)


def _sum(name: str, *sources: str, **labels: str) -> _Rule:
    return _Rule(name, _Fold.SUM, sources, labels)


def _ratio(name: str, *sources: str) -> _Rule:
    return _Rule(name, _Fold.RATIO, sources)


RULES = (
    _sum("running", "vllm:num_requests_running", "sglang:num_running_reqs"),
    _sum("waiting", "vllm:num_requests_waiting", "sglang:num_queue_reqs"),
    _sum("waiting_deferred", "vllm:num_requests_waiting_by_reason", reason="deferred"),
    _sum("waiting_capacity", "vllm:num_requests_waiting_by_reason", reason="capacity"),
    _Rule("kv_usage", _Fold.MEAN, ("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc", "sglang:token_usage")),
    _sum("prompt_tokens", "vllm:prompt_tokens_total", "sglang:prompt_tokens_total"),
    _sum("prompt_tokens_cached", "vllm:prompt_tokens_cached_total", "sglang:cached_tokens_total"),
    _sum("generation_tokens", "vllm:generation_tokens_total", "sglang:generation_tokens_total"),
    _sum("preemptions", "vllm:num_preemptions_total"),  # SGLang's num_retracted_reqs is a gauge
    _sum("requests_finished", "vllm:request_success_total", "sglang:num_requests_total"),
    _sum("adapters_running", ADAPTERS_RUNNING.name),
    _sum("adapters_waiting", ADAPTERS_WAITING.name),
    _sum("slots_used", "vllm:num_gpu_loaded_lora_adapters", "sglang:lora_pool_slots_used"),
    _sum("max_loras", MAX_LORAS.name, "vllm:max_gpu_lora_adapters", "sglang:lora_pool_slots_total"),
    _ratio("ttft_s", "vllm:time_to_first_token_seconds", "sglang:time_to_first_token_seconds"),
    _ratio(
        "itl_s",
        "vllm:inter_token_latency_seconds",
        "vllm:time_per_output_token_seconds",
        "sglang:inter_token_latency_seconds",
        "sglang:time_per_output_token_seconds",
    ),
    _ratio("e2e_s", "vllm:e2e_request_latency_seconds", "sglang:e2e_request_latency_seconds"),
    _ratio("queue_s", "vllm:request_queue_time_seconds", "sglang:queue_time_seconds"),
    _ratio("prefill_s", "vllm:request_prefill_time_seconds"),
    _ratio("decode_s", "vllm:request_decode_time_seconds"),
    _ratio("tokens_per_step", "vllm:iteration_tokens_total"),
)

_REASON = "finished_reason"


def canonical(samples: Samples) -> dict[str, Series]:
    """The series of a server under one name each, whatever engine it is; absent where it does not show them.

    Gauges and counters: running, waiting, waiting_deferred (held back by the adapter limit), waiting_capacity, kv_usage
    (0 to 1), prompt_tokens, prompt_tokens_cached, generation_tokens, preemptions, requests_finished and
    requests_finished{stop}, {length}, ..., adapters_running, adapters_waiting, slots_used, max_loras. Means over what
    ended since the scrape before, in seconds: ttft_s, itl_s, e2e_s, queue_s, prefill_s, decode_s; tokens_per_step.
    """
    found = {rule.name: series for rule in RULES if (series := _apply(rule, samples)) is not None}
    reasons = sorted({value for one in _finished(samples) for key, value in one.labels if key == _REASON})
    for reason in reasons:
        name = f"requests_finished{{{reason}}}"
        values = [one.values for one in _finished(samples) if (_REASON, reason) in one.labels]
        found[name] = Series(name, (), _nansum(values))
    return found


def _finished(samples: Samples) -> tuple[Series, ...]:
    return samples.find("vllm:request_success_total")


def _apply(rule: _Rule, samples: Samples) -> Series | None:
    for source in rule.sources:
        values = _fold(rule, source, samples)
        if values is not None:
            return Series(rule.name, (), values)
    return None


def _fold(rule: _Rule, source: str, samples: Samples) -> FloatArray | None:
    if rule.fold is _Fold.RATIO:
        sums, counts = samples.find(f"{source}_sum"), samples.find(f"{source}_count")
        if not sums or not counts:
            return None
        total, number = _nansum([one.values for one in sums]), _nansum([one.values for one in counts])
        mean: FloatArray = np.divide(total, number, out=np.full(len(total), np.nan), where=number > 0)
        return mean
    found = [one.values for one in samples.find(source, **rule.labels)]
    if not found:
        return None
    total = _nansum(found)
    return total / np.maximum(1, _num_there(found)) if rule.fold is _Fold.MEAN else total


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
