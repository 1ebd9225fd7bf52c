"""The prefix cache by hand, and that the random scenarios see any broken rule of it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from loratwin.kernel import AdapterCosts, EngineLimits, EngineRules, EngineTrace, Requests, StepCost
from tests.kernel.adapter import Columns, difference, fast_columns, run_fast, run_slow, slow_columns, step_time_of
from tests.kernel.strategies import Scenario, scenarios_that_share
from tests.reference import prefix_cache
from tests.slow import slow

SECOND = StepCost(*[0.0] * len(StepCost._fields))._replace(weights_s=1.0, roofline_power=1.0)


def served(
    rows: list[tuple[float, int, int, int]],
    text: list[int],
    ends: list[int],
    num_blocks: int = 100,
    **rules: int,
) -> EngineTrace:
    """Requests (arrival, adapter, prompt, output) that follow texts without parents, blocks of 4, a second a step."""
    arrival_s, *columns = zip(*rows, strict=True)
    adapter, prompt, output = (np.array(column, np.int32) for column in columns)
    requests = Requests(
        np.array(arrival_s, np.float64), adapter, prompt, output, text=np.array(text, np.int32),
        text_parent=np.full(len(ends), -1, np.int32), text_end=np.array(ends, np.int32),
    )  # fmt: skip
    limits = EngineLimits(num_blocks, 4, 8, 1000, 4, 4, 0, 1e6, EngineRules(prefix_caching=1, **rules))
    scenario = Scenario(requests, limits, AdapterCosts(np.zeros(4), np.zeros(4)), 4, SECOND)
    trace = run_fast(scenario)
    assert difference(slow_columns(run_slow(scenario)), fast_columns(trace)) is None
    return trace


def test_full_blocks_of_the_same_adapter_are_found_and_not_computed() -> None:
    """A beginning of 10 tokens is two full blocks; another adapter, and no adapter, have their own."""
    rows = [(0.0, 0, 12, 1), (5.0, 0, 30, 1), (10.0, 1, 30, 1), (15.0, -1, 30, 1), (20.0, -1, 11, 1)]
    trace = served(rows, [0] * 5, [10])
    np.testing.assert_array_equal(trace.cached_tokens, [0, 8, 0, 0, 8])
    np.testing.assert_array_equal(trace.steps.prefill_tokens, [12, 22, 30, 30, 3])
    assert (trace.prefix_queries, trace.prefix_hits) == (12 + 30 + 30 + 30 + 11, 16)


def test_the_context_of_what_is_computed_is_the_whole_prompt() -> None:
    trace = served([(0.0, 0, 12, 1), (5.0, 0, 12, 1)], [0, 0], [8])
    np.testing.assert_array_equal(trace.steps.prefill_context, [12 * 12 // 2, 4 * 8 + 4 * 4 // 2])


def test_the_last_block_is_computed_again_when_all_is_there() -> None:
    trace = served([(0.0, 0, 16, 1), (5.0, 0, 16, 1), (9.0, 0, 17, 1)], [0, 0, 0], [17])
    np.testing.assert_array_equal(trace.cached_tokens, [0, 12, 16])


def test_answers_are_found_too() -> None:
    """The last token of an answer is never computed: of 8 + 8 tokens 15 are in the cache."""
    trace = served([(0.0, 0, 8, 8), (50.0, 0, 40, 1)], [0, 0], [16])
    np.testing.assert_array_equal(trace.cached_tokens, [0, 12])


def test_what_a_step_computes_is_found_in_the_same_step() -> None:
    trace = served([(0.0, 0, 12, 1), (0.0, 0, 12, 1)], [0, 0], [12])
    np.testing.assert_array_equal(trace.cached_tokens, [0, 8])
    np.testing.assert_array_equal(trace.steps.prefill_tokens, [16])
    np.testing.assert_array_equal(trace.steps.kv_blocks, [4])


def test_the_end_of_a_prompt_is_forgotten_before_its_beginning() -> None:
    """Of six blocks the first prompt took four; the second needs four, two of which nobody had before."""
    trace = served([(0.0, 0, 16, 1), (5.0, 0, 16, 1), (9.0, 0, 24, 1)], [0, -1, 0], [16], num_blocks=6)
    np.testing.assert_array_equal(trace.cached_tokens, [0, 0, 8])


def test_a_preempted_request_finds_what_it_had() -> None:
    """Two of 8 + 8 tokens in seven blocks: the younger is preempted, and finds what nobody took."""
    rows = [(0.0, 0, 8, 8), (0.0, 0, 8, 8)]
    with_cache = served(rows, [-1, -1], [4], num_blocks=7)
    without = run_fast(_without_cache(rows, 7))
    assert with_cache.num_preemptions.tolist() == without.num_preemptions.tolist() == [0, 1]
    assert with_cache.steps.prefill_tokens.sum() < without.steps.prefill_tokens.sum()
    assert with_cache.prefix_hits > 0
    assert served(rows, [-1, -1], [4], num_blocks=7, count_fresh=1).prefix_hits == 0


def _without_cache(rows: list[tuple[float, int, int, int]], num_blocks: int) -> Scenario:
    arrival_s, *columns = zip(*rows, strict=True)
    adapter, prompt, output = (np.array(column, np.int32) for column in columns)
    limits = EngineLimits(num_blocks, 4, 8, 1000, 4, 4, 0, 1e6)
    requests = Requests(np.array(arrival_s), adapter, prompt, output)
    return Scenario(requests, limits, AdapterCosts(np.zeros(4), np.zeros(4)), 4, SECOND)


BROKEN: dict[str, tuple[str, str]] = {
    "adapters share": ("tokens, request.adapter)", "tokens, 0)"),
    "the last token may be found": ("(request.known - 1) // self", "request.known // self"),
    "an answer is not kept": ("place >= self.tables.text_end[text]:", "place >= request.prompt_tokens:"),
    "the youngest of twins is found": (
        "next(iter(self.cached[each].values()))", "list(self.cached[each].values())[-1]",
    ),
    "blocks in the queue are there for nothing": ("len(self.found) + nobodys", "len(self.found)"),
    "blocks found are not there": ("found) - len(self.found) + nobodys", "found)"),
    "blocks go back from the first on": ("in reversed(request.blocks)", "in request.blocks"),
    "the queue is a stack": (
        "deque(first) + self.free_queue + deque(last)", "deque(first) + deque(last) + self.free_queue",
    ),
    "a block without hash is the last": ("and self.limits.rules.unhashed_first", "and False"),
    "what is freed is forgotten": (
        "                unknown = ",
        "                if block.hash is not None:\n"
        "                    del self.cached[block.hash][block.number]\n"
        "                    if not self.cached[block.hash]:\n"
        "                        del self.cached[block.hash]\n"
        "                    block.hash = None\n"
        "                unknown = ",
    ),
    "a token that is not known fills a block": (
        "min(request.computed + num_tokens, request.known)", "request.computed + num_tokens",
    ),
    "a preempted request's find is its first": ("if request.num_preemptions == 0:\n", "if True:\n"),
    "preempted requests count": ("if request.num_preemptions == 0 or not", "if True or not"),
    "each look-up counts": ("if not self.limits.rules.count_admitted:", "if True:"),
}  # fmt: skip
"""One rule each, as the text to replace in the reference's source."""


