"""The random scenarios are worth something: they reach every corner, and no broken rule escapes them.

The corners are noted by the reference (`Corner`). The broken rules are made by changing one line of the reference's
source; the result stands for a kernel with that mistake.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from loratwin.kernel import StepFeatures
from tests.kernel.adapter import Columns, difference, run_slow, slow_columns, step_time_of
from tests.kernel.broken_rules import BROKEN_RULES
from tests.kernel.strategies import Scenario, scenarios
from tests.reference import engine
from tests.reference.engine import Corner, ReferenceTrace
from tests.slow import slow

pytestmark = slow  # of the tests themselves, not of the kernel

NUM_EXAMPLES = 700
MAX_STEPS = 3000  # a broken engine may never end


@cache
def sample() -> list[tuple[Scenario, ReferenceTrace]]:
    """A fixed sample of the scenarios, and what the reference makes of them."""
    drawn: list[tuple[Scenario, ReferenceTrace]] = []

    @seed(20)
    @settings(
        max_examples=NUM_EXAMPLES, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(scenarios())
    def collect(scenario: Scenario) -> None:
        drawn.append((scenario, run_slow(scenario)))

    collect()
    return drawn


@cache
def expected() -> list[tuple[Scenario, Columns]]:
    """The sample with traces as columns, the shorter runs first."""
    short_first = sorted(sample(), key=lambda drawn: len(drawn[1].steps))
    return [(scenario, slow_columns(trace)) for scenario, trace in short_first if len(trace.steps) < MAX_STEPS]


@pytest.mark.parametrize("corner", Corner, ids=lambda corner: corner.name.lower())
def test_the_scenarios_reach(corner: Corner) -> None:
    counts = Counter(corner for _, trace in sample() for corner in trace.corners)
    assert counts[corner] >= 5, f"{corner.value}: {counts[corner]} of {len(sample())} runs"


def broken(old: str, new: str) -> Callable[[Scenario], Columns]:
    """A kernel with one mistake."""
    source = inspect.getsource(engine)
    assert source.count(old) == 1, f"{source.count(old)} times in the reference: {old!r}"
    names: dict[str, Any] = {"__name__": engine.__name__}
    exec(compile(source.replace(old, new), "broken reference", "exec"), names)

    def run(scenario: Scenario) -> Columns:
        num_steps, step_time_s = 0, step_time_of(scenario)

        def limited(features: StepFeatures) -> float:
            nonlocal num_steps
            num_steps += 1
            if num_steps > MAX_STEPS:
                raise TimeoutError
            return step_time_s(features)

        requests, limits, costs, num_adapters, _ = scenario
        return slow_columns(names["run_reference"](requests, limits, costs, num_adapters, limited, check=False))

    return run


def is_seen(run: Callable[[Scenario], Columns], scenario: Scenario, columns: Columns) -> bool:
    """Whether a broken kernel says something else than the reference, or never ends."""
    try:
        return difference(columns, run(scenario)) is not None
    except TimeoutError:
        return True


@pytest.mark.parametrize("rule", BROKEN_RULES)
def test_a_broken_rule_is_seen(rule: str) -> None:
    run = broken(*BROKEN_RULES[rule])
    assert any(is_seen(run, scenario, columns) for scenario, columns in expected())


def test_an_unbroken_rule_is_not_seen() -> None:
    run = broken("self.waiting and budget > 0", "budget > 0 and self.waiting")
    assert not any(is_seen(run, scenario, columns) for scenario, columns in expected()[:100])
