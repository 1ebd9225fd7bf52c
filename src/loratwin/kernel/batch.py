"""Who is in the batch: joining and leaving it, decoding, giving back seat and blocks, preemption."""

from __future__ import annotations

import numpy as np

from loratwin.kernel.blocks import enter_due, give_back, hash_blocks, leave_due
from loratwin.kernel.jit import jit
from loratwin.kernel.queue import move_tree, push_front
from loratwin.kernel.residency import note_change
from loratwin.kernel.seats import LEAVING, enter_calendar, leave_calendar, leave_seat
from loratwin.kernel.state import (
    DECODING,
    DISTINCT,
    FREE_BLOCKS,
    LORA_DECODING,
    NUM_LEAVING,
    OFFSET_SUM,
    PARTIAL,
    PREEMPT,
    PREEMPTED_NOW,
    RUNNING,
    STEP,
    WAITING,
    State,
    blocks_of,
    fifo_of,
    has_pool,
    note,
)
from loratwin.kernel.types import EngineLimits, Requests


@jit
def join_batch(s: State, r: Requests, request: int) -> None:
    """Count a request's adapter into the batch."""
    adapter = r.adapter[request]
    if adapter >= 0:
        s.queue.running[adapter] += 1
        if s.queue.running[adapter] == 1:
            s.tally[DISTINCT] += 1
            move_tree(s.queue, adapter)
            note_change(s.residency, adapter)


@jit
def leave_batch(s: State, r: Requests, request: int) -> None:
    adapter = r.adapter[request]
    if adapter >= 0:
        s.queue.running[adapter] -= 1
        if s.queue.running[adapter] == 0:
            s.tally[DISTINCT] -= 1
            move_tree(s.queue, adapter)
            note_change(s.residency, adapter)


@jit
def stop_decoding(s: State, r: Requests, seat: int, block_size: int) -> None:
    """Take a seat out of the counters of decoding requests."""
    c, offset = s.tally, s.seats.offset[seat]
    c[DECODING] -= 1
    c[OFFSET_SUM] -= offset
    s.seats.phase[offset % block_size] -= 1
    if has_pool(s):
        leave_due(s.pool, seat, offset % block_size)
    if r.adapter[s.seats.request[seat]] >= 0:
        c[LORA_DECODING] -= 1


@jit
def start_decoding(s: State, r: Requests, seat: int, remaining: int, block_size: int) -> None:
    """A prompt is done and its token emitted: from the next step on one token a step, `remaining` times."""
    c, seats = s.tally, s.seats
    step = c[STEP]
    enter_calendar(seats, seat, step + remaining)
    offset = np.int64(seats.known[seat]) - (step + 1)
    seats.offset[seat] = offset
    c[DECODING] += 1
    c[OFFSET_SUM] += offset
    seats.phase[offset % block_size] += 1
    if has_pool(s):
        enter_due(s.pool, seat, offset % block_size)
    if r.adapter[seats.request[seat]] >= 0:
        c[LORA_DECODING] += 1


@jit
def _free_blocks(s: State, seat: int, computed: int, lim: EngineLimits) -> None:
    """A request with so many tokens in the KV cache gives its blocks back."""
    if has_pool(s):
        s.tally[FREE_BLOCKS] += give_back(s.pool, seat, lim.rules.unhashed_first)
    else:
        s.tally[FREE_BLOCKS] += blocks_of(computed, lim.block_size)


@jit
def release(s: State, r: Requests, seat: int, lim: EngineLimits) -> None:
    """A finished request gives back its seat, its blocks and, if it still holds one, its adapter's place."""
    request = s.seats.request[seat]
    _free_blocks(s, seat, r.prompt_tokens[request] + r.output_tokens[request] - 1, lim)
    leave_seat(s.seats, seat)
    s.tally[RUNNING] -= 1
    if not lim.rules.async_scheduling or lim.rules.lora_set_of_running:
        leave_batch(s, r, request)


@jit
def release_leaving(s: State, r: Requests, lim: EngineLimits) -> None:
    """The step is scheduled; those whose last token came with the step before make room for the next one."""
    for i in range(s.tally[NUM_LEAVING]):
        seat = s.leaving[i]
        if s.seats.last_step[seat] == LEAVING:  # else it was preempted
            if has_pool(s):
                request = s.seats.request[seat]
                tokens = np.int64(r.prompt_tokens[request]) + r.output_tokens[request] - 1
                hash_blocks(s.pool, r, request, seat, tokens, lim.block_size)
            release(s, r, seat, lim)
    s.tally[NUM_LEAVING] = 0


@jit
def _count_preemption(s: State, request: int) -> None:
    s.tally[PREEMPTED_NOW] += 1
    s.num_preemptions[request] += 1
    note(s, PREEMPT, request)


@jit
def preempt_last(s: State, r: Requests, lim: EngineLimits) -> int:
    """The request admitted last loses everything and goes to the front of the queue; its seat."""
    c, seats = s.tally, s.seats
    seat = seats.prev[seats.request.shape[0] - 1]
    request = seats.request[seat]
    if seats.last_step[seat] == LEAVING:  # its last token is on the way: it is not computed again
        release(s, r, seat, lim)
        seats.last_step[seat] = -1
        _count_preemption(s, request)
        return seat
    if seats.last_step[seat] < 0:
        computed = np.int64(seats.computed[seat])
        c[PARTIAL] = -1
    else:
        computed = seats.offset[seat] + c[STEP]
        s.generated[request] = computed - r.prompt_tokens[request] + 1
        leave_calendar(seats, seat)
        stop_decoding(s, r, seat, lim.block_size)
    _free_blocks(s, seat, computed, lim)
    leave_seat(seats, seat)
    c[RUNNING] -= 1
    leave_batch(s, r, request)
    push_front(s.queue, request, fifo_of(s, r, request))
    c[WAITING] += 1
    _count_preemption(s, request)
    return seat
