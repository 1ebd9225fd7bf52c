"""What the next step computes: the running first, then the waiting, within tokens, seats, slots and KV blocks."""

from __future__ import annotations

import numpy as np

from loratwin.kernel.batch import join_batch, preempt_last, release_leaving
from loratwin.kernel.blocks import adopt_found, find_prefix, hash_blocks, num_ownerless, take_block
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
    PREFIX_HITS,
    PREFIX_QUERIES,
    RUNNING,
    SKIPPED,
    STEP,
    WAITING,
    State,
    blocks_of,
    has_pool,
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
        if has_pool(s):
            _extend_due(s, r, lim, -step % lim.block_size)
            if not lim.rules.async_scheduling:
                _hash_due(s, r, lim, -(step + 1) % lim.block_size)
        return
    end = seats.request.shape[0] - 1
    seat = seats.next[end]
    while seat != end:
        if seats.last_step[seat] >= 0:
            if (seats.offset[seat] + step) % lim.block_size == 0:
                while c[FREE_BLOCKS] == 0:
                    if preempt_last(s, r, lim) == seat:
                        return
                c[FREE_BLOCKS] -= 1
                if has_pool(s):
                    take_block(s.pool, seat)
            if has_pool(s):
                _hash_decoded(s, r, lim, seat)
        seat = seats.next[seat]


@jit
def _extend_due(s: State, r: Requests, lim: EngineLimits, phase: int) -> None:
    """Those that need a block in this step take theirs, in admission order."""
    seat = s.pool.due_head[phase]
    while seat >= 0:
        take_block(s.pool, seat)
        if lim.rules.async_scheduling:
            _hash_decoded(s, r, lim, seat)
        seat = s.pool.due_next[seat]


@jit
def _hash_due(s: State, r: Requests, lim: EngineLimits, phase: int) -> None:
    """The blocks that this step fills can be found from now on."""
    seat = s.pool.due_head[phase]
    while seat >= 0:
        _hash_decoded(s, r, lim, seat)
        seat = s.pool.due_next[seat]


@jit
def _hash_decoded(s: State, r: Requests, lim: EngineLimits, seat: int) -> None:
    """A decoding request's full blocks, as far as their tokens are known when this step is scheduled."""
    tokens = s.seats.offset[seat] + s.tally[STEP] + (0 if lim.rules.async_scheduling else 1)
    hash_blocks(s.pool, r, s.seats.request[seat], seat, tokens, lim.block_size)


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
    if has_pool(s):
        while s.pool.num_owned[seat] * block_size < computed + tokens:
            take_block(s.pool, seat)
        hash_blocks(s.pool, r, seats.request[seat], seat, computed + tokens, block_size)
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
def _find_prefix(s: State, r: Requests, lim: EngineLimits, request: int, known: int) -> int:
    """Blocks of a waiting request that the prefix cache has."""
    found = find_prefix(s.pool, r, request, known, lim.block_size) if has_pool(s) else 0
    if not lim.rules.count_admitted:
        _count_lookup(s, lim, request, known, found)
    return found


@jit
def _count_lookup(s: State, lim: EngineLimits, request: int, known: int, found: int) -> None:
    """As the server counts for its metrics."""
    if s.num_preemptions[request] == 0 or not lim.rules.count_fresh:
        s.tally[PREFIX_QUERIES] += known
        s.tally[PREFIX_HITS] += found * lim.block_size


@jit
def _adopt_prefix(s: State, lim: EngineLimits, request: int, seat: int, known: int, found: int) -> None:
    """An admitted request owns what was found."""
    if has_pool(s):
        s.tally[FREE_BLOCKS] -= num_ownerless(s.pool, found)
        adopt_found(s.pool, seat, found)
        if s.num_preemptions[request] == 0:
            s.pool.cached_tokens[request] = found * lim.block_size
    if lim.rules.count_admitted:
        _count_lookup(s, lim, request, known, found)


@jit
def _blocks_to_admit(c: I8, lim: EngineLimits, known: int, tokens: int) -> int:
    """KV blocks that a request of `known` tokens must have to start with the first `tokens` of them, and the margin."""
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
        found = _find_prefix(s, r, lim, request, known) if lim.rules.prefix_caching else 0
        computed = found * lim.block_size
        tokens = min(known - computed, budget)
        have = found - num_ownerless(s.pool, found)
        if _blocks_to_admit(c, lim, known, computed + tokens) - have > c[FREE_BLOCKS]:
            break
        pop(q, fifo)
        c[WAITING] -= 1
        seat = take_seat(s.seats, request)
        s.seats.known[seat], s.seats.computed[seat] = known, computed
        if lim.rules.prefix_caching:
            _adopt_prefix(s, lim, request, seat, known, found)
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