@cache
def sample() -> list[tuple[Scenario, Columns]]:
    """A fixed sample of scenarios and what the reference makes of them."""
    drawn: list[Scenario] = []

    @seed(20)
    @settings(
        max_examples=500, database=None, deadline=None, phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )  # fmt: skip
    @given(scenarios_that_share())
    def collect(scenario: Scenario) -> None:
        drawn.append(scenario)

    collect()
    found = [(scenario, slow_columns(run_slow(scenario))) for scenario in drawn]
    return sorted(found, key=lambda each: len(each[1]["steps.start_s"]))


def broken(old: str, new: str) -> Callable[[Scenario], Columns]:
    """The reference with one mistake."""
    source = inspect.getsource(prefix_cache)
    assert source.count(old) == 1, f"{source.count(old)} times in the reference: {old!r}"
    names: dict[str, Any] = {"__name__": prefix_cache.__name__}
    exec(compile(source.replace(old, new), "broken reference", "exec"), names)

    def run(scenario: Scenario) -> Columns:
        requests, limits, costs, num_adapters, _ = scenario
        trace = names["run_any_reference"](requests, limits, costs, num_adapters, step_time_of(scenario), check=False)
        return slow_columns(trace)

    return run


def is_seen(run: Callable[[Scenario], Columns], scenario: Scenario, columns: Columns) -> bool:
    """Whether a broken cache says something else, or breaks down."""
    try:
        return difference(columns, run(scenario)) is not None
    except (AssertionError, IndexError, ValueError):
        return True


@slow
@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_rule_is_seen(rule: str) -> None:
    run = broken(*BROKEN[rule])
    assert any(is_seen(run, scenario, columns) for scenario, columns in sample())


@slow
def test_an_unbroken_rule_is_not_seen() -> None:
    run = broken("self.found = []\n        for", "self.found = list()\n        for")
    assert not any(is_seen(run, scenario, columns) for scenario, columns in sample()[:200])


@slow
def test_the_scenarios_share_preempt_and_wait() -> None:
    """Hits, hits after a preemption, and turns, each in many of them."""
    found = sample()
    hits = sum(columns["cached_tokens"].any() for _, columns in found)
    preempted = sum(columns["num_preemptions"].any() and columns["prefix"][1] > 0 for _, columns in found)
    turns = sum(len(scenario.requests.follows) > 0 for scenario, _ in found)
    assert min(hits, preempted, turns) > 50, (hits, preempted, turns)
