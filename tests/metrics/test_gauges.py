"""Gauges: weighted by time, idle counts as empty."""

from __future__ import annotations

import math

import pytest

from loratwin.metrics import gauges
from loratwin.records import Gauges
from tests.metrics.runs import NEVER, make_run, make_steps

STEPS = make_steps(
    [0.0, 2.0, 8.0, 11.0],
    [2.0, 1.0, 3.0, 1.0],  # idle from 3 to 8; the third step ends after the window; the fourth starts after it
    running=[3, 1, 2, 50],
    waiting=[4, 0, 1, 50],
    kv_blocks=[5, 2, 8, 10],
    swap_ins=[2, 0, 1, 0],
    disk_loads=[1, 0, 0, 0],
)


def test_means_over_the_window_idle_time_included() -> None:
    seen = gauges(make_run([0.0], steps=STEPS, kv_tokens=160))  # 10 blocks of 16 tokens
    assert seen.running_mean == pytest.approx((2 * 3 + 1 * 1 + 2 * 2) / 10)
    assert seen.waiting_mean == pytest.approx((2 * 4 + 2 * 1) / 10)
    assert seen.kv_usage_mean == pytest.approx((2 * 5 + 1 * 2 + 2 * 8) / 10 / 10)
    assert (seen.running_max, seen.waiting_max, seen.kv_usage_max) == (3, 4, pytest.approx(0.8))
    assert (seen.swap_ins, seen.disk_loads, seen.num_steps) == (3, 1, 4)


def test_no_steps_at_all_is_an_idle_server() -> None:
    seen = gauges(make_run([0.0], steps=make_steps([], [])))
    assert (seen.running_mean, seen.running_max, seen.kv_usage_max, seen.swap_ins) == (0, 0, 0, 0)
    assert (seen.waiting_mean, seen.waiting_max, seen.kv_usage_mean, seen.num_steps) == (0, 0, 0, 0)


def test_the_steps_go_before_what_the_run_says_and_that_before_a_guess() -> None:
    said = Gauges(running_mean=7.0)
    assert gauges(make_run([0.0], steps=STEPS, gauges=said)).running_mean == pytest.approx(1.1)
    assert gauges(make_run([0.0], admitted=[0.0], gauges=said)) is said


def test_means_by_littles_law_from_the_requests() -> None:
    run = make_run(
        [0.0, 2.0, 6.0, 7.0],
        first=[1.0, 5.0, NEVER, NEVER],
        finish=[4.0, 12.0, NEVER, NEVER],
        admitted=[1.0, 4.0, NEVER, NEVER],
        refused=[False, False, False, True],
    )
    seen = gauges(run)
    assert seen.waiting_mean == pytest.approx((1 + 2 + 4) / 10)
    assert seen.running_mean == pytest.approx((3 + 6) / 10)
    assert math.isnan(seen.running_max)
    assert seen.swap_ins is None


def test_unknown_where_the_engine_was_not_seen() -> None:
    assert math.isnan(gauges(make_run([0.0], first=[1.0], finish=[2.0])).running_mean)
