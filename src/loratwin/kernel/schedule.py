"""What the next step computes: the running first, then the waiting, within tokens, seats, slots and KV blocks."""

from __future__ import annotations

import numpy as np

from loratwin.kernel.batch import join_batch, preempt_last, release_leaving
from loratwin.kernel.jit import jit
from loratwin.kernel.queue import EMPTY, keep_skipped, next_adapter, num_before, pop
from loratwin.kernel.seats import take_seat
from loratwin.kernel.state import (
    ADMIT,
    ARRIVED,
    DECODING,
    DISTINCT,
    FREE_BLOCKS,
    LORA_PREFILL_TOKENS,
    NOW,
    NUM_FRESH,
    PARTIAL,
    PREEMPTED_NOW,
    PREFILL_CONTEXT,
    PREFILL_TOKENS,
    RUNNING,
    SKIPPED,
    STEP,
    WAITING,
    State,
    blocks_of,
    note,
)
from loratwin.kernel.types import I8, EngineLimits, Requests


@jit
def _extend_decoding(s: State, r: Requests, lim: EngineLimits) -> None:
    """Every decoding request whose blocks are full takes one; all at once where they suffice."""
    c, seats = s.tally, s.seats
    step = c[STEP]
    needed = seats.phase[-step % lim.block_size]
    if needed <= c[FREE_BLOCKS]:
        c[FREE_BLOCKS] -= needed
        return
    end = seats.request.shape[0] - 1
    seat = seats.next[end]
    while seat != end:
        if seats.last_step[seat] >= 0 and (seats.offset[seat] + step) % lim.block_size == 0:
            while c[FREE_BLOCKS] == 0:
                if preempt_last(s, r, lim) == seat:
                    return
            c[FREE_BLOCKS] -= 1
        seat = seats.next[seat]


@jit
def _compute_prompt(s: State, r: Requests, seat: int, tokens: int, block_size: int) -> None:
    """Compute a chunk of a prompt whose blocks are there; the last chunk makes it emit in this step."""
    c, seats = s.tally, s.seats
    computed = np.int64(seats.computed[seat])
    c[FREE_BLOCKS] -= blocks_of(computed + tokens, block_size) - blocks_of(computed, block_size)
    c[PREFILL_TOKENS] += tokens
    c[PREFILL_CONTEXT] += tokens * computed + tokens * tokens // 2
    if r.adapter[seats.request[seat]] >= 0:
        c[LORA_PREFILL_TOKENS] += tokens
    seats.computed[seat] = computed + tokens
    if computed + tokens == seats.known[seat]:
        s.fresh[c[NUM_FRESH]] = seat
        c[NUM_FRESH] += 1
        c[PARTIAL] = -1
    else:
        c[PARTIAL] = seat


@jit
def _schedule_running(s: State, r: Requests, lim: EngineLimits) -> int:
    """Decoding requests first, then the rest of the one unfinished prompt; the budget that is left."""
    c, seats = s.tally, s.seats
    _extend_decoding(s, r, lim)
    budget = lim.max_num_batched_tokens - c[DECODING]
    seat = c[PARTIAL]
    if seat >= 0 and budget > 0:
        computed = np.int64(seats.computed[seat])
        tokens = min(seats.known[seat] - computed, budget)
        if blocks_of(computed + tokens, lim.block_size) - blocks_of(computed, lim.block_size) > c[FREE_BLOCKS]:
            preempt_last(s, r, lim)
        else:
            _compute_prompt(s, r, seat, tokens, lim.block_size)
            budget -= tokens
    return budget


@jit
def _blocks_to_admit(c: I8, lim: EngineLimits, known: int, tokens: int) -> int:
    """KV blocks that must be free for a request of `known` tokens to start with `tokens` of them."""
    blocks = blocks_of(known if lim.rules.reserve_full_prompt else tokens, lim.block_size)
    return blocks + lim.rules.watermark_blocks if c[RUNNING] > 0 else blocks


@jit
def _schedule_waiting(s: State, r: Requests, lim: EngineLimits, budget: int) -> None:
    """Admit in queue order; adapters beyond the slots are passed over, a shortage of KV blocks stops everybody."""
    c, q = s.tally, s.queue
    seen = np.int64(-EMPTY)  # how far the walk came
    while budget > 0 and c[WAITING] > 0 and c[RUNNING] < lim.max_num_seqs:
        fifo = next_adapter(q, c[DISTINCT] < lim.max_loras)
        if fifo < 0:
            seen = EMPTY
            break
        request = q.head[fifo]
        seen = np.int64(q.position[request])
        known = np.int64(r.prompt_tokens[request]) + s.generated[request]
        tokens = min(known, budget)
        if _blocks_to_admit(c, lim, known, tokens) > c[FREE_BLOCKS]:
            break
        pop(q, fifo)
        c[WAITING] -= 1
        seat = take_seat(s.seats, request)
        s.seats.known[seat], s.seats.computed[seat] = known, 0
        c[RUNNING] += 1
        join_batch(s, r, request)
        if np.isnan(s.admitted_s[request]):
            s.admitted_s[request] = s.clock[NOW]
        note(s, ADMIT, request)
        _compute_prompt(s, r, seat, tokens, lim.block_size)
        budget -= tokens
    c[SKIPPED] = _num_skipped(s, lim, seen)
    if lim.rules.skipped_first and c[SKIPPED] > 0:
        keep_skipped(q, r.adapter, seen, c[ARRIVED])


@jit
def _num_skipped(s: State, lim: EngineLimits, seen: int) -> int:
    """Waiting requests before the point that the walk reached; none while another adapter may still join."""
    if s.tally[DISTINCT] < lim.max_loras or s.tally[WAITING] == 0 or seen == -EMPTY:
        return 0
    return s.tally[WAITING] if seen == EMPTY else num_before(s.queue, seen)


@jit
def schedule(s: State, r: Requests, lim: EngineLimits) -> None:
    c = s.tally
    c[PREEMPTED_NOW] = c[PREFILL_TOKENS] = c[LORA_PREFILL_TOKENS] = c[PREFILL_CONTEXT] = c[NUM_FRESH] = 0
    c[SKIPPED] = 0
    budget = _schedule_running(s, r, lim)
    if c[PREEMPTED_NOW] == 0:
        _schedule_waiting(s, r, lim, budget)
    release_leaving(s, r, lim)
