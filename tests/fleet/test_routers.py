"""Routers that share requests out beforehand, each beside what it is said to do, request by request."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet import Placement, Server, find_router, server_of_requests
from loratwin.fleet.routers import GOLDEN, ROUTERS, SAME, holders_of
from loratwin.fleet.simulation import servers_beforehand
from loratwin.fleet.split import routing_numbers
from loratwin.records import EngineConfig
from loratwin.workload import Workload
from loratwin.workload.arrays import Adapters


def workload(asked: list[int], num_adapters: int, seed: int = 0) -> Workload:
    """A request a second for each number of an adapter (-1: without)."""
    n = len(asked)
    names = tuple(f"a{i}" for i in range(num_adapters))
    adapters = Adapters(
        names, np.full(num_adapters, 8, np.int32), np.ones(num_adapters), np.zeros(num_adapters, np.int32)
    )
    ones = np.ones(n, np.int32)
    return Workload(np.arange(n, dtype=float), np.array(asked, np.int32), ones, ones, adapters, n + 1.0, seed)


@st.composite
def placements(draw: st.DrawFn, even: bool) -> Placement:
    """Up to five servers; fractions in twelfths, or alike."""
    num_servers, num_adapters = draw(st.integers(1, 5)), draw(st.integers(1, 5))
    servers = [Server(f"gpu-{k}", "p", EngineConfig(max_loras=4)) for k in range(num_servers)]
    shares = {}
    for name in [*(f"a{i}" for i in range(num_adapters)), "base"]:
        held = draw(st.lists(st.integers(0, num_servers - 1), min_size=1, unique=True))
        parts = [1] * len(held) if even else [draw(st.integers(1, 12)) for _ in held]
        shares[name] = {f"gpu-{k}": part / sum(parts) for k, part in zip(held, parts, strict=True)}
    return Placement.of(servers, shares, base="base")


def holders(placement: Placement, adapter: int) -> dict[int, float]:
    """Server -> fraction, in order."""
    entries = zip(placement.adapter.tolist(), placement.server.tolist(), placement.fraction.tolist(), strict=True)
    return {k: part for i, k, part in sorted(entries) if i == adapter and part > 0}


def by_parts(parts: dict[int, float], number: float) -> int:
    total = 0.0
    for k, part in parts.items():
        total += part
        if number < total:
            return k
    return list(parts)[-1]


def hashed(placement: Placement, adapter: int, parts: dict[int, float], replicas: int) -> list[int]:
    name = "" if adapter < 0 else placement.adapters[adapter]
    score = {
        k: hashlib.blake2b(name.encode() + b"\0" + placement.servers[k].name.encode(), digest_size=8).hexdigest()
        for k in parts
    }
    return sorted(sorted(parts, key=lambda k: score[k], reverse=True)[:replicas])


def literal(name: str, placement: Placement, asked: list[int], numbers: list[float]) -> list[int]:
    """The server of each request."""
    chosen, seen = [], Counter[int]()
    for i, (adapter, number) in enumerate(zip(asked, numbers, strict=True)):
        parts = holders(placement, adapter)
        servers = hashed(placement, adapter, parts, int(name[-1])) if name.startswith("hash") else list(parts)
        if name == "fractions":
            chosen.append(by_parts(parts, number))
        elif name == "weighted":
            chosen.append(by_parts(parts, math.fmod((seen[adapter] + 0.5) * GOLDEN, 1.0)))
        elif name == "round-robin":
            chosen.append(servers[i % len(servers)])
        else:
            chosen.append(servers[int(number * len(servers))])
        seen[adapter] += 1
    return chosen


BEFOREHAND = [name for name, router in ROUTERS.items() if router.choose is not None]


@pytest.mark.parametrize("name", BEFOREHAND)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_router_does_what_it_says(name: str, data: st.DataObject) -> None:
    placement = data.draw(placements(even=not ROUTERS[name].uses_fractions))
    asked = data.draw(st.lists(st.integers(-1, len(placement.adapters) - 1), min_size=1, max_size=40))
    requests = workload(asked, len(placement.adapters), data.draw(st.integers(0, 50)))
    numbers = routing_numbers(requests.seed, len(asked)).tolist()
    assert servers_beforehand(placement, requests, find_router(name)).tolist() == literal(
        name, placement, asked, numbers
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_fractions_are_those_by_which_plans_split(data: st.DataObject) -> None:
    placement = data.draw(placements(even=False))
    asked = data.draw(st.lists(st.integers(-1, len(placement.adapters) - 1), min_size=1, max_size=200))
    requests = workload(asked, len(placement.adapters), 3)
    split = server_of_requests(placement, requests, routing_numbers(3, len(asked)))
    assert servers_beforehand(placement, requests, find_router("fractions")).tolist() == split.tolist()


def test_weighted_turns_keep_to_the_fractions_closely() -> None:
    """Within two requests of the exact share, at every moment; chance would be far off."""
    servers = [Server(f"gpu-{k}", "p", EngineConfig(max_loras=4)) for k in range(3)]
    placement = Placement.of(servers, {"a0": {"gpu-0": 0.2, "gpu-1": 0.3, "gpu-2": 0.5}})
    got = servers_beforehand(placement, workload([0] * 1000, 1), find_router("weighted"))
    for k, part in enumerate((Fraction(1, 5), Fraction(3, 10), Fraction(1, 2))):
        sent = np.cumsum(got == k)
        assert np.abs(sent - float(part) * np.arange(1, 1001)).max() < 3


def test_a_router_of_even_shares_refuses_fractions() -> None:
    servers = [Server(f"gpu-{k}", "p", EngineConfig(max_loras=4)) for k in range(2)]
    placement = Placement.of(servers, {"a0": {"gpu-0": 0.3, "gpu-1": 0.7}})
    with pytest.raises(InputError, match=r"cannot express the fractions 0.3 / 0.7 of 'a0': take --router fractions"):
        holders_of(placement, workload([0], 1), find_router("random"))
    holders_of(placement, workload([0], 1), find_router("llm-d-lora"))  # chooses by what it sees


def test_a_server_in_reserve_gets_nothing() -> None:
    servers = [Server(f"gpu-{k}", "p", EngineConfig(max_loras=4)) for k in range(2)]
    placement = Placement.of(servers, {"a0": {"gpu-0": 1.0, "gpu-1": 0.0}})
    for name in BEFOREHAND:
        assert set(servers_beforehand(placement, workload([0] * 9, 1), find_router(name))) == {0}


def test_names_that_are_not_known_are_refused_with_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="unknown router 'lmd-lora'. Did you mean 'llm-d-lora'"):
        find_router("lmd-lora")
    with pytest.raises(UnknownNameError, match="unknown scorer 'que'. Did you mean 'queue'"):
        find_router("llm-d", {"que": 1})
    with pytest.raises(InputError, match="router 'random' has no scorers; llm-d,"):
        find_router("random", {"queue": 1})
    with pytest.raises(InputError, match="all are 0"):
        find_router("llm-d", {"queue": 0, "kv": 0})
    assert {find_router(other) for other in SAME} <= set(ROUTERS.values())
