"""The caching allocator's rules, each by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from loratwin.perf.allocator import MIB, CachingAllocator, reserved_bytes


@pytest.mark.parametrize(
    ("sizes_mib", "reserved_mib", "rule"),
    [
        ([], 0, "nothing"),
        ([0.0001], 2, "small tensors come from 2 MiB segments"),
        ([1, 1], 2, "two of 1 MiB fill one"),
        ([1, 1, 1], 4, "the third needs another"),
        ([0.5, 1, 0.5, 1], 4, "the rest of a small segment stays usable, 1 MiB does not fit 0.5 MiB"),
        ([2], 20, "below 10 MiB: 20 MiB segments"),
        ([9, 9], 20, "two of 9 MiB fill one"),
        ([9.75, 9.75, 2], 40, "the rest of 0.5 MiB is lost"),
        ([10], 10, "from 10 MiB on: a segment of its own"),
        ([10.5], 12, "rounded up to 2 MiB"),
        ([12, 1, 1], 14, "small tensors never come from a large segment"),
        ([10.5, 1.25], 12, "the rest of a large segment above 1 MiB is usable"),
        ([11, 1.25], 32, "the rest of exactly 1 MiB is not"),
        ([10.5, 2, 1.25, 18], 32, "the smallest free block that fits is taken"),
        ([10.5, 2, 18, 1.25], 32, "in whatever order"),
    ],
)
def test_rule(sizes_mib: list[float], reserved_mib: int, rule: str) -> None:
    assert reserved_bytes(int(size * MIB) for size in sizes_mib) == reserved_mib * MIB, rule


def test_sizes_are_rounded_up_to_512_bytes() -> None:
    assert reserved_bytes([MIB - 511, MIB]) == 2 * MIB
    assert reserved_bytes([1] * 4096) == 2 * MIB
    assert reserved_bytes([1] * 4097) == 4 * MIB


def test_what_is_freed_is_used_again() -> None:
    memory = CachingAllocator()
    for _ in range(3):
        memory.give(memory.take(100 * MIB))
    assert (memory.reserved, memory.in_use, memory.peak) == (100 * MIB, 0, 100 * MIB)


@pytest.mark.parametrize("order", [(0, 1, 2), (0, 2, 1), (1, 0, 2), (1, 2, 0), (2, 0, 1), (2, 1, 0)])
def test_free_neighbours_join(order: tuple[int, int, int]) -> None:
    memory = CachingAllocator()
    memory.give(memory.take(30 * MIB))
    parts = [memory.take(10 * MIB) for _ in range(3)]
    memory.give(*(parts[number] for number in order))
    memory.take(30 * MIB)
    assert memory.reserved == 30 * MIB


def test_segments_do_not_join() -> None:
    memory = CachingAllocator()
    memory.give(*[memory.take(20 * MIB), memory.take(20 * MIB)])
    memory.take(40 * MIB)
    assert memory.reserved == 80 * MIB


def test_a_part_in_use_keeps_its_neighbours_apart() -> None:
    memory = CachingAllocator()
    memory.give(memory.take(30 * MIB))
    left, _, right = (memory.take(10 * MIB) for _ in range(3))
    memory.give(left, right)
    memory.take(20 * MIB)
    assert memory.reserved == 50 * MIB


def test_what_is_held_is_never_less_than_what_is_in_use() -> None:
    rng = np.random.default_rng(7)
    memory, taken = CachingAllocator(), []
    for size in 10 ** rng.uniform(2, 8, 3000):
        taken.append(memory.take(int(size)))
        if rng.random() < 0.7:
            memory.give(taken.pop(int(rng.integers(len(taken)))))
        assert memory.in_use == sum(block.size for block in taken) <= memory.peak <= memory.reserved
        spans = sorted((block.start, block.start + block.size) for block in taken)
        assert all(end <= start for (_, end), (start, _) in pairwise(spans))
