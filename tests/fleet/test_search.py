"""Parts of the search for a fleet that need no twin: who takes over, how far numbers are tried, what is left."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.errors import InputError
from loratwin.fleet.balance import LEAST_PART, deal, equal_parts
from loratwin.fleet.columns import Column
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.losses import reserves
from loratwin.fleet.packing import FARTHEST, FARTHEST_MORE, LARGE, SAMPLE, Packed, Packer
from loratwin.fleet.pool_search import left_of
from loratwin.fleet.split import order_by_server
from loratwin.plan.choice import Candidate
from loratwin.records import EngineConfig
from loratwin.workload import BASE
from tests.plan.small import profile


def packed(load: np.ndarray, slots_ranks: list[int]) -> Packed:
    """Dealt to servers whose slots have these ranks; 0: no slots."""
    configs = [EngineConfig(max_loras=4 if rank else 0, max_lora_rank=rank or 8) for rank in slots_ranks]
    candidates = tuple(cast(Candidate, SimpleNamespace(config=config)) for config in configs)
    return Packed(deal(load, equal_parts(len(configs))), (0,) * len(configs), candidates)


def reserves_by_hand(found: Packed, load: np.ndarray, ranks: list[int]) -> dict[int, int]:
    """The same rule, server by server and adapter by adapter."""
    number = len(found.kinds)
    loads, counts = found.entries.loads(load, number), found.entries.counts(number)
    homes: dict[int, list[int]] = {}
    for adapter, server, part in found.entries.rows():
        if part > LEAST_PART:
            homes.setdefault(adapter, []).append(server)
    chosen = {}
    for lost in range(number):
        extra, more = loads.copy(), counts.copy()
        for adapter in sorted(
            (a for a, at in homes.items() if at == [lost] and a != BASE), key=lambda a: (-load[a], a)
        ):
            configs = [candidate.config for candidate in found.candidates]
            can = [j for j, each in enumerate(configs) if each.max_loras and each.max_lora_rank >= ranks[adapter]]
            fit = [j for j in can if j != lost]
            if fit:
                target = min(fit, key=lambda j: (extra[j], more[j], j))
                chosen[adapter] = target
                extra[target] += load[adapter]
                more[target] += 1
    return chosen


@given(st.integers(1, 5), st.integers(1, 25), st.integers(0, 2**31))
def test_the_least_loaded_server_that_can_takes_over(num_servers: int, number: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    load = np.append(rng.integers(0, 4, number).astype(float), 1.0)  # few values: many ties
    ranks = rng.choice([8, 32], number).tolist()
    found = packed(load, rng.choice([0, 8, 32], num_servers).tolist())
    assert reserves(found, load, ranks) == reserves_by_hand(found, load, ranks)


@dataclass
class Fails(Packer):
    """Places nothing on fewer servers than so many."""

    works_from: int = 10**9
    tried: list[int] = field(default_factory=list)
    sampled: list[int] = field(default_factory=list)
    sample_works_from: int = 0

    def _tune_first(self, kind: int, least: int, most: int) -> None:
        """There is nothing to tune."""

    def _mostly_fails(self, entries: Any, kinds: Any) -> bool:
        self.sampled.append(len(kinds))
        return len(kinds) < self.sample_works_from

    def evenly(self, kinds: Any) -> Packed | None:
        self.tried.append(len(kinds))
        return None if len(kinds) < self.works_from else packed(self.load, [8] * len(kinds))


@given(st.integers(1, 40), st.integers(0, 60))
def test_the_fewest_servers_are_found_in_growing_steps(least: int, more: int) -> None:
    load = np.ones(4)
    finds = Fails(cast(Any, None), load, (0, 1, 2), works_from=least + more)
    found = finds.fewest(0, least, 1000)
    within = least + more <= FARTHEST * least + FARTHEST_MORE
    assert (len(found.kinds) if found else None) == (least + more if within else None)
    assert len(finds.tried) < 30


def test_what_never_works_is_given_up_soon() -> None:
    for sample_works_from in (0, 10**9):
        never = Fails(cast(Any, None), np.ones(4), (0, 1, 2), sample_works_from=sample_works_from)
        assert never.fewest(0, 100, 100_000) is None
        seen = {*never.tried, *never.sampled}
        assert max(seen) == 100 * FARTHEST + FARTHEST_MORE and len(seen) < 40


@given(st.integers(LARGE + 1, 400), st.integers(0, 150), st.integers(0, 10))
def test_of_many_servers_a_sample_tells_where_to_begin(least: int, by_sample: int, more: int) -> None:
    """Numbers that the sample rules out are never verified, and few are."""
    from_, works_from = least + by_sample, least + by_sample + more
    finds = Fails(cast(Any, None), np.ones(4), (0, 1, 2), works_from=works_from, sample_works_from=from_)
    found = finds.fewest(0, least, 10_000)
    assert found is not None and len(found.kinds) == works_from
    assert min(finds.tried) == from_ and len(finds.tried) <= 9
    assert len(set(finds.sampled)) < 25


@dataclass
class Asks(Packer):
    """Servers are numbers, so that a judge can be a few functions."""

    @staticmethod
    def servers(entries: Any, kinds: Any) -> Any:
        return list(range(len(kinds)))


@pytest.mark.parametrize(
    ("number", "failing", "asked"),
    [(LARGE, 50, [SAMPLE]), (200, 70, [SAMPLE]), (200, 40, [SAMPLE, 200]), (200, 0, [SAMPLE, 200]), (9, 4, [9, 9])],
)
def test_a_fleet_that_mostly_fails_is_known_by_a_sample(number: int, failing: int, asked: list[int]) -> None:
    load, seen = np.append(np.ones(number), 0.0), []  # one adapter for each server

    def working(servers: list[int], what: str = "", most: int | None = None) -> list[int | None]:
        seen.append(len(servers))
        return [j if j >= failing else None for j in servers]

    judge = SimpleNamespace(working=working, judged=lambda servers, configs, what: servers, works=lambda found: True)
    packer = Asks(cast(Any, judge), load, tuple(range(number)))
    found = packer.verified(packer.deal(number, 1.0), [0] * number, repairs=0)
    assert seen == asked
    assert (found is not None) is (failing == 0)


@given(st.lists(st.integers(0, 9), max_size=50), st.sampled_from([10, 100_000]))
def test_requests_are_sorted_by_server_and_arrival(servers: list[int], num_servers: int) -> None:
    chosen = np.array(servers, np.int32) * (num_servers // 10)
    assert order_by_server(chosen, num_servers).tolist() == sorted(range(len(servers)), key=lambda i: chosen[i])


def test_a_kind_that_is_used_up_leaves_the_others() -> None:
    columns = [Column(0, (0.1,)), Column(1, (0.2,))]
    gpus = [Gpus(profile(), 2), Gpus(profile(), None)]
    left, kinds = left_of(columns, gpus, [0, None])
    assert left == columns[1:] and kinds[1].count is None
    assert [each.count for each in left_of(columns, gpus, [1, None])[1]] == [1, None]
    with pytest.raises(InputError, match="all servers are taken"):
        left_of(columns[:1], gpus, [0, None])
