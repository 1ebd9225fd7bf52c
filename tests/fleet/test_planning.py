"""Plans of fleets on small workloads: every server works, and what cannot be done is refused with what can."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.fleet.balance import Entries
from loratwin.fleet.columns import Column, dealt_by
from loratwin.fleet.gpus import Gpus, parse_gpus
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.planning import plan_fleet
from loratwin.fleet.split import routing_numbers, split_requests
from loratwin.fleet.wishes import Wishes, keeps_places
from loratwin.metrics import starvation, starving_adapters
from loratwin.simulate import simulate
from loratwin.workload import BASE, AdapterGroup, WorkloadSpec, Zipf, draw
from tests.plan.small import LENGTHS, profile

LIMITS: dict[str, Any] = {"slots": [4, 8, 16], "max_num_seqs": 256, "max_model_len": 4096, "seeds": (0,)}


def workload(exponent: float = 1.2, total_rate: float = 200.0, ranks: Any = 8) -> WorkloadSpec:
    group = AdapterGroup(name="a", count=30, total_rate=total_rate, popularity=Zipf(exponent=exponent), ranks=ranks)
    return WorkloadSpec(window_s=120, lengths=LENGTHS, groups=(group,))


@cache
def planned(**wishes: Any) -> FleetPlan:
    return plan_fleet(workload(), [Gpus(profile(), price_per_h=2.0)], wishes=Wishes(**wishes), **LIMITS)


def test_every_server_of_the_plan_works_when_it_is_simulated() -> None:
    found = planned()
    assert found.num_servers >= found.bound.gpus >= 2
    assert found.price_per_h == 2.0 * found.num_servers
    assert "a-00" in found.split  # it asks for a third of everything
    drawn = draw(workload())
    parts = split_requests(found.placement, drawn, routing_numbers(drawn.seed, drawn.num_requests))
    for part, server in zip(parts, found.placement.servers, strict=True):
        run = simulate(part, profile(), server.config)
        assert not starvation(run).starved and not starving_adapters(run)
    assert all(server.candidate.margin >= 1.2 for server in found.servers)
    assert found.loads.sum() == pytest.approx(found.load.sum())
    assert found.worst[0].ttft_p99_ms >= found.worst[-1].ttft_p99_ms


def test_one_server_less_fails() -> None:
    found = planned()
    with pytest.raises(InputError, match=f"do not suffice: {found.num_servers} would"):
        plan_fleet(workload(), [Gpus(profile(), count=found.bound.gpus - 1)], **LIMITS)


def test_a_server_can_be_lost() -> None:
    found = planned(failures=1)
    assert found.num_servers >= planned().num_servers
    assert found.placement.num_replicas().min() >= 2
    assert next(case for case in found.stress if "lost" in case.name).works


def test_pins_are_kept_or_refused() -> None:
    found = plan_fleet(workload(), [Gpus(profile())], wishes=Wishes(pins={"a-05": ["gpu-1"]}), **LIMITS)
    entries = found.placement.entries_for(5)
    assert found.placement.server[entries].tolist() == [1]
    with pytest.raises(InputError, match=r"on gpu-0 .* which it cannot carry: pin \d+ of them there"):
        plan_fleet(workload(), [Gpus(profile())], wishes=Wishes(pins={"a": ["gpu-0"]}), **LIMITS)
    with pytest.raises(InputError, match="pins contradict: adapter 'a-05'"):
        pins = {"a-05": ["gpu-1"], "a": ["gpu-0"]}
        plan_fleet(workload(), [Gpus(profile())], wishes=Wishes(pins=pins), **LIMITS)


def test_no_more_adapters_move_than_may() -> None:
    pytest.importorskip("scipy")
    present = planned().placement
    found = plan_fleet(workload(1.1), [Gpus(profile())], wishes=Wishes(present=present, most_moves=2), **LIMITS)
    assert found.moves is not None and found.moves <= 2
    with pytest.raises(InputError, match=r"adapters would have to move, and 0 may"):
        more = workload(1.2, 400.0)
        plan_fleet(more, [Gpus(profile())], wishes=Wishes(present=present, most_moves=0), **LIMITS)


def test_several_ranks_go_by_a_linear_program() -> None:
    pytest.importorskip("scipy")
    found = plan_fleet(workload(ranks=(8, 32)), [Gpus(profile())], **LIMITS)
    assert "configuration LP" in found.bound.name
    assert found.num_servers >= found.bound.gpus
    config = {server.name: server.config for server in found.placement.servers}
    held = found.placement
    ranks = np.array(found.ranks)[held.adapter]
    assert all(ranks[i] <= config[held.servers[j].name].max_lora_rank for i, j in enumerate(held.server.tolist()))


def test_an_slo_with_several_ranks_and_little_traffic_is_within_reach() -> None:
    """The smallest part of a mix has no requests at all, and so no percentile."""
    pytest.importorskip("scipy")
    found = plan_fleet(workload(total_rate=2.0, ranks=(8, 32)), [Gpus(profile())], slo="ttft_p99=2s", **LIMITS)
    assert found.num_servers == 1


def test_what_no_number_of_servers_does_is_refused() -> None:
    with pytest.raises(InputError, match=r"ttft_p99=1ms is out of reach: .* reaches ttft_p99 = \d+ ms"):
        plan_fleet(workload(), [Gpus(profile())], slo="ttft_p99=1ms", **LIMITS)
    with pytest.raises(InputError, match="needs a price"):
        plan_fleet(workload(), [Gpus(profile())], target="cheapest", **LIMITS)


def test_gpus_are_read() -> None:
    name = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
    assert parse_gpus(f"{name}:8@2.5") == Gpus(profile(), 8, 2.5)
    assert parse_gpus(name) == Gpus(profile())
    wrong = ((f"{name}:x", "not a number of servers"), (f"{name}@y", "not a price"), (f"{name}:0", "one at least"))
    for text, message in wrong:
        with pytest.raises(InputError, match=message):
            parse_gpus(text)


def test_a_gpu_and_an_llm_do_in_place_of_a_profile() -> None:
    """The one that was fitted, where there is one; else an assumed one, which says so."""
    fitted = parse_gpus("h100-64gb:8@2.5", "llama-3.1-8b-instruct", "vllm-0.8.5")
    assert fitted == Gpus(profile(), 8, 2.5) and not fitted.profile.notes
    assumed = parse_gpus("NVIDIA A100-SXM4-80GB:2", "Qwen/Qwen3-8B").profile
    assert assumed.name == "a100-80gb/vllm-0.32.0/qwen-3-8b" and "assumed" in assumed.notes[0]
    assert parse_gpus(profile().name, "qwen-3-8b").profile == profile()
    with pytest.raises(InputError, match="--gpus h100-sxm: a GPU needs an LLM"):
        parse_gpus("h100-sxm")
    with pytest.raises(InputError, match="h100-smx"):
        parse_gpus("h100-smx", "qwen-3-8b")


def test_isolated_groups_do_not_get_more_servers_than_there_are() -> None:
    groups = tuple(AdapterGroup(name=name, count=2, total_rate=1.0, ranks=8) for name in ("a", "b"))
    asked = WorkloadSpec(window_s=30, lengths=LENGTHS, groups=groups)
    with pytest.raises(InputError, match="least latency with isolated groups: plan each group alone"):
        plan_fleet(asked, [Gpus(profile(), count=1)], target="latency", wishes=Wishes(isolated=["b"]), **LIMITS)


def test_a_present_placement_is_kept_only_where_pins_and_isolated_groups_are() -> None:
    entries = Entries.of([(BASE, 0, 1.0), (0, 0, 1.0), (1, 1, 0.5), (1, 2, 0.5), (2, 2, 1.0)])
    together, apart = [(BASE, 0, 1, 2)], [(BASE, 0), (1, 2)]
    assert keeps_places(entries, {1: (2, 1)}, together) and keeps_places(entries, {}, apart)
    assert not keeps_places(entries, {1: (1,)}, together)
    assert not keeps_places(entries, {2: (1, 2)}, together)
    assert not keeps_places(entries, {}, [(BASE, 0, 1), (2,)])


def test_dealing_by_columns_looks_at_each_adapter_once() -> None:
    class Looked(tuple[int, ...]):
        def __contains__(self, value: object) -> bool:
            raise AssertionError("all adapters are gone through for each of them")

    columns, load = [Column(0, (0.5, 1.0, 0.5))] * 2, np.array([1.0, 2.0, 3.0, 4.0])
    rows = list(dealt_by(columns, np.array([0, 1, 1], np.int32), load, Looked((BASE, 0, 2))).rows())
    assert {a for a, _, _ in rows} == {BASE, 0, 2}
    assert [part for a, _, part in rows if a == BASE] == [0.5, 0.5]


def test_a_group_without_requests_in_the_window_gets_a_server_that_keeps_the_slo() -> None:
    asked = AdapterGroup(name="a", count=3, total_rate=2.0, ranks=8)
    silent = AdapterGroup(name="b", count=1, total_rate=1e-9, ranks=8)
    spec = WorkloadSpec(window_s=30, lengths=LENGTHS, groups=(asked, silent))

    def progress(done: int, total: int, what: str) -> None:
        assert done < 200, "more and more servers are tried"

    found = plan_fleet(
        spec, [Gpus(profile())], slo="ttft_p99=1s", wishes=Wishes(isolated=["b"]), progress=progress, **LIMITS
    )
    assert found.num_servers == 2
    assert all(case.works for case in found.stress[:2])


def test_parts_without_a_request_are_no_way_to_keep_an_slo() -> None:
    """Of little traffic there are soon so many parts that most have no request, which nobody could be late for."""
    asked = AdapterGroup(name="a", count=6, total_rate=4.0, ranks=8)
    spec = WorkloadSpec(window_s=15, lengths=LENGTHS, groups=(asked,))

    def progress(done: int, total: int, what: str) -> None:
        assert done < 200, "more and more servers are tried"

    with pytest.raises(InputError, match=r"ttft_p99=1ms is out of reach: .* reaches ttft_p99 = \d+ ms"):
        plan_fleet(spec, [Gpus(profile())], slo="ttft_p99=1ms", progress=progress, **LIMITS)
