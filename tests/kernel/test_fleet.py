"""Servers behind a router: as the literal fleet, request for request; alone, as the kernel, byte for byte."""

from __future__ import annotations

import os
from functools import partial
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from loratwin.errors import InputError
from loratwin.kernel import Requests, fleet_trace, run_engine
from loratwin.kernel.fleet_trace import FleetTrace, Scrapes, ServerModel, run_fleet
from loratwin.kernel.routing import (
    ACTIVE,
    ACTIVE_TWICE,
    LEAST_IN_FLIGHT,
    NO_AFFINITY,
    RESIDENCY,
    SCORERS,
    TWO_CHOICES,
    Holders,
    RouterRule,
)
from tests.kernel import strategies
from tests.kernel.strategies import Scenario, large_scenario, scenarios_of_versions
from tests.kernel.test_equivalence import first
from tests.reference import routers
from tests.reference.fleet import Router, Spec, serve
from tests.slow import SLOW

EXAMPLES = int(os.environ.get("LORATWIN_EXAMPLES", "2000" if SLOW else "60"))
LARGE_IS_FINE = [HealthCheck.too_slow, HealthCheck.data_too_large]
AFFINITIES = {NO_AFFINITY: "", ACTIVE_TWICE: "twice", ACTIVE: "once", RESIDENCY: "residency"}


class Fleet(NamedTuple):
    specs: list[Spec]
    requests: Requests
    rule: RouterRule
    numbers: np.ndarray
    scrapes: Scrapes


def router_of(rule: RouterRule) -> Router:
    """The literal router of a rule."""
    if rule.kind == LEAST_IN_FLIGHT:
        return routers.least_in_flight
    if rule.kind == TWO_CHOICES:
        return routers.two_choices
    weights = {"queue": rule.queue, "kv": rule.kv, "lora": rule.lora, "load": rule.load}
    return partial(routers.scorers, weights=weights, affinity=AFFINITIES[rule.affinity])


def rules() -> st.SearchStrategy[RouterRule]:
    """All kinds; weights that no rounding can bring into a tie."""
    weight = st.sampled_from([0.0, 1.0, 2.0])
    weighted = st.builds(
        RouterRule, st.just(SCORERS), st.sampled_from(list(AFFINITIES)), weight, weight, weight, weight
    )
    return st.one_of(st.just(RouterRule(LEAST_IN_FLIGHT)), st.just(RouterRule(TWO_CHOICES)), weighted, weighted)


@st.composite
def fleets(draw: st.DrawFn, later_versions: bool = False) -> Fleet:
    """Up to three servers under pressure, each with adapters of its own choice."""
    num_adapters = draw(st.sampled_from([0, 1, 3, 6]))
    rows = draw(strategies.request_rows(num_adapters))
    exact, window_s = draw(st.booleans()), draw(st.sampled_from([strategies.LONG_S, 2.0]))
    requests = strategies.requests_of(rows, exact)
    requests = first(int((requests.arrival_s < window_s).sum()), requests)
    specs = []
    for k in range(draw(st.integers(1, 3))):
        held = draw(st.lists(st.booleans(), min_size=num_adapters, max_size=num_adapters))
        adapters = [a for a in range(num_adapters) if held[a] or k == 0]
        limits = draw(strategies.server_limits(rows, len(adapters)))._replace(window_s=window_s)
        limits = limits._replace(max_loras=max(1, limits.max_loras))
        if later_versions:
            limits = limits._replace(
                rules=draw(scenarios_of_versions()).limits.rules._replace(prefix_caching=0), max_in_flight=0
            )
        cost = draw(strategies.exact_step_costs() if exact else strategies.odd_step_costs())
        costs = draw(strategies.adapter_costs(len(adapters), exact))
        specs.append(Spec(limits, costs, cost, adapters, k == 0 or draw(st.booleans())))
    numbers = np.random.default_rng(draw(st.integers(0, 99))).random((len(rows), 2))
    every_s = draw(st.sampled_from([0.0, 0.0, 0.05, 0.3, 2.0]))
    phase_s = every_s * np.array([draw(st.sampled_from([0.0, 0.3, 0.7])) for _ in specs])
    rule = RouterRule(LEAST_IN_FLIGHT) if later_versions else draw(rules())
    return Fleet(specs, requests, rule, numbers, Scrapes(every_s, phase_s))


def holders_of(specs: list[Spec], num_adapters: int) -> Holders:
    """The servers of each adapter in order, then those of requests without one."""
    entries = [[(k, s.adapters.index(a)) for k, s in enumerate(specs) if a in s.adapters] for a in range(num_adapters)]
    entries.append([(k, -1) for k, s in enumerate(specs) if s.takes_base])
    flat = np.array([entry for row in entries for entry in row], np.int32).reshape(-1, 2)
    return Holders(np.cumsum([0, *map(len, entries)]), flat[:, 0], flat[:, 1])


def run_fast(fleet: Fleet) -> FleetTrace:
    num_adapters = 1 + max([-1, *(a for spec in fleet.specs for a in spec.adapters)])
    models = [ServerModel(spec.limits, spec.costs, spec.step_cost) for spec in fleet.specs]
    holders = holders_of(fleet.specs, num_adapters)
    return run_fleet(fleet.requests, models, holders, fleet.rule, fleet.numbers, fleet.scrapes)


