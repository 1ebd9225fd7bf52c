"""Requests in flight, against the literal count at every moment."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.metrics import awaiting_first_token, in_flight
from tests.metrics.runs import NEVER, make_run

TENTHS = st.integers(0, 100).map(lambda tenth: tenth / 10)


@given(st.lists(st.tuples(TENTHS, TENTHS, st.booleans()), max_size=12))
def test_peak_and_mean_are_those_of_a_literal_count(spans: list[tuple[float, float, bool]]) -> None:
    spans = sorted((start, round(start + length, 1), ends) for start, length, ends in spans)
    run = make_run(
        [start for start, _, _ in spans],
        sent=[start for start, _, _ in spans],
        finish=[end if ends else NEVER for _, end, ends in spans],
    )
    middles = np.arange(0.05, 10, 0.1)  # nothing changes within a tenth
    ends = [(start, end if ends else 10.0) for start, end, ends in spans]
    counts = [sum(bool(start < at < end) for start, end in ends) for at in middles]
    found = in_flight(run)
    assert found.peak == max(counts, default=0)
    assert found.mean == pytest.approx(np.mean(counts))
    assert found.means(np.linspace(0, 10, 6)) == pytest.approx(np.mean(np.reshape(counts, (5, 20)), axis=1))


def test_one_after_the_other_is_one_at_a_time() -> None:
    """A hundred requests that all touch the same second: counted by seconds it would be a hundred."""
    times = (np.arange(101) / 100).tolist()
    run = make_run(times[:-1], sent=times[:-1], finish=times[1:])
    assert in_flight(run).peak == 1


def test_who_waits_for_the_first_token() -> None:
    run = make_run([0.0, 1.0, 2.0], sent=[0.0, 1.0, 2.0], first=[4.0, 2.0, NEVER], finish=[6.0, NEVER, NEVER])
    assert awaiting_first_token(run).means(np.array([0.0, 1.0, 2.0, 4.0, 10.0])).tolist() == [1, 2, 2, 1]
    assert awaiting_first_token(run).peak == 2


def test_refused_and_never_sent_are_not_in_flight() -> None:
    run = make_run([0.0, 1.0], sent=[0.0, NEVER], finish=[NEVER, NEVER], refused=[True, False])
    assert (in_flight(run).peak, in_flight(run).mean) == (0, 0)


def test_a_failure_lasts_as_long_as_something_was_seen_of_it() -> None:
    parts = {"failure": [0, 0, 0], "failures": ("x",)}
    run = make_run(
        [0.0] * 3,
        sent=[0.0] * 3,
        first=[NEVER, 3.0, 3.0],
        finish=[NEVER, NEVER, 5.0],
        **parts,  # type: ignore[arg-type]
    )
    assert in_flight(run).means(np.array([0.0, 3.0, 5.0, 10.0])).tolist() == [2, 1, 0]
