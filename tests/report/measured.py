"""A run as a client would have measured it: a simulated one, seen late, with failures, and scraped each second.

Nothing of it was measured. It is made so that every part of a report has something to show, and so that what is shown
can be counted by other means.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import yaml

from loratwin.perf import load_profile
from loratwin.records import (
    DeliverySeries,
    EngineConfig,
    GapHistogram,
    Provenance,
    RequestTable,
    Run,
    Samples,
    Series,
)
from loratwin.records.columns import FloatArray
from loratwin.simulate import simulate, time_series
from loratwin.workload import Workload, draw
from loratwin.workload.files import parse_spec

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
NASTY = "<script>alert('a')</script>&\"$x$"
FAILURES = ("HTTP 500", f"stream cut off {NASTY}")

SPEC = """
window_s: 120
lengths: {prompt: 250, output: 60}
base: {rate: 1}
groups:
  - {name: few, count: 30, ranks: [8], total_rate: 12}
  - {name: many, count: 270, ranks: [8, 16], total_rate: 18, popularity: zipf}
"""


@cache
def workload() -> Workload:
    """300 adapters, about 3,700 requests in two minutes."""
    return draw(parse_spec(yaml.safe_load(SPEC)), seed=4)


@cache
def simulated() -> Run:
    """The twin's, with its steps."""
    return simulate(workload(), load_profile(PROFILE), EngineConfig(max_loras=64, max_lora_rank=16))


@cache
def measured() -> Run:
    """The twin's run of the same workload, disturbed."""
    base, rng = simulated(), np.random.default_rng(7)
    table, n, end = base.requests, len(base.requests), base.window_s
    sent = table.arrival_s + rng.gamma(2.0, 4e-5, n)
    first = sent + (table.first_token_s - table.arrival_s) * rng.normal(1.05, 0.04, n) + 0.012
    finish = first + (table.finish_s - table.first_token_s) * rng.normal(1.03, 0.02, n)
    failure = np.where(rng.random(n) < 0.02, rng.integers(0, 2, n), -1).astype(np.int32)
    finish = np.where((failure >= 0) | (finish > end), np.nan, finish)
    first = np.where((failure == 0) | (first > end), np.nan, first)
    whole = np.where(np.isnan(first), 0, np.where(np.isnan(finish), table.output_tokens // 2, table.output_tokens))
    columns = dict(
        arrival_s=sent,
        admitted_s=np.full(n, np.nan),
        first_token_s=first,
        finish_s=finish,
        adapter=table.adapter,
        prompt_tokens=table.prompt_tokens,
        output_tokens=table.output_tokens,
        num_preemptions=np.zeros(n, dtype=np.int32),
        refused=np.zeros(n, dtype=bool),
        scheduled_s=table.arrival_s,
        sent_s=sent,
        asked_tokens=table.output_tokens,
        received_tokens=whole.astype(np.int32),
        failure=failure,
    )
    order = np.argsort(sent, kind="stable")
    requests = RequestTable(**{name: values[order] for name, values in columns.items()})
    names = (NASTY, *base.adapters.name[1:])
    adapters = type(base.adapters)(names, base.adapters.rank, base.adapters.rate_per_s)
    return Run(
        kind="measured",
        window_s=end,
        requests=requests,
        adapters=adapters,
        config=base.config,
        kv_tokens=base.kv_tokens,
        provenance=Provenance(
            "loratwin bench", "0", "vllm-0.8.5", "llama", "H100", ("--max-loras", "64", NASTY), workload_hash=None
        ),
        failures=FAILURES,
        invalid=("the client fell behind, or so says " + NASTY,),
        gaps=_gaps(requests, len(names), rng),
        deliveries=_deliveries(requests, end),
        samples=(_server(base), _gpu(end)),
    )


def _gaps(requests: RequestTable, num_adapters: int, rng: np.random.Generator) -> GapHistogram:
    counts = np.zeros((num_adapters + 1, 1400), dtype=np.int64)
    done = ~np.isnan(requests.finish_s) & (requests.output_tokens > 1)
    for i in np.flatnonzero(done):
        num = int(requests.output_tokens[i]) - 1
        mean = (requests.finish_s[i] - requests.first_token_s[i]) / num
        bins = np.floor(64 * np.log2(rng.normal(mean, mean / 20, num).clip(1e-4) / 1e-5)).astype(int) + 1
        np.add.at(counts[requests.adapter[i]], bins, 1)
    return GapHistogram(counts)


def _deliveries(requests: RequestTable, window_s: float) -> DeliverySeries:
    done = ~np.isnan(requests.finish_s)
    ends = np.arange(1.0, window_s + 1)
    tokens = np.histogram(
        requests.finish_s[done], bins=np.concatenate([[0.0], ends]), weights=requests.output_tokens[done]
    )[0]
    return DeliverySeries(ends, tokens.astype(np.int64))


def _server(base: Run) -> Samples:
    """As vLLM shows it, each second; one scrape failed."""
    seen = time_series(base, parts=int(base.window_s))
    failed = np.arange(len(seen.end_s)) == 40

    def series(name: str, values: FloatArray, **labels: str) -> Series:
        return Series(name, (("model_name", "llama"), *labels.items()), np.where(failed, np.nan, values))

    counter = np.floor(np.cumsum(seen.throughput))
    return Samples(
        "server",
        seen.end_s,
        (
            series("vllm:num_requests_running", seen.running),
            series("vllm:num_requests_waiting", seen.waiting),
            series("vllm:gpu_cache_usage_perc", seen.kv_usage),
            series("vllm:generation_tokens_total", counter),
            series("vllm:request_success_total", counter // 90, finished_reason="length"),
            series("vllm:request_success_total", counter // 900, finished_reason="stop"),
            series("process_start_time_seconds", np.full(len(counter), 1.7e9)),
        ),
    )


def _gpu(window_s: float) -> Samples:
    time_s = np.arange(0.0, window_s)
    labels = (("gpu", "0"), ("name", NASTY))
    return Samples(
        "gpu",
        time_s,
        (
            Series("utilisation", labels, 0.9 + 0.05 * np.sin(time_s)),
            Series("memory_used_bytes", labels, np.full(len(time_s), 60.0 * 2**30)),
            Series("power_w", labels, 500 + 40 * np.sin(time_s / 5)),
        ),
    )
