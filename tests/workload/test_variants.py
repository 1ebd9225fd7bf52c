"""The same requests, but more, faster, or all at once."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.workload import AdapterGroup, BaseTraffic, Workload, WorkloadSpec, burst_of, draw, first_part, grown


def workload() -> Workload:
    group = AdapterGroup(name="a", count=3, rates=(0.5, 0.2, 0.1))
    return draw(WorkloadSpec(window_s=1000.0, groups=(group,), base=BaseTraffic(rate=0.1)), 0)


def count(w: Workload, adapter: int) -> int:
    return int((w.adapter == adapter).sum())


@pytest.mark.parametrize("factor", [0.0, 0.5, 1.0, 1.7, 3.0])
def test_one_adapter_asks_for_more_and_the_others_for_the_same(factor: float) -> None:
    before, after = workload(), grown(workload(), [0], factor)
    assert count(after, 0) == pytest.approx(factor * count(before, 0), abs=0.06 * count(before, 0))
    for other in (-1, 1, 2):
        assert np.array_equal(after.arrival_s[after.adapter == other], before.arrival_s[before.adapter == other])
    assert (np.diff(after.arrival_s) >= 0).all() and after.window_s == before.window_s
    assert (after.arrival_s < after.window_s).all()
    assert after.adapters.rate_per_s.tolist() == pytest.approx([0.5 * factor, 0.2, 0.1])


def test_lengths_stay_with_their_requests() -> None:
    before, after = workload(), grown(workload(), [0], 2.0)
    own, grew = before.adapter == 0, after.adapter == 0
    assert after.prompt_tokens[grew].tolist() == [*before.prompt_tokens[own], *before.prompt_tokens[own]]
    assert np.allclose(after.arrival_s[grew][: own.sum()], before.arrival_s[own] / 2)


def test_a_burst_takes_all_requests_of_one() -> None:
    before, after = workload(), burst_of(workload(), [1], 400.0, 100.0)
    times = after.arrival_s[after.adapter == 1]
    assert count(after, 1) == count(before, 1) and times.min() >= 400 and times.max() < 500
    assert count(after, 0) == count(before, 0) and (np.diff(after.arrival_s) >= 0).all()


def test_the_first_part_is_the_first_part() -> None:
    half = first_part(workload(), 0.5)
    assert half.window_s == 500.0 and half.num_requests == int((workload().arrival_s < 500).sum())


def test_a_factor_below_0_is_refused() -> None:
    with pytest.raises(InputError, match="cannot be scaled by -1"):
        grown(workload(), [0], -1.0)
