"""Dealing and moving: everything placed, hot ones split, loads level, and no more moves than allowed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.fleet.balance import (
    Entries,
    budgets,
    deal,
    equal_parts,
    moves,
    num_replicas,
    onto,
    rebalance,
    relabelled,
    split_further,
)
from loratwin.workload import BASE


def zipf(number: int, exponent: float, base: float = 0.0) -> np.ndarray:
    load = np.arange(1, number + 1, dtype=float) ** -exponent
    return np.append(load / load.sum(), base)


def assert_whole(found: Entries, num_adapters: int) -> None:
    sums = np.bincount(found.adapter[found.adapter >= 0], weights=found.fraction[found.adapter >= 0])
    assert sums == pytest.approx(np.ones(num_adapters))
    assert len({(a, j) for a, j, _ in found.rows()}) == len(found.adapter)
    assert np.all(found.fraction > 0)


@given(st.integers(1, 60), st.integers(1, 9), st.floats(0, 2))
def test_everything_is_dealt_evenly(number: int, num_servers: int, exponent: float) -> None:
    load = zipf(number, exponent, base=0.2)
    found = deal(load, equal_parts(num_servers))
    assert_whole(found, number)
    counts, loads = found.counts(num_servers), found.loads(load, num_servers)
    assert counts.sum() == num_replicas(load[:-1], 1.2 / num_servers, 0.5, num_servers).sum()
    assert loads.sum() == pytest.approx(1.2)
    if number >= 3 * num_servers:
        assert loads.max() <= 1.2 / num_servers * 1.5 + load[:-1].max() / 2
        assert counts.max() - counts.min() <= max(2, num_servers)


def test_no_replica_carries_more_than_half_a_servers_mean() -> None:
    load = zipf(200, 1.2)
    found = deal(load, equal_parts(8))
    assert (load[found.adapter] * found.fraction).max() <= 0.5 / 8 + 1e-12
    loads = found.loads(load, 8)
    assert loads.max() / loads.mean() < 1.02
    assert deal(load, equal_parts(8), half=10.0).counts(8).sum() == 200  # whole adapters


def test_weights_and_pins_are_kept() -> None:
    load = zipf(100, 1.0)
    found = deal(load, np.array([0.5, 0.25, 0.25]), pinned={0: [2], 5: [0, 1]})
    assert_whole(found, 100)
    assert [(j, part) for a, j, part in found.rows() if a == 0] == [(2, 1.0)]
    assert [(j, part) for a, j, part in found.rows() if a == 5] == [(0, 0.5), (1, 0.5)]
    assert found.loads(load, 3) == pytest.approx([0.5, 0.25, 0.25], abs=0.02)
    assert found.counts(3)[0] == pytest.approx(0.5 * found.counts(3).sum(), abs=2)


@given(st.integers(2, 6), st.integers(0, 12), st.integers(0, 2**31))
def test_moves_are_counted_and_help(num_servers: int, most: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    before = deal(np.append(rng.pareto(1.0, 50), 0.0), equal_parts(num_servers))
    load = np.append(rng.pareto(1.0, 50), 0.0)
    after = rebalance(before, load, num_servers, most)
    assert_whole(after, 50)
    assert moves(after, before) <= most
    assert after.loads(load, num_servers).max() <= before.loads(load, num_servers).max() * (1 + 1e-9)


def test_a_move_that_gains_less_than_its_price_is_not_made() -> None:
    before = Entries.of([(0, 0, 1.0), (1, 0, 1.0), (2, 1, 1.0)])
    load = np.array([1.0, 0.1, 1.0, 0.0])
    assert moves(rebalance(before, load, 2, 5, price=0.1), before) == 0
    assert moves(rebalance(before, load, 2, 5, price=0.001), before) == 1


def test_servers_are_named_so_that_most_stays() -> None:
    pytest.importorskip("scipy")
    load = zipf(60, 1.0)
    old = deal(load, equal_parts(5))
    swap = np.array([3, 0, 4, 1, 2], np.int32)
    new = Entries(old.adapter, swap[old.server], old.fraction)
    numbers = relabelled(new, old, 5)
    assert moves(Entries(new.adapter, numbers[new.server], new.fraction), old) == 0
    kinds = relabelled(new, old, 5, kinds=[0, 0, 0, 1, 1])
    assert set(kinds[:3].tolist()) == {0, 1, 2}


def test_fewer_servers_leave_what_others_hold_where_it_is() -> None:
    load = np.array([4.0, 2.0, 1.0, 3.0, 1.0])
    held = Entries.of([(BASE, 0, 0.5), (BASE, 2, 0.5), (0, 0, 0.5), (0, 2, 0.5), (1, 1, 1.0), (2, 2, 1.0)])
    fewer = onto(held, load, 2, (BASE, 0, 1, 2, 3))
    parts = {(a, j): part for a, j, part in fewer.rows()}
    assert parts[0, 0] == 1.0 and parts[1, 1] == 1.0  # the other half of 0 falls to the server that has it
    assert parts[BASE, 0] == 1.0 and (BASE, 1) not in parts
    assert (3, 1) in parts and (2, 0) in parts  # 3 is new, and the only home of 2 is gone
    assert moves(fewer, held) == 2
    assert moves(onto(held, load, 3, (0, 1, 2)), held) == 0


def test_numbers_of_moves_are_tried_from_none_to_the_most() -> None:
    assert budgets(0) == [0] and budgets(1) == [0, 1] and budgets(5) == [0, 1, 2, 4, 5]


@given(st.integers(2, 9), st.integers(0, 20), st.integers(0, 2**31))
def test_splitting_further_adds_replicas_of_the_hot(num_servers: int, most: int, seed: int) -> None:
    load = np.append(np.random.default_rng(seed).pareto(1.0, 40), 0.5)
    before = Entries.of([*deal(load, equal_parts(num_servers)).rows()])
    after = split_further(before, load, num_servers, 0.1, most)
    assert_whole(after, 40)
    assert moves(after, before) <= most
    assert {(a, j) for a, j, _ in before.rows()} <= {(a, j) for a, j, _ in after.rows()}
    carried = (load[after.adapter] * after.fraction)[after.adapter >= 0]
    replicas = np.bincount(after.adapter[after.adapter >= 0])[after.adapter[after.adapter >= 0]]
    enough = 0.1 * load.sum() / num_servers
    if moves(after, before) < most:
        assert np.all((carried <= enough * (1 + 1e-9)) | (replicas == num_servers))
    assert after.loads(load, num_servers).sum() == pytest.approx(load.sum())


def test_only_the_servers_of_a_move_change_unless_all_are_evened_out() -> None:
    load = np.append(np.arange(1.0, 31.0), 0.0)
    held = deal(load, equal_parts(6), half=0.1)
    extra = np.array([20.0, 0, 0, 0, 0, 0])

    def on(found: Entries, server: int) -> list[tuple[int, int, float]]:
        return [row for row in found.rows() if row[1] == server]

    def changed(found: Entries) -> list[int]:
        return [j for j in range(6) if on(found, j) != on(held, j)]

    alone = rebalance(held, load, 6, 1, extra=extra, evens_out=False)
    assert 0 in changed(alone) and len(changed(alone)) < 6
    assert alone.loads(load, 6)[0] < held.loads(load, 6)[0]
    assert changed(rebalance(held, load, 6, 1, extra=extra)) == [0, 1, 2, 3, 4, 5]
