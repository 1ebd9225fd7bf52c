"""What is tried, and in which order adapters are taken."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from loratwin.plan.grid import coarse_slots, finer_slots, measured_only, spread_order
from loratwin.workload import Adapters


def adapters(rates: list[float], groups: list[int], ranks: list[int] | None = None) -> Adapters:
    names = tuple(f"a{i}" for i in range(len(rates)))
    rank = np.array(ranks or [8] * len(rates), dtype=np.int32)
    return Adapters(names, rank, np.array(rates), np.array(groups, dtype=np.int32))


@given(st.integers(1, 3000))
def test_slots_to_try_end_with_one_for_each_adapter(num_adapters: int) -> None:
    slots = coarse_slots(num_adapters)
    assert slots == sorted(set(slots))
    assert slots[-1] == num_adapters
    assert slots[0] == (1 if num_adapters <= 32 else 8)
    assert all(after <= 2 * before for before, after in pairwise(slots) if after <= 1024)


def test_few_adapters_are_tried_one_by_one() -> None:
    assert coarse_slots(5) == [1, 2, 3, 4, 5]


def test_a_search_stays_where_the_profile_was_measured() -> None:
    assert measured_only([1, 2, 4, 8, 16, 24], (2, 6)) == [2, 4, 6]
    assert measured_only([64, 128, 256], (4, 16)) == [16]
    assert measured_only([1, 2, 3], (8, 384), most=3) == [1, 2, 3]
    assert measured_only([1, 2, 3], None) == [1, 2, 3]


def test_finer_slots_lie_between_the_best_and_its_neighbours() -> None:
    assert finer_slots([8, 16, 32, 64, 128], 32) == [24, 48]
    assert finer_slots([8, 16, 32], 8) == [4, 12]
    assert finer_slots([96, 128, 192], 128) == [112, 160]
    assert finer_slots([8, 16], 16) == [12]
    assert finer_slots([1, 2, 3], 2) == []
    assert finer_slots([], 1) == []


@given(st.sets(st.integers(1, 500), min_size=1), st.data())
def test_finer_slots_are_new_and_positive(tried: set[int], data: st.DataObject) -> None:
    best = data.draw(st.sampled_from(sorted(tried)))
    finer = finer_slots(sorted(tried), best)
    assert all(slots >= 1 for slots in finer)
    assert not set(finer) & tried


@given(st.integers(1, 200), st.integers(1, 3), st.integers(0, 2**32))
def test_every_beginning_keeps_the_mix_of_groups_and_rates(num: int, num_groups: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    rates, groups = rng.pareto(2, num) + 0.1, np.sort(rng.integers(0, num_groups, num))
    order = spread_order(adapters(list(rates), list(groups)))
    assert sorted(order) == list(range(num))
    by_mix = np.lexsort((rates, groups))
    place = {int(adapter): i for i, adapter in enumerate(by_mix)}  # where each one stands by group and rate
    for taken in (num // 2, num // 3):
        places = np.sort([place[adapter] for adapter in order[:taken]])
        gaps = np.diff(np.concatenate([[-1], places, [num]]))
        assert taken == 0 or gaps.max() <= 4 * num / taken + 1  # no part of the mix is left out


def test_half_of_the_adapters_is_half_of_each_group() -> None:
    order = spread_order(adapters([1.0] * 24, [0] * 8 + [1] * 16))
    first = np.array(order[:12])
    assert (first < 8).sum() == 4
