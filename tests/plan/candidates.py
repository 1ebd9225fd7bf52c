"""Candidates by hand, without simulating."""

from __future__ import annotations

from typing import Any

from loratwin.metrics import Interval
from loratwin.plan.choice import Candidate
from loratwin.records import EngineConfig


def value(mean: float) -> Interval:
    return Interval(mean, 0.0, 3, 0.95)


def candidate(
    slots: int,
    throughput: float = 1000.0,
    ttft_ms: float = 100.0,
    tpot_ms: float = 20.0,
    *,
    seqs: int = 256,
    share: float = 1.0,
    ttft_p99_s: float = 1.0,
    tail_ms: float | None = None,
    **changes: Any,
) -> Candidate:
    """A candidate that works, 101 output tokens: latency = TTFT + 100 x TPOT."""
    figures = {"total_throughput": throughput, "ttft_mean_ms": ttft_ms, "tpot_mean_ms": tpot_ms, "served_share": share}
    if tail_ms is not None:
        figures["ttft_p99_ms"] = tail_ms
    return Candidate(
        config=EngineConfig(max_loras=slots, max_num_seqs=seqs),
        served_adapters=64,
        kv_tokens=100_000,
        figures={name: value(mean) for name, mean in figures.items()},
        slo_s={"ttft_p99": value(ttft_p99_s)},
        output_tokens_mean=101.0,
        **changes,
    )


def not_starting(slots: int) -> Candidate:
    config = EngineConfig(max_loras=slots)
    return Candidate(config, served_adapters=64, kv_tokens=0, starts=False, why_not="no room")
