"""A closed loop in the kernel: replayed as an open one, it is the same run, and each arrival has its cause."""

from __future__ import annotations

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratwin.kernel import ClientLoop, EngineTrace, Requests
from tests.kernel.adapter import difference, fast_columns, run_fast, run_slow, slow_columns
from tests.kernel.strategies import LONG_S, Scenario, large_scenario, scenarios, scenarios_of_versions
from tests.kernel.test_equivalence import EXAMPLES

LOOPS = st.builds(ClientLoop, st.integers(1, 12), st.sampled_from([0.0, 1 / 64, 0.1, 3.0]))


def looped(scenario: Scenario, loop: ClientLoop) -> Scenario:
    return scenario._replace(limits=scenario.limits._replace(loop=loop))


def replayed(scenario: Scenario, trace: EngineTrace) -> Scenario:
    """The same requests as an open loop at the times that the closed one made; those that had no turn come too late."""
    late = scenario.limits.window_s + 1.0
    arrival_s = np.where(np.isfinite(trace.arrival_s), trace.arrival_s, late)
    return scenario._replace(requests=Requests(arrival_s, *scenario.requests[1:]))


@settings(max_examples=max(EXAMPLES // 4, 1), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.one_of(scenarios(), scenarios_of_versions()), LOOPS)
def test_it_is_the_reference_served_at_the_times_that_it_made(scenario: Scenario, loop: ClientLoop) -> None:
    trace = run_fast(looped(scenario, loop))
    slow = slow_columns(run_slow(replayed(scenario, trace)))
    slow.pop("arrival_s")  # those that had no turn arrive after the window there
    assert difference(slow, fast_columns(trace)) is None


@settings(max_examples=max(EXAMPLES // 4, 1), suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.one_of(scenarios(), scenarios_of_versions()), LOOPS)
def test_each_arrival_follows_an_end(scenario: Scenario, loop: ClientLoop) -> None:
    limits = scenario.limits._replace(max_in_flight=0, loop=loop)
    trace = run_fast(scenario._replace(limits=limits))
    num = min(loop.in_flight, len(trace.arrival_s))
    assert (trace.arrival_s[:num] == 0).all()
    ends = np.sort(trace.finish_s[np.isfinite(trace.finish_s)])
    due = trace.arrival_s[num:]
    np.testing.assert_array_equal(due[np.isfinite(due)], (ends + loop.pause_s)[: len(due)])


def test_so_many_are_in_flight_all_the_time() -> None:
    scenario = large_scenario(seed=1)
    loop = ClientLoop(7)
    limits = scenario.limits._replace(max_in_flight=0, loop=loop, window_s=LONG_S)  # that of the scenario may be short
    trace = run_fast(scenario._replace(limits=limits))
    came = np.sort(trace.arrival_s[np.isfinite(trace.arrival_s)])
    until = came[-1]
    ends = np.sort(trace.finish_s)
    at = (came[:-1] + came[1:]) / 2
    at = at[at < until]
    in_flight = np.searchsorted(came, at, side="right") - np.searchsorted(ends, at, side="right")
    assert len(at) > 200
    assert set(in_flight) == {loop.in_flight}


def test_refused_clients_try_again() -> None:
    """Four places for seven clients: all requests come up, each refused or served."""
    scenario = large_scenario(seed=2)
    limits = scenario.limits._replace(max_in_flight=4, window_s=1e6, loop=ClientLoop(7, 0.05))
    trace = run_fast(scenario._replace(limits=limits))
    assert np.isfinite(trace.arrival_s).all()
    assert 0 < trace.refused.sum() < len(trace.refused)
    assert np.isfinite(trace.finish_s[~trace.refused]).all()