def check(fleet: Fleet) -> None:
    """Both agree in where each request went, and in all that became of it."""
    where, traces, got = serve(
        fleet.specs, fleet.requests, router_of(fleet.rule), fleet.numbers, fleet.scrapes.every_s, fleet.scrapes.phase_s
    )
    fast = run_fast(fleet)
    assert fast.server.tolist() == where
    for k, (trace, requests) in enumerate(zip(traces, got, strict=True)):
        for name in ("admitted_s", "first_token_s", "finish_s"):
            np.testing.assert_allclose(getattr(fast, name)[requests], getattr(trace, name), rtol=1e-9, atol=1e-9)
        assert fast.num_preemptions[requests].tolist() == trace.num_preemptions
        assert fast.refused[requests].tolist() == trace.refused
        assert fast.totals.steps[k] == len(trace.steps)
        assert fast.totals.swap_ins[k] == sum(step.num_swap_ins for step in trace.steps)


@settings(max_examples=EXAMPLES, suppress_health_check=LARGE_IS_FINE, deadline=None)
@given(fleets())
def test_a_fleet_does_what_the_literal_fleet_does(fleet: Fleet) -> None:
    check(fleet)


@settings(max_examples=EXAMPLES // 3, suppress_health_check=LARGE_IS_FINE, deadline=None)
@given(fleets(later_versions=True))
def test_a_fleet_of_later_versions_does_what_the_literal_fleet_does(fleet: Fleet) -> None:
    """Their answers are counted; what they tell between steps is that of a step ahead, and not compared."""
    check(fleet)


def alone(scenario: Scenario, rule: RouterRule, every_s: float) -> FleetTrace:
    """A scenario's server behind a router."""
    num = scenario.num_adapters
    holders = Holders(np.arange(num + 2), np.zeros(num + 1, np.int32), np.append(np.arange(num), -1).astype(np.int32))
    numbers = np.zeros((len(scenario.requests.arrival_s), 2))
    model = ServerModel(
        scenario.limits._replace(max_loras=max(1, scenario.limits.max_loras)), scenario.costs, scenario.step_cost
    )
    return run_fleet(scenario.requests, [model], holders, rule, numbers, Scrapes(every_s, np.zeros(1)))


def same_bytes(scenario: Scenario, rule: RouterRule, every_s: float) -> None:
    no_cache = scenario.limits.rules._replace(prefix_caching=0)
    scenario = scenario._replace(limits=scenario.limits._replace(rules=no_cache))
    whole, pieces = run_engine(*scenario), alone(scenario, rule, every_s)
    for name in ("admitted_s", "first_token_s", "finish_s", "num_preemptions", "refused"):
        assert getattr(whole, name).tobytes() == getattr(pieces, name).tobytes(), name
    assert pieces.totals.steps[0] == len(whole.steps.start_s)


@settings(max_examples=EXAMPLES, suppress_health_check=LARGE_IS_FINE, deadline=None)
@given(scenarios_of_versions(), rules(), st.sampled_from([0.0, 0.01, 0.5]))
def test_a_server_alone_in_pieces_is_the_whole_run_byte_for_byte(
    scenario: Scenario, rule: RouterRule, every_s: float
) -> None:
    same_bytes(scenario, rule, every_s)


@pytest.mark.parametrize("seed", range(4 if SLOW else 2))
def test_larger_servers_in_pieces_too(seed: int) -> None:
    same_bytes(large_scenario(seed), RouterRule(SCORERS, RESIDENCY, 1, 1, 1, 1), 0.02)


@pytest.mark.parametrize("seed", range(4 if SLOW else 2))
def test_totals_are_those_of_the_steps(seed: int) -> None:
    scenario = large_scenario(seed)
    steps, totals = run_engine(*scenario).steps, alone(scenario, RouterRule(LEAST_IN_FLIGHT), 0.0).totals
    weight = np.minimum(steps.duration_s, scenario.limits.window_s - steps.start_s) / scenario.limits.window_s
    for total, column in (("running", "running"), ("waiting", "waiting"), ("blocks", "kv_blocks")):
        values = getattr(steps, column)
        assert getattr(totals, f"{total}_mean")[0] == pytest.approx((weight * values).sum())
        assert getattr(totals, f"{total}_max")[0] == values.max()
    assert (totals.swap_ins[0], totals.disk_loads[0]) == (steps.swap_ins.sum(), steps.disk_loads.sum())


def test_a_server_that_gets_more_than_it_had_place_for_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    scenario, rule = large_scenario(0), RouterRule(TWO_CHOICES)
    expected = alone(scenario, rule, 0.02)
    monkeypatch.setattr(fleet_trace, "_place", lambda requests, servers: 1)
    again = alone(scenario, rule, 0.02)
    for name in ("admitted_s", "first_token_s", "finish_s", "num_preemptions"):
        assert getattr(expected, name).tobytes() == getattr(again, name).tobytes()


def test_an_adapter_that_nobody_holds_is_refused() -> None:
    scenario = large_scenario(0)
    num = scenario.num_adapters
    holders = Holders(np.zeros(num + 2, np.int64), np.zeros(0, np.int32), np.zeros(0, np.int32))
    model = ServerModel(scenario.limits, scenario.costs, scenario.step_cost)
    numbers = np.zeros((len(scenario.requests.arrival_s), 2))
    with pytest.raises(InputError, match="no server holds adapter"):
        run_fleet(scenario.requests, [model], holders, RouterRule(0), numbers, Scrapes(0.0, np.zeros(1)))
