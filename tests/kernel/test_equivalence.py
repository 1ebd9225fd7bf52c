"""The fast kernel does what the reference does: counts and order of events exactly, times to 1e-9.

`LORATWIN_EXAMPLES` sets the number of random scenarios.
"""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratwin.kernel import AdapterCosts, EngineLimits, Requests
from tests.kernel.adapter import difference, fast_columns, run_fast, run_slow, slow_columns
from tests.kernel.strategies import (
    Scenario,
    crowd,
    large_scenario,
    scenarios,
    scenarios_of_versions,
    scenarios_that_share,
)
from tests.slow import SLOW

EXAMPLES = int(os.environ.get("LORATWIN_EXAMPLES", "5000" if SLOW else "60"))
LARGE_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]


def first(num_requests: int, requests: Requests) -> Requests:
    """The first requests of a run."""
    return Requests(
        requests.arrival_s[:num_requests],
        requests.adapter[:num_requests],
        requests.prompt_tokens[:num_requests],
        requests.output_tokens[:num_requests],
    )


@settings(max_examples=EXAMPLES, suppress_health_check=LARGE_IS_FINE)
@given(scenarios())
def test_the_kernel_does_what_the_reference_does(scenario: Scenario) -> None:
    assert difference(slow_columns(run_slow(scenario)), fast_columns(run_fast(scenario))) is None


@settings(max_examples=max(EXAMPLES // 2, 1), suppress_health_check=LARGE_IS_FINE)
@given(scenarios_of_versions())
def test_the_kernel_does_what_the_reference_does_under_the_rules_of_later_versions(scenario: Scenario) -> None:
    assert difference(slow_columns(run_slow(scenario)), fast_columns(run_fast(scenario))) is None


@settings(max_examples=EXAMPLES, suppress_health_check=LARGE_IS_FINE)
@given(scenarios_that_share())
def test_the_kernel_does_what_the_reference_does_with_a_prefix_cache(scenario: Scenario) -> None:
    assert difference(slow_columns(run_slow(scenario)), fast_columns(run_fast(scenario))) is None


@pytest.mark.parametrize("seed", range(8 if SLOW else 4))
def test_the_kernel_does_what_the_reference_does_in_larger_workloads(seed: int) -> None:
    scenario = large_scenario(seed)
    assert difference(slow_columns(run_slow(scenario)), fast_columns(run_fast(scenario))) is None


@pytest.mark.parametrize("seed", range(2 if SLOW else 1))
def test_the_kernel_does_what_the_reference_does_in_a_crowd(seed: int) -> None:
    """Tens of thousands wait and are skipped: whatever counts them without a visit to each counts right."""
    scenario = crowd(seed)
    slow = run_slow(scenario, check=False)
    assert max(step.features.skipped for step in slow.steps) > 2**15
    assert difference(slow_columns(slow), fast_columns(run_fast(scenario))) is None


@settings(max_examples=max(EXAMPLES // 30, 10), suppress_health_check=LARGE_IS_FINE)
@given(scenarios())
def test_events_are_only_watched_and_a_second_run_gives_the_same_bytes(scenario: Scenario) -> None:
    watched, unwatched = fast_columns(run_fast(scenario)), fast_columns(run_fast(scenario, record_events=False))
    assert len(unwatched.pop("events")) == 0
    assert {name: watched[name].tobytes() for name in unwatched} == {
        name: column.tobytes() for name, column in unwatched.items()
    }


@settings(max_examples=max(EXAMPLES // 30, 10), suppress_health_check=LARGE_IS_FINE)
@given(scenarios(), st.data())
def test_what_comes_later_changes_nothing_before(scenario: Scenario, data: st.DataObject) -> None:
    """A request that arrives later, and the end of the window, cannot be known in advance."""
    whole = run_fast(scenario)
    num_kept = data.draw(st.integers(1, len(scenario.requests.arrival_s)))
    kept = first(num_kept, scenario.requests)
    until_s = np.append(scenario.requests.arrival_s, np.inf)[num_kept]
    part = run_fast(scenario._replace(requests=kept))
    before = whole.first_token_s[:num_kept] < until_s
    np.testing.assert_allclose(part.first_token_s[before], whole.first_token_s[:num_kept][before], rtol=1e-9)


def alone(prompt_tokens: int, output_tokens: int) -> Scenario:
    """One request on a server with room for it, its whole prompt in one step."""
    tokens = (np.array([-1], np.int32), np.array([prompt_tokens], np.int32), np.array([output_tokens], np.int32))
    limits = EngineLimits(10**6, 16, 8, 200_000, 0, 0, 0, 1e9)
    none = np.zeros(0)
    return Scenario(
        Requests(np.zeros(1), *tokens), limits, AdapterCosts(none, none), 0, large_scenario(seed=0).step_cost
    )


def test_a_run_of_very_many_steps_is_kept_whole() -> None:
    """More steps than any buffer is likely to hold: all there, in order, without gaps in time."""
    num_steps = 300_000
    steps = run_fast(alone(1, num_steps)).steps
    np.testing.assert_array_equal(steps.decode_context, np.arange(num_steps))
    np.testing.assert_array_equal(steps.kv_blocks, np.arange(num_steps) // 16 + 1)
    np.testing.assert_allclose(steps.start_s[1:], np.cumsum(steps.duration_s)[:-1], rtol=1e-9)


def test_the_context_of_a_very_long_prompt_is_counted_right() -> None:
    scenario = alone(131_072, 2)
    assert difference(slow_columns(run_slow(scenario)), fast_columns(run_fast(scenario))) is None


def test_the_kernel_leaves_its_input_alone() -> None:
    scenario = large_scenario(seed=0)
    requests = Requests(*(column.copy() for column in scenario.requests))  # what is empty is shared by all
    costs = AdapterCosts(*(column.copy() for column in scenario.costs))
    for column in (*requests, *costs):
        column.flags.writeable = False
    run_fast(scenario._replace(requests=requests, costs=costs))


@pytest.mark.parametrize("num_adapters", [0, 3])
def test_a_run_without_requests_has_no_steps(num_adapters: int) -> None:
    scenario = large_scenario(seed=0)
    costs = AdapterCosts(*(seconds[:num_adapters] for seconds in scenario.costs))
    trace = run_fast(scenario._replace(requests=first(0, scenario.requests), costs=costs, num_adapters=num_adapters))
    assert (len(trace.admitted_s), len(trace.steps.start_s), len(trace.events)) == (0, 0, 0)
