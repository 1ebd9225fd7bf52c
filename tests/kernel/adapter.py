"""The one place where these tests touch the fast kernel: run both engines, put what they say in the same form."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.kernel import EngineTrace, run_engine, step_time_s
from tests.kernel.strategies import Scenario
from tests.reference.engine import ReferenceTrace, StepTime
from tests.reference.prefix_cache import run_any_reference

Columns = dict[str, NDArray[Any]]


def step_time_of(scenario: Scenario) -> StepTime:
    """The step time of a scenario: the one formula that both engines share."""
    return lambda features: step_time_s(scenario.step_cost, features)


def run_slow(scenario: Scenario, check: bool = True) -> ReferenceTrace:
    """The reference on a scenario, with its invariants checked after every step."""
    requests, limits, costs, num_adapters, _ = scenario
    return run_any_reference(requests, limits, costs, num_adapters, step_time_of(scenario), check)


def run_fast(scenario: Scenario, record_events: bool = True) -> EngineTrace:
    """The kernel on a scenario."""
    return run_engine(*scenario, record_events=record_events)


def slow_columns(trace: ReferenceTrace) -> Columns:
    """The reference's trace: columns by name; those that are times end in `_s`."""
    steps, features = trace.steps, [step.features for step in trace.steps]
    return {
        "events": np.array(trace.events, np.int64).reshape(-1, 3),
        "refused": np.array(trace.refused, bool),
        "arrival_s": np.array(trace.arrival_s),
        "cached_tokens": np.array(trace.cached_tokens),
        "prefix": np.array([trace.prefix_queries, trace.prefix_hits]),
        "num_preemptions": np.array(trace.num_preemptions),
        "steps.decode_requests": np.array([f.decode_requests for f in features]),
        "steps.prefill_tokens": np.array([f.prefill_tokens for f in features]),
        "steps.decode_context": np.array([f.decode_context for f in features]),
        "steps.prefill_context": np.array([f.prefill_context for f in features]),
        "steps.distinct_adapters": np.array([f.distinct_adapters for f in features]),
        "steps.waiting": np.array([f.waiting for f in features]),
        "steps.skipped": np.array([f.skipped for f in features]),
        "steps.running": np.array([f.running for f in features]),
        "steps.kv_blocks": np.array([step.kv_blocks_used for step in steps]),
        "steps.swap_ins": np.array([step.num_swap_ins for step in steps]),
        "steps.disk_loads": np.array([step.num_disk_loads for step in steps]),
        "admitted_s": np.array(trace.admitted_s),
        "first_token_s": np.array(trace.first_token_s),
        "finish_s": np.array(trace.finish_s),
        "steps.start_s": np.array([step.start_s for step in steps]),
        "steps.duration_s": np.array([step.duration_s for step in steps]),
    }


def fast_columns(trace: EngineTrace) -> Columns:
    """The kernel's trace, with the names of `slow_columns`."""
    of_requests = {name: np.asarray(column) for name, column in trace._asdict().items() if name != "steps"}
    if not len(trace.cached_tokens):  # without a prefix cache
        of_requests["cached_tokens"] = np.zeros(len(trace.arrival_s), np.int32)
    of_requests["prefix"] = np.array([trace.prefix_queries, trace.prefix_hits])
    of_steps = {f"steps.{name}": np.asarray(column) for name, column in trace.steps._asdict().items()}
    return of_requests | of_steps


def difference(slow: Columns, fast: Columns) -> str | None:
    """Where two traces first differ, in words; None if they agree: counts and events exactly, times to 1e-9."""
    for name, expected in slow.items():
        found = fast[name]
        if expected.shape != found.shape:
            return f"{name}: {len(found)} rows instead of {len(expected)}" + first_events(slow, fast)
        if name.endswith("_s"):
            wrong = ~np.isclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)
        else:
            wrong = found != expected if expected.ndim == 1 else (found != expected).any(axis=1)
        if wrong.any():
            row = int(np.argmax(wrong))
            return f"{name}[{row}]: {found[row]} instead of {expected[row]}" + first_events(slow, fast)
    return None


def first_events(slow: Columns, fast: Columns) -> str:
    """The events around the first one that differs: expected, found."""
    both = min(len(slow["events"]), len(fast["events"]))
    same = (slow["events"][:both] == fast["events"][:both]).all(axis=1)
    if same.all() and len(slow["events"]) == len(fast["events"]):
        return "; events agree"
    at = int(np.argmin(same)) if not same.all() else both
    around = slice(max(at - 3, 0), at + 4)
    return f"; event {at}: expected {slow['events'][around].tolist()}, found {fast['events'][around].tolist()}"
