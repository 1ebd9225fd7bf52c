"""The reference engine on scenarios small enough to work out with a pencil.

Unless a test says otherwise every step takes 1 s, so that times are counts of steps.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from loratwin.kernel.types import AdapterCosts, EngineLimits, Requests, StepFeatures
from tests.reference.engine import AdapterTiers, Corner, Event, ReferenceTrace, run_reference

SWAP_IN_S = 0.25
DISK_LOAD_S = 0.5
ROOMY = EngineLimits(
    num_blocks=1000,
    block_size=4,
    max_num_seqs=16,
    max_num_batched_tokens=64,
    max_loras=2,
    max_cpu_loras=4,
    max_in_flight=0,
    window_s=100.0,
)


def run(*rows: tuple[float, int, int, int], num_adapters: int = 0, **limits: Any) -> ReferenceTrace:
    """Run requests (arrival_s, adapter, prompt, output) on a roomy server with some limits changed."""
    arrival_s, adapter, prompt, output = zip(*rows, strict=True)
    adapters, prompts, outputs = (np.array(column, np.int32) for column in (adapter, prompt, output))
    requests = Requests(np.array(arrival_s, np.float64), adapters, prompts, outputs)
    costs = AdapterCosts(np.full(num_adapters, SWAP_IN_S), np.full(num_adapters, DISK_LOAD_S))
    return run_reference(requests, ROOMY._replace(**limits), costs, num_adapters, lambda features: 1.0)


def events(trace: ReferenceTrace, *kinds: Event) -> list[tuple[int, int]]:
    """The (request or adapter, step) of all events of some kinds, in order."""
    return [(index, step) for kind, index, step in trace.events if kind in kinds]


def test_a_single_request_emits_one_token_a_step_from_the_end_of_its_prefill() -> None:
    trace = run((0.5, -1, 5, 3))
    assert (trace.admitted_s, trace.first_token_s, trace.finish_s) == ([0.5], [1.5], [3.5])
    assert [step.start_s for step in trace.steps] == [0.5, 1.5, 2.5]
    assert trace.events == [
        (Event.ARRIVE, 0, 0), (Event.ADMIT, 0, 0), (Event.FIRST_TOKEN, 0, 0), (Event.FINISH, 0, 2),
    ]  # fmt: skip
    first, second, third = (step.features for step in trace.steps)
    assert (first.prefill_tokens, first.prefill_context, first.decode_requests) == (5, 12, 0)  # 5 * 5 // 2
    assert (second.prefill_tokens, second.decode_context, second.decode_requests) == (0, 5, 1)
    assert (third.decode_context, third.running, third.waiting) == (6, 1, 0)
    assert [step.kv_blocks_used for step in trace.steps] == [2, 2, 2]  # 5, 6 and 7 tokens


def test_a_request_of_one_token_is_a_prefill_and_finishes_with_its_first_token() -> None:
    trace = run((0.0, -1, 1, 1))
    assert trace.first_token_s == trace.finish_s == [1.0]
    assert trace.steps[0].features == StepFeatures(
        decode_requests=0, prefill_tokens=1, decode_context=0, prefill_context=0, distinct_adapters=0,
        lora_decode_requests=0, lora_prefill_tokens=0, waiting=0, skipped=0, running=1,
    )  # fmt: skip


def test_an_arrival_waits_for_the_end_of_the_step_and_one_at_its_very_end_is_in_time() -> None:
    trace = run((0.0, -1, 1, 3), (0.1, -1, 1, 1), (1.0, -1, 1, 1), (1.1, -1, 1, 1))
    assert trace.admitted_s == [0.0, 1.0, 1.0, 2.0]


def test_nothing_starts_once_the_window_is_over_but_a_step_under_way_ends() -> None:
    trace = run((0.0, -1, 1, 9), (2.0, -1, 1, 1), (2.2, -1, 1, 1), (2.5, -1, 1, 1), window_s=2.5)
    assert [step.start_s for step in trace.steps] == [0.0, 1.0, 2.0]
    assert trace.finish_s[1] == 3.0  # later than the window
    assert [math.isnan(time_s) for time_s in trace.admitted_s] == [False, False, True, True]
    assert events(trace, Event.ARRIVE) == [(0, 0), (1, 2)]
    assert trace.refused == [False] * 4


def test_an_idle_engine_does_not_wait_beyond_the_window() -> None:
    trace = run((0.0, -1, 1, 1), (2.5, -1, 1, 1), window_s=2.5)
    assert len(trace.steps) == 1


def test_a_long_prompt_is_computed_in_chunks_and_the_next_request_takes_what_is_left() -> None:
    trace = run((0.0, -1, 10, 2), (0.0, -1, 3, 1), max_num_batched_tokens=4, max_num_seqs=4)
    assert trace.admitted_s == [0.0, 2.0]
    assert trace.first_token_s == [3.0, 4.0]
    assert trace.finish_s == [4.0, 4.0]
    features = [step.features for step in trace.steps]
    assert [f.prefill_tokens for f in features] == [4, 4, 2 + 2, 1]
    assert [f.prefill_context for f in features] == [8, 4 * 4 + 8, 2 * 8 + 2 + 2, 1 * 2 + 0]
    assert [(f.decode_requests, f.decode_context) for f in features] == [(0, 0), (0, 0), (0, 0), (1, 10)]
    assert [f.waiting for f in features] == [1, 1, 0, 0]
    assert [step.kv_blocks_used for step in trace.steps] == [1, 2, 3 + 1, 3 + 1]


def test_max_num_seqs_stops_admission() -> None:
    trace = run((0.0, -1, 1, 2), (0.0, -1, 1, 1), (0.0, -1, 1, 1), max_num_seqs=2)
    assert trace.admitted_s == [0.0, 0.0, 1.0]


def test_an_adapter_beyond_the_slots_is_skipped_overtaken_and_keeps_its_place() -> None:
    trace = run(
        (0.0, 1, 1, 3),  # holds the only slot until 3
        (0.0, 0, 1, 1),  # skipped
        (0.0, 1, 1, 1),  # overtakes: its adapter is in the slot
        (0.0, 0, 1, 1),  # skipped
        (0.0, -1, 1, 1),  # overtakes: no adapter
        (2.0, 1, 1, 1),  # overtakes
        num_adapters=2,
        max_loras=1,
    )
    assert trace.admitted_s == [0.0, 3.0, 0.0, 3.0, 0.0, 2.0]
    assert events(trace, Event.ADMIT) == [(0, 0), (2, 0), (4, 0), (5, 2), (1, 3), (3, 3)]
    assert [step.features.waiting for step in trace.steps] == [2, 2, 2, 0]
    assert [step.features.skipped for step in trace.steps] == [2, 2, 2, 0]
    assert [step.features.distinct_adapters for step in trace.steps] == [1, 1, 1, 1]
    assert [step.features.lora_prefill_tokens for step in trace.steps] == [2, 0, 1, 2]
    assert [step.features.lora_decode_requests for step in trace.steps] == [0, 1, 1, 0]
    assert events(trace, Event.SWAP_IN) == [(0, 3)]  # the slot held adapter 1 at the start
    assert trace.steps[3].duration_s == 1.0 + SWAP_IN_S


def test_only_requests_that_the_walk_came_by_count_as_skipped() -> None:
    # Three sequences at most, one slot: request 1 is skipped, 2 and 3 fill the batch, 4 is not looked at any more.
    trace = run(*[(0.0, adapter, 1, 2) for adapter in (1, 0, 1, 1, 0)], num_adapters=2, max_loras=1, max_num_seqs=3)
    assert trace.admitted_s == [0.0, 2.0, 0.0, 0.0, 2.0]
    assert [(step.features.skipped, step.features.waiting) for step in trace.steps[:3]] == [(1, 2), (0, 2), (0, 0)]


def test_lack_of_kv_blocks_stops_everybody_behind() -> None:
    trace = run(
        (0.0, -1, 12, 2),  # 3 blocks, then 4
        (0.0, -1, 8, 1),  # 2 blocks: does not fit beside
        (0.0, -1, 1, 1),  # would fit
        num_blocks=4,
    )
    assert trace.admitted_s == [0.0, 2.0, 2.0]
    assert [step.kv_blocks_used for step in trace.steps] == [3, 4, 2 + 1]
    assert Corner.KV_BLOCKED_OTHERS in trace.corners


def test_two_victims_of_a_step_are_the_last_admitted_and_return_older_first() -> None:
    trace = run(*[(0.0, -1, 4, 3)] * 4, (0.0, -1, 4, 1), num_blocks=4)
    # Step 1: requests 0 and 1 need a second block each; 3 gives up its block for 0, then 2 gives up its block for 1.
    assert events(trace, Event.PREEMPT) == [(3, 1), (2, 1)]
    assert trace.num_preemptions == [0, 0, 1, 1, 0]
    assert events(trace, Event.ADMIT) == [(0, 0), (1, 0), (2, 0), (3, 0), (2, 3), (3, 3), (4, 5)]
    assert trace.first_token_s == [1.0, 1.0, 1.0, 1.0, 6.0]  # kept by the victims
    assert trace.finish_s == [3.0, 3.0, 5.0, 5.0, 6.0]
    resumed = trace.steps[3].features
    assert (resumed.prefill_tokens, resumed.decode_requests) == (5 + 5, 0)  # 4 of the prompt and 1 generated, again
    assert resumed.prefill_context == 12 + 12
    assert trace.steps[4].features.decode_requests == 2
    assert trace.admitted_s == [0.0, 0.0, 0.0, 0.0, 5.0]  # the first admission


def test_the_last_chunk_of_a_recomputation_is_prefill_even_if_it_is_one_token() -> None:
    # Blocks of one token, two tokens a step. 0 enters in step 0; 1 gets one token a step beside it, emits in step 2 and
    # gives way in step 3, when 0 needs its fifth block and finishes. The 3 known tokens of 1 come back as 2 + 1.
    trace = run((0.0, -1, 2, 4), (0.0, -1, 2, 4), num_blocks=6, block_size=1, max_num_batched_tokens=2, max_num_seqs=2)
    assert events(trace, Event.PREEMPT) == [(1, 3)]
    assert [step.features.prefill_tokens for step in trace.steps] == [2, 1, 1, 0, 2, 1, 0, 0]
    assert [step.features.decode_requests for step in trace.steps] == [0, 1, 1, 1, 0, 0, 1, 1]
    assert trace.steps[5].features.prefill_context == 1 * 2 + 0
    assert trace.first_token_s == [1.0, 3.0]
    assert trace.finish_s == [4.0, 8.0]
    assert Corner.RESUMED_ONE_TOKEN_LEFT in trace.corners


def test_nobody_is_admitted_in_a_step_that_preempts() -> None:
    # Blocks of one token, three tokens a step. After step 1 each owns 3 of the 7 blocks. In step 2 0 takes the last one
    # and 1 preempts itself: three blocks and two tokens of budget are left, enough for a chunk of 1, which has to wait
    # for step 3 all the same.
    trace = run((0.0, -1, 2, 4), (0.0, -1, 5, 1), num_blocks=7, block_size=1, max_num_batched_tokens=3, max_num_seqs=2)
    assert events(trace, Event.PREEMPT) == [(1, 2)]
    assert events(trace, Event.ADMIT) == [(0, 0), (1, 0), (1, 3)]
    assert [step.features.prefill_tokens for step in trace.steps] == [3, 2, 0, 2, 3]
    assert [step.features.waiting for step in trace.steps] == [0, 0, 1, 0, 0]
    assert [step.kv_blocks_used for step in trace.steps] == [3, 6, 4, 7, 5]
    assert trace.finish_s == [4.0, 5.0]
    assert Corner.ADMISSION_HELD_BACK in trace.corners


def test_a_request_preempts_itself_in_the_middle_of_its_prompt() -> None:
    trace = run(
        (0.0, -1, 2, 4), (0.0, -1, 5, 1), num_blocks=5, block_size=1, max_num_batched_tokens=3, max_num_seqs=2
    )  # fmt: skip
    # Step 0: 2 + 1 tokens. Step 1: 0 owns 3 blocks, one is free, 1 needs two: it loses its token and emits nothing.
    # Step 2 and 3: 0 owns 4, then 5. Step 4 and 5: 1 starts again, 3 + 2 tokens.
    assert events(trace, Event.PREEMPT) == [(1, 1)]
    assert trace.finish_s == [4.0, 6.0]
    assert trace.first_token_s == [1.0, 6.0]
    assert trace.admitted_s == [0.0, 0.0]
    assert [step.features.prefill_tokens for step in trace.steps] == [3, 0, 0, 0, 3, 2]
    assert [step.kv_blocks_used for step in trace.steps] == [3, 3, 4, 5, 3, 5]
    assert [(step.features.running, step.features.waiting) for step in trace.steps[:2]] == [(2, 0), (1, 1)]
    assert {Corner.SELF_PREEMPTION, Corner.SELF_PREEMPTION_MID_PREFILL} <= trace.corners


def test_arrivals_beyond_the_limit_in_flight_are_refused_for_good() -> None:
    trace = run((0.0, -1, 1, 2), (0.0, -1, 1, 3), (0.0, -1, 1, 1), (1.0, -1, 1, 1), (2.0, -1, 1, 1), max_in_flight=2)
    assert trace.refused == [False, False, True, True, False]
    assert events(trace, Event.ARRIVE) == [(0, 0), (1, 0), (4, 2)]
    assert events(trace, Event.REFUSE) == [(2, 0), (3, 1)]
    assert trace.admitted_s[4] == 2.0
    assert [math.isnan(time_s) for time_s in trace.admitted_s] == [False, False, True, True, False]


def test_a_finished_request_makes_room_before_the_next_arrivals_are_looked_at() -> None:
    trace = run((0.0, -1, 1, 1), (1.0, -1, 1, 1), max_in_flight=1)
    assert trace.refused == [False, False]


def test_no_request_is_delayed_by_adapters_that_are_in_slots_at_the_start() -> None:
    trace = run((0.0, 2, 1, 1), (0.0, 3, 1, 1), num_adapters=4)
    assert trace.steps[0].duration_s == 1.0


def test_an_adapter_on_disk_costs_a_load_and_a_swap_in() -> None:
    trace = run((0.0, 0, 1, 1), (0.0, -1, 1, 1), num_adapters=5)
    assert trace.steps[0].duration_s == 1.0 + DISK_LOAD_S + SWAP_IN_S
    assert (trace.steps[0].num_disk_loads, trace.steps[0].num_swap_ins) == (1, 1)
    assert trace.finish_s[1] == 1.75  # the whole batch waits
    kinds = [kind for kind, _, _ in trace.events]
    assert kinds[2:6] == [Event.ADMIT, Event.ADMIT, Event.DISK_LOAD, Event.SWAP_IN]


def test_an_adapter_of_the_step_is_evicted_from_its_slot_by_one_before_it() -> None:
    # The slots hold 2 and 3, 2 the older. Adapter 1 evicts 2, 2 evicts 3: two swap-ins, though 2 was there.
    trace = run((0.0, 2, 1, 1), (0.0, 1, 1, 1), (1.5, 3, 1, 1), (3.0, 2, 1, 1), num_adapters=4)
    assert events(trace, Event.SWAP_IN) == [(1, 0), (2, 0), (3, 1)]
    assert trace.steps[2].duration_s == 1.0  # 3 evicted 1: 2 is still there
    assert {Corner.SLOT_CASCADE} <= trace.corners


def test_an_adapter_of_the_step_is_evicted_from_the_host_by_one_before_it() -> None:
    # Host memory and slots hold 2 and 3. Load 1 evicts 2, load 2 evicts 3; in order load, swap, load, swap.
    trace = run((0.0, 1, 1, 1), (0.0, 2, 1, 1), num_adapters=4, max_cpu_loras=2)
    adapters = [event for event in trace.events if event[0] in (Event.DISK_LOAD, Event.SWAP_IN)]
    assert adapters == [
        (Event.DISK_LOAD, 1, 0), (Event.SWAP_IN, 1, 0), (Event.DISK_LOAD, 2, 0), (Event.SWAP_IN, 2, 0),
    ]  # fmt: skip
    assert trace.steps[0].duration_s == 1.0 + 2 * (DISK_LOAD_S + SWAP_IN_S)
    assert {Corner.HOST_CASCADE, Corner.HOST_EVICTION_FREES_SLOT} <= trace.corners


def test_the_tiers_are_two_lru_orders_and_leaving_the_host_frees_the_slot() -> None:
    tiers = AdapterTiers(num_adapters=6, max_loras=2, max_cpu_loras=3)

    def apply(*batch: int) -> list[tuple[Event, int]]:
        return tiers.apply(set(batch), lambda corner: None)

    assert (list(tiers.registered), list(tiers.active)) == ([3, 4, 5], [4, 5])
    assert apply(4) == []
    assert (list(tiers.registered), list(tiers.active)) == ([3, 5, 4], [5, 4])
    assert apply(3) == [(Event.SWAP_IN, 3)]
    assert (list(tiers.registered), list(tiers.active)) == ([5, 4, 3], [4, 3])
    assert apply(0) == [(Event.DISK_LOAD, 0), (Event.SWAP_IN, 0)]
    assert (list(tiers.registered), list(tiers.active)) == ([4, 3, 0], [3, 0])
    tight = AdapterTiers(num_adapters=6, max_loras=2, max_cpu_loras=2)
    note: list[Corner] = []
    assert tight.apply({1, 4}, note.append) == [
        (Event.DISK_LOAD, 1), (Event.SWAP_IN, 1), (Event.DISK_LOAD, 4), (Event.SWAP_IN, 4),
    ]  # fmt: skip
    assert note == [Corner.HOST_CASCADE, Corner.HOST_EVICTION_FREES_SLOT, Corner.HOST_EVICTION_FREES_SLOT]
    assert (list(tight.registered), list(tight.active)) == ([1, 4], [1, 4])


def test_a_preempted_request_keeps_its_claim_on_a_slot() -> None:
    # One slot, blocks of one token. Step 1: 0 takes the fifth block and 2 gives way (both adapter 1). Step 3: 0 is
    # finished; 2 is now ahead of 1 (adapter 0), which has waited longer, and takes the slot. 1 comes when 2 is done.
    trace = run(
        (0.0, 1, 2, 3), (0.0, 0, 1, 1), (0.0, 1, 2, 3),
        num_adapters=2, max_loras=1, block_size=1, num_blocks=5,
    )  # fmt: skip
    assert events(trace, Event.PREEMPT) == [(2, 1)]
    assert events(trace, Event.ADMIT) == [(0, 0), (2, 0), (2, 3), (1, 5)]


@pytest.mark.parametrize("check", [True, False])
def test_checking_changes_nothing(check: bool) -> None:
    adapter, prompt, output = (np.full(3, value, np.int32) for value in (-1, 4, 3))
    requests = Requests(np.zeros(3), adapter, prompt, output)
    costs = AdapterCosts(np.zeros(0), np.zeros(0))
    limits = ROOMY._replace(num_blocks=4, max_loras=0)
    trace = run_reference(requests, limits, costs, 0, lambda features: 1.0, check)
    assert trace.finish_s == [3.0, 3.0, 5.0]
