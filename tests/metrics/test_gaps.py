"""ITL percentiles from the step series, against the literal list of all gaps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.metrics import itl_percentiles_s, latency_figure_s
from loratwin.metrics.gaps import gap_percentiles_by_adapter_s, gaps_per_step, weighted_percentiles
from loratwin.records import GapHistogram, Run
from tests.metrics.runs import NEVER, make_run, make_steps

# Steps end at 1, 3, 4, (idle) 7, 9, 11; the window at 10.
STEPS = make_steps([0.0, 1.0, 3.0, 6.0, 7.0, 9.0], [1.0, 2.0, 1.0, 1.0, 2.0, 2.0])


def test_a_step_counts_once_for_every_request_that_gets_a_token_but_its_first() -> None:
    run = make_run(
        [0.0, 0.0, 5.0, 5.0, 9.0],
        first=[1.0, 3.0, 7.0, 7.0, NEVER],
        finish=[4.0, 4.0, 9.0, 11.0, NEVER],
        output=[3, 2, 2, 3, 5],
        steps=STEPS,
    )
    assert gaps_per_step(run, STEPS).tolist() == [0, 1, 2, 0, 1, 0]  # the fourth finishes after the window
    assert itl_percentiles_s(run, (0, 50, 100)) == pytest.approx((1.0, 1.5, 2.0))
    assert latency_figure_s(run, "itl", "p50") == pytest.approx(1.5)


def test_undefined_without_gaps_or_steps() -> None:
    one_token = make_run([0.0], first=[1.0], finish=[1.0], output=[1])
    for steps in (None, STEPS, make_steps([], [])):
        run = Run(**{**vars(one_token), "steps": steps})
        assert np.isnan(itl_percentiles_s(run, (50, 99))).all()


@given(
    pairs=st.lists(st.tuples(st.floats(0, 1e6), st.integers(0, 5)), min_size=1, max_size=30),
    percents=st.lists(st.floats(0, 100), min_size=1, max_size=3),
)
def test_weighted_percentiles_are_those_of_the_long_list(pairs: list[tuple[float, int]], percents: list[float]) -> None:
    values, weights = np.array([value for value, _ in pairs]), np.array([weight for _, weight in pairs])
    found = weighted_percentiles(values, weights, tuple(percents))
    if weights.sum():
        expected = np.percentile(np.repeat(values, weights), percents)
        np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
    else:
        assert np.isnan(found).all()


@given(seed=st.integers(0, 10_000))
def test_gaps_of_a_literal_decode_loop(seed: int) -> None:
    random = np.random.default_rng(seed)
    duration = random.uniform(0.1, 1.0, 30)
    start = np.cumsum(duration) - duration
    end = start + duration
    begin = random.integers(0, 25, 6)
    last = begin + random.integers(0, 5, 6)
    run = make_run(
        [0.0] * 6,
        first=end[begin].tolist(),
        finish=end[last].tolist(),
        output=(last - begin + 1).tolist(),
        window_s=20.0,
        steps=make_steps(start.tolist(), duration.tolist()),
    )
    gaps = [duration[a + 1 : b + 1] for a, b in zip(begin, last, strict=True) if end[b] <= 20.0]
    literal = np.concatenate([*gaps, np.empty(0)])
    if len(literal):
        np.testing.assert_allclose(itl_percentiles_s(run, (50, 99)), np.percentile(literal, (50, 99)))
        assert latency_figure_s(run, "itl", "mean") == pytest.approx(literal.mean())


def histogram(gaps_s: list[list[float]]) -> GapHistogram:
    """The gaps of each row, as a client counts them."""
    counts = np.zeros((len(gaps_s), 1400), dtype=np.int64)
    for row, gaps in zip(counts, gaps_s, strict=True):
        np.add.at(row, (np.floor(64 * np.log2(np.array(gaps) / 1e-5)) + 1).astype(int), 1)
    return GapHistogram(counts)


def test_a_clients_percentiles_come_from_its_histogram_to_half_a_percent() -> None:
    rng = np.random.default_rng(5)
    rows = [rng.exponential(0.02, 4000).tolist(), [], rng.normal(0.3, 0.01, 3000).tolist()]
    run = make_run([0.0], first=[1.0], finish=[4.0], output=[3], steps=STEPS, gaps=histogram(rows))
    everything = np.concatenate([np.array(row) for row in rows])
    assert itl_percentiles_s(run, (50, 99)) == pytest.approx(np.percentile(everything, (50, 99)), rel=0.006)
    assert latency_figure_s(run, "itl", "p99") == pytest.approx(np.percentile(everything, 99), rel=0.006)
    assert run.gaps is not None
    p50, p99 = gap_percentiles_by_adapter_s(run.gaps, (50, 99))
    assert p50 == pytest.approx([np.median(rows[0]), np.nan, np.median(rows[2])], rel=0.01, nan_ok=True)
    assert p99 == pytest.approx([np.percentile(rows[0], 99), np.nan, np.percentile(rows[2], 99)], rel=0.01, nan_ok=True)


def test_the_mean_stays_that_of_the_finished() -> None:
    run = make_run([0.0], first=[1.0], finish=[4.0], output=[3], gaps=histogram([[9.0], [], []]))
    assert latency_figure_s(run, "itl", "mean") == pytest.approx(1.5)
