"""Requests by fractions: every request once, the right shares, and the same whatever else is placed."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.fleet import Placement, routing_numbers, server_of_requests, split_requests
from loratwin.workload import AdapterGroup, BaseTraffic, Closed, Workload, WorkloadSpec, draw
from tests.fleet.fleets import placement, servers


def traffic() -> Workload:
    groups = (AdapterGroup(name="three", count=3, names=("cold", "hot", "warm"), rates=(1.0, 20.0, 4.0)),)
    return draw(WorkloadSpec(window_s=600, groups=groups, base=BaseTraffic(rate=5.0)))


def literal(known: Placement, workload: Workload, numbers: np.ndarray) -> list[int]:
    """One request after the other."""
    chosen = []
    for adapter, number in zip(workload.adapter.tolist(), numbers.tolist(), strict=True):
        row = -1 if adapter < 0 else known.adapters.index(workload.adapters.name[adapter])
        entries = known.entries_for(row)
        sums = np.cumsum(known.fraction[entries])
        chosen.append(int(known.server[entries][int(np.argmax(number < sums))]))
    return chosen


def test_each_request_goes_where_its_number_says() -> None:
    workload = traffic()
    numbers = routing_numbers(3, workload.num_requests)
    chosen = server_of_requests(placement(), workload, numbers)
    assert chosen.tolist() == literal(placement(), workload, numbers)
    hot = chosen[workload.adapter == workload.adapters.name.index("hot")]
    assert np.mean(hot == 0) == pytest.approx(0.3, abs=0.02)
    assert not np.any(hot == 2)


def test_the_parts_are_the_whole() -> None:
    workload = traffic()
    parts = split_requests(placement(), workload, routing_numbers(0, workload.num_requests))
    assert [part.adapters.name for part in parts] == [("hot", "warm"), ("hot",), ("cold", "warm")]
    assert parts[0].adapters.rate_per_s.tolist() == pytest.approx([6.0, 4.0])
    assert parts[2].adapters.rate_per_s.tolist() == [1.0, 0.0]  # the reserve of warm
    assert [part.base_rate_per_s for part in parts] == [0.0, 2.5, 2.5]
    assert sum(part.num_requests for part in parts) == workload.num_requests
    times = np.sort(np.concatenate([part.arrival_s for part in parts]))
    assert np.array_equal(times, workload.arrival_s)
    for part in parts:
        assert np.all(np.diff(part.arrival_s) >= 0)


def test_the_last_number_does_not_fall_into_the_next_adapter() -> None:
    many = Placement.of(servers(2), {f"a{i}": {"gpu-0": 1.0} if i % 2 else {"gpu-1": 1.0} for i in range(2000)})
    spec = WorkloadSpec(window_s=60, groups=(AdapterGroup(name="a", count=2000, names=many.adapters, rate=0.1),))
    workload = draw(spec)
    chosen = server_of_requests(many, workload, np.full(workload.num_requests, np.nextafter(1.0, 0.0)))
    assert np.array_equal(chosen, 1 - workload.adapter % 2)
    assert np.array_equal(server_of_requests(many, workload, np.zeros(workload.num_requests)), chosen)


def test_what_is_not_placed_is_refused() -> None:
    workload = traffic()
    numbers = routing_numbers(0, workload.num_requests)
    with pytest.raises(InputError, match="no adapter 'cold'"):
        split_requests(Placement.of(servers(1), {"hot": {"gpu-0": 1.0}}), workload, numbers)
    with pytest.raises(InputError, match=r"without adapter \(base\)"):
        shares = {name: {"gpu-0": 1.0} for name in workload.adapters.name}
        split_requests(Placement.of(servers(1), shares), workload, numbers)


def test_a_closed_loop_cannot_be_shared_out() -> None:
    groups = (AdapterGroup(name="a", count=2, arrivals=Closed(concurrency=4)),)
    workload = draw(WorkloadSpec(window_s=60, groups=groups))
    known = Placement.of(servers(1), {name: {"gpu-0": 1.0} for name in workload.adapters.name})
    with pytest.raises(InputError, match="a fleet needs traffic with rates"):
        split_requests(known, workload, routing_numbers(0, workload.num_requests))
