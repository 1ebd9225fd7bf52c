"""The headline figures of a run, in the units that people read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from loratwin.metrics.gaps import itl_mean_s, itl_percentiles_s
from loratwin.metrics.gauges import gauges
from loratwin.metrics.intervals import Interval, confidence_interval
from loratwin.metrics.latency import Side, e2e_s, finished_only, queueing_s, tpot_s, ttft_s
from loratwin.metrics.percentiles import percentiles as percentiles_of
from loratwin.metrics.starvation import starvation
from loratwin.metrics.status import accepted, sent
from loratwin.metrics.throughput import offered, throughput
from loratwin.records import Run
from loratwin.records.columns import FloatArray

NAN = float("nan")


@dataclass(frozen=True)
class Summary:
    """Headline figures over the window. Latencies are those of requests finished in it; undefined is NaN or None.

    Percentiles are NaN when they were not asked for, and ITL percentiles where the run has neither gaps nor steps.
    """

    input_throughput: float  # tokens per second, of requests finished in the window
    output_throughput: float
    total_throughput: float
    offered_throughput: float  # tokens per second, of requests that arrived
    request_throughput: float  # requests per second
    ttft_mean_ms: float
    ttft_median_ms: float
    ttft_p90_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    tpot_median_ms: float
    tpot_p99_ms: float
    itl_mean_ms: float
    itl_median_ms: float
    itl_p99_ms: float
    e2e_mean_ms: float
    e2e_median_ms: float
    e2e_p99_ms: float
    queueing_mean_ms: float  # arrival to admission
    running_mean: float
    running_max: float
    waiting_mean: float
    waiting_max: float
    kv_usage_mean: float  # 0 to 1
    kv_usage_max: float
    preemptions: int
    swap_ins: int | None
    disk_loads: int | None
    prefix_hit_rate: float  # tokens found in the prefix cache / tokens looked up; NaN: nothing was
    cached_tokens: int | None  # prompt tokens that needed no computing; None: unknown, or no prefix cache
    arrived: int
    completed: int  # finished in the window
    refused: int
    censored: int  # arrived, neither refused nor failed, not finished in the window
    served_share: float  # tokens finished / tokens offered
    starved: bool
    starved_by_throughput: bool  # the definition of arXiv 2508.08343 alone
    starved_reason: str  # empty when not starved


def summarize(run: Run, percentiles: bool = True, side: Side = "client") -> Summary:
    """All headline figures of a run.

    Parameters
    ----------
    run
        Measured or simulated.
    percentiles
        False leaves the percentiles (not the medians of TTFT) NaN and takes a fraction of the time.
    side
        Whose TTFT and end-to-end time: the client's or the engine's.

    Returns
    -------
    Summary
        Means over requests that finished in the window; throughput in tokens per second of it, latencies in
        milliseconds. Percentiles are numpy's (linear). Starved as arXiv 2508.08343 says, or by a growing queue.
    """
    done = finished_only(run)
    completed, refused, num_arrived = len(done.requests), int(run.requests.refused.sum()), int(sent(run).sum())
    came, verdict, seen, out = offered(run), starvation(run), gauges(run), throughput(done)
    return Summary(
        input_throughput=out.input,
        output_throughput=out.output,
        total_throughput=out.total,
        offered_throughput=came.total,
        request_throughput=completed / run.window_s,
        **_latencies_ms(done, percentiles, side),
        running_mean=seen.running_mean,
        running_max=seen.running_max,
        waiting_mean=seen.waiting_mean,
        waiting_max=seen.waiting_max,
        kv_usage_mean=seen.kv_usage_mean,
        kv_usage_max=seen.kv_usage_max,
        preemptions=int(run.requests.num_preemptions.sum(dtype=np.int64)),
        swap_ins=seen.swap_ins,
        disk_loads=seen.disk_loads,
        prefix_hit_rate=NAN if run.prefix_cache is None else run.prefix_cache.hit_rate,
        cached_tokens=None if run.prefix_cache is None else run.prefix_cache.hits,
        arrived=num_arrived,
        completed=completed,
        refused=refused,
        censored=int(np.count_nonzero(accepted(run))) - completed,
        served_share=verdict.ratio,
        starved=verdict.starved,
        starved_by_throughput=verdict.by_throughput,
        starved_reason=verdict.reason,
    )


def _latencies_ms(done: Run, percentiles: bool, side: Side) -> dict[str, float]:
    """All fields that end in `_ms`, of a run with finished requests only."""
    tpot = tpot_s(done)
    seconds = {
        **_distribution("ttft", ttft_s(done, side), (50, 90, 99) if percentiles else (50,)),
        **_distribution("tpot", tpot[~np.isnan(tpot)], (50, 99) if percentiles else ()),
        **_distribution("e2e", e2e_s(done, side), (50, 99) if percentiles else ()),
        "itl_mean": itl_mean_s(done),
        "queueing_mean": _mean(queueing_s(done)),
    }
    if percentiles:
        seconds["itl_median"], seconds["itl_p99"] = itl_percentiles_s(done, (50, 99))
    return {name: seconds.get(name.removesuffix("_ms"), NAN) * 1e3 for name in _LATENCY_FIELDS}


_LATENCY_FIELDS = [item.name for item in fields(Summary) if item.name.endswith("_ms")]


def _distribution(name: str, values: FloatArray, percents: tuple[int, ...]) -> dict[str, float]:
    """Mean and percentiles, named as in `Summary`."""
    names = [f"{name}_median" if percent == 50 else f"{name}_p{percent}" for percent in percents]
    return {f"{name}_mean": _mean(values), **dict(zip(names, percentiles_of(values, percents), strict=True))}


def _mean(values: FloatArray) -> float:
    return float(values.mean()) if len(values) else NAN


def over_replications(summaries: Sequence[Summary], level: float = 0.95) -> dict[str, Interval]:
    """Confidence interval of every number of a summary, over runs that differ in their seed only.

    Counts that a run does not know (None) are left out; `starved` becomes the share of runs that starve.
    """
    rows = [{name: value for name, value in vars(summary).items() if _is_number(value)} for summary in summaries]
    names = [item.name for item in fields(Summary) if any(item.name in row for row in rows)]
    return {name: confidence_interval([row[name] for row in rows if name in row], level) for name in names}


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float))
