"""One trial: the same requests faster, and what the waiting requests wait for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from loratwin.metrics import gauges
from loratwin.perf.memory import GIB
from loratwin.plan.grid import spread_order
from loratwin.plan.trial import KV_MEMORY, SEQUENCES, SLOTS, TOKEN_BUDGET, Bench, Trial, causes
from loratwin.records import EngineConfig, Run
from loratwin.simulate import served_capacity
from loratwin.workload import draw, faster
from tests.plan.small import profile, spec


def bench(total_rate: float = 4.0) -> Bench:
    workload = draw(spec(total_rate), 0)
    return Bench((workload,), spread_order(workload.adapters), profile())


def run(total_rate: float, kv_tokens: int | None = None, **limits: Any) -> Run:
    config = EngineConfig(**{"max_loras": 24, "max_model_len": 1024, **limits})
    return bench(total_rate).simulate(Trial(config, 24, kv_tokens=kv_tokens))


def test_faster_is_the_same_requests_in_less_time() -> None:
    workload = draw(spec(), 0)
    twice = faster(workload, 2.0)
    assert twice.window_s == workload.window_s / 2
    assert np.array_equal(twice.arrival_s, workload.arrival_s / 2)
    assert np.array_equal(twice.adapter, workload.adapter)
    assert twice.offered_tokens_per_s == pytest.approx(2 * workload.offered_tokens_per_s)
    assert twice.total_rate_per_s == pytest.approx(2 * workload.total_rate_per_s)
    assert faster(workload, 1.0) is workload


@pytest.mark.parametrize(
    ("cause", "limits"),
    [
        (SLOTS, {"total_rate": 60, "max_loras": 2}),
        (SEQUENCES, {"total_rate": 60, "max_num_seqs": 4}),
        (KV_MEMORY, {"total_rate": 60, "kv_tokens": 2000}),
        (TOKEN_BUDGET, {"total_rate": 200, "max_num_batched_tokens": 256}),
    ],
)
def test_what_the_requests_wait_for(cause: str, limits: dict[str, int]) -> None:
    waits = causes(run(**limits))
    assert waits[cause] > 0.5 * sum(waits.values())
    assert sum(waits.values()) > 10


def test_the_causes_add_up_to_the_queue() -> None:
    overloaded = run(100, max_loras=4, max_num_seqs=64)
    assert sum(causes(overloaded).values()) == pytest.approx(gauges(overloaded).waiting_mean, rel=0.01)


def test_fewer_adapters_are_the_first_of_the_order_as_listed() -> None:
    whole = bench()
    part = whole.workload(10)
    assert list(part.adapters.name) == [whole.workloads[0].adapters.name[i] for i in sorted(whole.order[:10])]
    assert whole.workload(10) is part  # kept
    assert whole.workload(24) is whole.workloads[0]


def test_a_server_must_hold_the_longest_request() -> None:
    small = bench()
    enough = small.capacity(24, EngineConfig(max_loras=8, max_model_len=149))
    assert enough.starts
    config = EngineConfig(max_loras=8, max_model_len=150)
    for utilization in np.linspace(0.2, 0.5, 200):
        capacity = small.capacity(24, config.replace(gpu_memory_utilization=float(utilization)))
        assert capacity.starts == (capacity.tokens >= 150 + 16)  # one block is vLLM's own


def test_one_block_of_the_kv_cache_is_nobodys() -> None:
    """The longest request has 150 tokens, ten blocks: a cache of ten starts and cannot serve it, one of eleven can."""
    config = EngineConfig(max_loras=8, max_model_len=150)
    ten, eleven = (with_kv_tokens(tokens).capacity(24, config) for tokens in (160, 176))
    assert (ten.tokens, eleven.tokens) == (160, 176)
    assert served_capacity(with_kv_tokens(160).profile, config).starts
    assert (ten.starts, eleven.starts) == (False, True)
    assert ten.reason == "144 KV tokens are left, fewer than the longest request has: 150"


def with_kv_tokens(tokens: int) -> Bench:
    """A bench whose server has a KV cache of this size, to the block."""
    gib = (tokens + 8) * profile().llm.kv_bytes_per_token / GIB
    memory = profile().memory.model_copy(update={"kv_gib": gib})
    return replace(bench(), profile=profile().model_copy(update={"memory": memory}))


def test_the_verdict_alone_is_the_verdict() -> None:
    trial = Trial(EngineConfig(max_loras=8, max_model_len=1024), 24)
    full, brief = bench().measure(trial), bench().measure(trial._replace(verdict_only=True))
    assert (full.works, full.starved, full.served_share) == (brief.works, brief.starved, brief.served_share)
    assert full.outcome is not None and full.outcome.summary is not None
    assert brief.outcome is None
