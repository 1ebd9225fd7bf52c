"""Figures per adapter and fairness."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.metrics import client_per_adapter, jain, per_adapter
from loratwin.metrics.groups import NO_ADAPTER
from tests.metrics.runs import NEVER, make_run

RUN = make_run(
    [0.0, 1.0, 2.0, 3.0, 4.0],
    first=[1.0, 3.0, 5.0, NEVER, 4.5],
    finish=[2.0, 4.0, 6.0, NEVER, 5.0],
    adapter=[0, 0, 0, 2, -1],
    prompt=[10, 20, 30, 40, 50],
    output=[2, 2, 2, 2, 2],
    num_adapters=3,
)


def test_one_row_for_each_adapter_and_one_for_none() -> None:
    figures = per_adapter(RUN)
    assert figures.name == ("a0", "a1", "a2", NO_ADAPTER)
    assert figures.adapter.tolist() == [0, 1, 2, -1]
    assert figures.requests.tolist() == [3, 0, 1, 1]
    assert figures.finished.tolist() == [3, 0, 0, 1]
    assert len(figures) == 4


def test_tokens_of_each() -> None:
    figures = per_adapter(RUN)
    np.testing.assert_allclose(figures.offered, [6.6, 0, 4.2, 5.2])
    np.testing.assert_allclose(figures.throughput, [6.6, 0, 0, 5.2])
    np.testing.assert_allclose(figures.served_share, [1, np.nan, 0, 1])
    assert figures.starving == ("a2",)


def test_ttft_of_each_is_undefined_where_none_finished() -> None:
    figures = per_adapter(RUN)
    np.testing.assert_allclose(figures.ttft_mean_ms, [2000, np.nan, np.nan, 500])
    np.testing.assert_allclose(figures.ttft_p50_ms, [2000, np.nan, np.nan, 500])
    np.testing.assert_allclose(figures.ttft_p99_ms, [2980, np.nan, np.nan, 500])


def test_no_row_without_base_traffic() -> None:
    assert per_adapter(make_run([0.0], adapter=[1])).name == ("a0", "a1")


def test_a_run_without_requests() -> None:
    figures = per_adapter(make_run([]))
    assert figures.requests.tolist() == [0, 0]
    assert not figures.starved.any()


@given(seed=st.integers(0, 10_000))
def test_percentiles_of_each_group_are_numpys(seed: int) -> None:
    random = np.random.default_rng(seed)
    arrival = np.sort(random.uniform(0, 5, 40))
    first = arrival + random.uniform(0, 4, 40)
    adapter = random.integers(0, 6, 40)
    run = make_run(arrival.tolist(), first.tolist(), (first + 0.5).tolist(), adapter=adapter.tolist(), num_adapters=6)
    figures = per_adapter(run)
    for index in np.unique(adapter):
        found = figures.ttft_p50_ms[index], figures.ttft_p99_ms[index]
        assert found == pytest.approx(1e3 * np.percentile((first - arrival)[adapter == index], (50, 99)))


@pytest.mark.parametrize(
    ("shares", "expected"),
    [([1, 1, 1, 1], 1.0), ([1, 0, 0, 0], 0.25), ([1, 0.5], 2.25 / 2.5), ([0.5, np.nan], 1.0)],
)
def test_jain(shares: list[float], expected: float) -> None:
    assert jain(shares) == pytest.approx(expected)


@pytest.mark.parametrize("shares", [[], [0.0, 0.0], [np.nan]])
def test_jain_of_nothing_is_undefined(shares: list[float]) -> None:
    assert np.isnan(jain(shares))


def test_an_adapter_of_few_requests_with_its_last_on_the_way_is_said_not_to_starve() -> None:
    run = make_run(
        [1.0, 2.0, 9.9], first=[1.5, 2.5, 9.95], finish=[2.0, 3.0, NEVER], admitted=[1.0, 2.0, 9.9],
        adapter=[0, 0, 0], kind="measured",
    )  # fmt: skip
    figures = client_per_adapter(run)
    assert figures.served_share[0] == pytest.approx(2 / 3) and not figures.starved[0]
    assert figures.only_unfinished.tolist() == [True, False]
