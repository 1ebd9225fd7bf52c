"""Targets, worked out by hand."""

from __future__ import annotations

from math import isnan, log

import pytest

from loratwin.learn.cases.labels import labels, middle_slots, most_adapters, nearest_slots, on_grid
from loratwin.learn.cases.search import SimulatedHour
from tests.learn.small import minute_case

CASE = minute_case()


def server(adapters: int, slots: int, share: float, tpot: float = 20.0, ttft: float = 100.0) -> SimulatedHour:
    return SimulatedHour(adapters, slots, 1000, 10.0 * adapters, 10.0 * adapters * share, share, False, ttft, tpot)


ROWS = [
    server(90, 16, 0.985, tpot=30),
    server(90, 32, 0.99, tpot=20),
    server(90, 64, 0.97, tpot=20.1),
    server(100, 16, 0.95),
    server(100, 32, 0.80),
    server(105, 16, 0.85),
    SimulatedHour(105, 512, 0),
]


def test_the_edge_is_interpolated_on_logarithms_of_the_best_slots() -> None:
    expected = 100 * 1.05 ** (log(0.95 / 0.9) / log(0.95 / 0.85))
    assert most_adapters(ROWS) == pytest.approx(expected)


def test_an_edge_that_was_not_reached_or_is_known_too_roughly_is_unknown() -> None:
    assert isnan(most_adapters([server(8, 8, 0.99)]))
    assert isnan(most_adapters([server(64, 8, 0.99), server(96, 8, 0.5)]))
    assert most_adapters([server(1, 1, 0.5)]) == 0.0
    assert most_adapters([server(1, 1, 0.99), server(2, 1, 0.5)]) == pytest.approx(2 ** (log(1.1) / log(1.98)))


def test_the_edge_is_told_in_adapters_of_the_mean_rate() -> None:
    """Of 3 adapters 1 has a rate of 2/3 and 2 have 4/3 of the mean; of 4, each 2."""
    found = labels(CASE, [server(3, 2, 0.95), server(4, 2, 0.85)])
    share = log(0.95 / 0.9) / log(0.95 / 0.85)
    assert found.counted == pytest.approx(3 * (4 / 3) ** share)
    assert found.served == pytest.approx(10 / 3 * (4 / (10 / 3)) ** share)


def test_slots_are_a_set_compared_where_the_optimum_lies() -> None:
    found = labels(CASE, ROWS)
    assert found.compared_at == 90
    assert found.slots == (16, 32)  # 0.97 is 2 % below 0.99
    assert found.latency_slots == (32, 64)  # 2080 against 2089.9 ms
    assert found.tried == (16, 32, 64)
    assert found.throughput == pytest.approx(950)


def test_a_workload_that_never_works_has_no_labels() -> None:
    found = labels(CASE, [server(1, 1, 0.4)])
    assert found.served == 0 and found.slots == () and isnan(found.throughput)


def test_the_grid() -> None:
    assert [on_grid(value) for value in (5, 16, 95.9, 96, 5000)] == [16, 16, 64, 96, 384]


def test_a_regression_aims_at_the_geometric_middle_and_takes_the_nearest_by_ratio() -> None:
    assert middle_slots((16, 64)) == pytest.approx(32)
    assert [nearest_slots(value, (8, 16, 64)) for value in (1, 11, 12, 31, 33)] == [8, 8, 16, 16, 64]
