"""The queue of skipped requests on a case worked out with a pencil, which random workloads hardly ever reach."""

from __future__ import annotations

import numpy as np
import pytest

from loratwin.kernel import AdapterCosts, EngineLimits, EngineRules, Requests, StepCost
from tests.kernel.adapter import difference, fast_columns, run_fast, run_slow, slow_columns
from tests.kernel.strategies import Scenario
from tests.reference.engine import Event

V, B, W, X, Z = range(5)


def scenario(skipped_first: int) -> Scenario:
    """Steps of 1 s, 12 blocks of one token, one slot.

    V (no adapter) and B (adapter 1) run; W and X (adapter 0) are passed over. When B is done W runs; X does not fit.
    After 6 s V and W fill the cache, and W is preempted while X, of its own adapter, is the last that was passed over.
    Then Z, also of adapter 0, arrives. V ends at 10 s; then X and W would fit, but not both.
    """
    rows = ([-1, 1, 0, 0, 0], [1, 1, 2, 8, 1], [10, 2, 9, 2, 1])
    adapter, prompt, output = (np.array(column, np.int32) for column in rows)
    requests = Requests(np.array([0.0, 0.0, 0.5, 0.5, 6.5]), adapter, prompt, output)
    limits = EngineLimits(12, 1, 8, 64, 1, 2, 0, 100.0, EngineRules(skipped_first=skipped_first))
    second = StepCost(*[0.0] * len(StepCost._fields))._replace(weights_s=1.0, roofline_power=1.0)
    return Scenario(requests, limits, AdapterCosts(np.zeros(2), np.zeros(2)), 2, second)


@pytest.mark.parametrize(("skipped_first", "admitted"), [(0, [V, B, W, W, X, Z]), (1, [V, B, W, X, W, Z])])
def test_who_was_passed_over_comes_before_who_was_preempted(skipped_first: int, admitted: list[int]) -> None:
    trace = run_fast(scenario(skipped_first))
    assert [item for kind, item, _ in trace.events if kind == Event.ADMIT] == admitted
    assert difference(slow_columns(run_slow(scenario(skipped_first))), fast_columns(trace)) is None
