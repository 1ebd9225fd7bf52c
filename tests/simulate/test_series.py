"""Time series: equal parts of the window, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.metrics import gauges, throughput
from loratwin.simulate import simulate, time_series
from loratwin.workload import draw
from tests.metrics.runs import make_run, make_steps
from tests.simulate.servers import CONFIG, PROFILE, SPEC


def test_a_step_counts_in_the_parts_that_it_lies_in() -> None:
    """10 s in 5 parts of 2 s; steps 1 to 5 s and 5 to 6 s, idle after."""
    steps = make_steps(
        [1.0, 5.0], [4.0, 1.0], running=[2, 4], waiting=[8, 0], kv_blocks=[5, 10], distinct_adapters=[1, 2],
        swap_ins=[3, 1],
    )  # fmt: skip
    run = make_run([0.5, 0.5], first=[5.0, 5.0], finish=[5.0, 6.5], admitted=[1.0, 1.0], steps=steps)
    series = time_series(run, parts=5)
    np.testing.assert_allclose(series.end_s, [2, 4, 6, 8, 10])
    np.testing.assert_allclose(series.running, [1, 2, 3, 0, 0])
    np.testing.assert_allclose(series.waiting, [4, 8, 4, 0, 0])
    np.testing.assert_allclose(series.kv_usage, [0.25, 0.5, 0.75, 0, 0])
    np.testing.assert_allclose(series.distinct_adapters, [0.5, 1, 1.5, 0, 0])
    np.testing.assert_allclose(series.swap_ins_per_s, [1.5, 0, 0.5, 0, 0])
    np.testing.assert_allclose(series.throughput, [0, 0, 6, 6, 0])


def test_an_idle_run_is_all_zero() -> None:
    series = time_series(make_run([], steps=make_steps([], [])), parts=3)
    assert series.running.tolist() == series.throughput.tolist() == [0.0, 0.0, 0.0]


def test_means_over_the_parts_are_those_of_the_run() -> None:
    run = simulate(draw(SPEC, 0), PROFILE, CONFIG)
    series = time_series(run, parts=7)
    seen = gauges(run)
    assert series.running.mean() == pytest.approx(seen.running_mean)
    assert series.waiting.mean() == pytest.approx(seen.waiting_mean)
    assert series.kv_usage.mean() == pytest.approx(seen.kv_usage_mean)
    assert series.throughput.mean() == pytest.approx(throughput(run).total)


def test_a_run_without_steps_has_no_series() -> None:
    with pytest.raises(ValueError, match="no step series"):
        time_series(make_run([0.0]))
