"""Closed loops and batches: so many in flight, over when all are answered, and refused where rates are needed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from loratwin.bench import Options
from loratwin.errors import InputError
from loratwin.metrics import in_flight
from loratwin.perf import load_profile
from loratwin.plan import plan
from loratwin.records import EngineConfig, Run
from loratwin.simulate import simulate
from loratwin.workload import Workload, draw, faster, grown, parse_spec

PROFILE = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
LENGTHS = {
    "prompt": {"kind": "uniform", "min": 20, "max": 400},
    "output": {"kind": "uniform", "min": 2, "max": 100},
}


def drawn(window_s: float = 60.0, **arrivals: Any) -> Workload:
    group = {"name": "a", "count": 12, "popularity": "zipf", "ranks": [8, 16], "arrivals": arrivals}
    return draw(parse_spec({"window_s": window_s, "lengths": LENGTHS, "groups": [group]}))


def served(workload: Workload, max_loras: int = 4) -> Run:
    return simulate(workload, PROFILE, EngineConfig(max_loras=max_loras, max_lora_rank=16))


@pytest.mark.parametrize("number", [1, 24, 300])
def test_so_many_are_in_flight(number: int) -> None:
    """All the time, but for the way from an answer to the next request."""
    run = served(drawn(kind="closed", concurrency=number))
    assert in_flight(run).mean == pytest.approx(number, rel=0.02)
    assert run.window_s == 60.0
    assert (np.diff(run.requests.arrival_s) >= 0).all()


def test_requests_come_again_when_they_are_used_up() -> None:
    workload = drawn(window_s=200.0, kind="closed", concurrency=24)
    requests = served(workload).requests
    num = workload.num_requests
    assert len(requests) > num
    again = len(requests) - num
    np.testing.assert_array_equal(requests.prompt_tokens[num:], np.tile(workload.prompt_tokens, 2)[:again])
    np.testing.assert_array_equal(requests.adapter[num:], np.tile(workload.adapter, 2)[:again])


def test_clients_think() -> None:
    quick, slow = (served(drawn(kind="closed", concurrency=4, think_s=think_s)) for think_s in (0.0, 2.0))
    assert len(slow.requests) < 0.6 * len(quick.requests)
    took = slow.requests.finish_s - slow.requests.arrival_s
    cycle = np.nanmean(took) + 2.0 + PROFILE.frontend.overhead_s
    assert len(slow.requests) == pytest.approx(4 * 60 / cycle, rel=0.1)


@pytest.mark.parametrize(
    "arrivals", [{"kind": "closed", "concurrency": 50, "requests": 200}, {"kind": "at_once", "requests": 200}]
)
def test_it_is_over_when_all_are_answered(arrivals: dict[str, Any]) -> None:
    workload = drawn(window_s=7200.0, **arrivals)
    run = served(workload)
    assert len(run.requests) == workload.num_requests == 200
    assert run.window_s == run.requests.finish_s.max() < 100
    cut = served(drawn(window_s=2.0, **arrivals))
    assert cut.window_s == 2.0


def test_a_batch_is_served_in_the_order_drawn() -> None:
    """Not by adapter, as arrivals at the same time otherwise are."""
    workload = drawn(window_s=7200.0, kind="at_once", requests=500)
    assert (np.diff(workload.adapter) < 0).any()
    admitted = served(workload, max_loras=12).requests.admitted_s
    assert (np.diff(admitted) >= 0).all()


def test_of_some_adapters_the_order_stays() -> None:
    workload = drawn(kind="at_once", requests=100)
    some = workload.take_adapters([3, 1, 0])
    kept = np.isin(workload.adapter, [0, 1, 3])
    np.testing.assert_array_equal(some.prompt_tokens, workload.prompt_tokens[kept])


def test_each_kind_is_another_workload() -> None:
    kinds: list[dict[str, Any]] = [
        {"kind": "at_once", "requests": 100},
        {"kind": "closed", "concurrency": 7, "requests": 100},
    ]
    assert len({drawn(**kind).digest for kind in kinds}) == 2


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"rate": 1.0}, "rate = 1.0: a closed loop sends as fast as it is answered"),
        ({"arrivals": {"kind": "closed", "concurrency": 0}}, "concurrency"),
        ({"arrivals": {"kind": "at_once"}}, "requests"),
    ],
)
def test_what_makes_no_sense_is_refused(spec: dict[str, Any], message: str) -> None:
    group = {"name": "a", "count": 2, "arrivals": {"kind": "closed", "concurrency": 2}} | spec
    with pytest.raises(InputError, match=message):
        parse_spec({"groups": [group]})


def test_beside_other_traffic_it_is_refused() -> None:
    group = {"name": "a", "count": 2, "arrivals": {"kind": "closed", "concurrency": 2}}
    with pytest.raises(InputError, match="must be the only traffic"):
        parse_spec({"groups": [group], "base": {"rate": 1.0}})


def test_without_rates_there_is_nothing_to_plan_or_to_scale() -> None:
    workload = drawn(kind="closed", concurrency=4)
    with pytest.raises(InputError, match="a plan needs traffic with rates, and this is a closed loop"):
        plan(workload, PROFILE)
    with pytest.raises(InputError, match="needs traffic with rates"):
        faster(workload, 2.0)
    with pytest.raises(InputError, match="needs traffic with rates"):
        grown(workload, [0], 3.0)


def test_the_load_client_takes_the_loop() -> None:
    assert Options().of(drawn(kind="closed", concurrency=9).pattern).in_flight == 9
    assert Options(in_flight=5).of(drawn(kind="closed", concurrency=9).pattern).in_flight == 5
    with pytest.raises(InputError, match="can only be simulated"):
        Options().of(drawn(kind="at_once", requests=9).pattern)
