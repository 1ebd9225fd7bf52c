"""One engine step as vLLM 0.8.5 takes it (engine.md 1.2), and the loop around it.

drain arrivals -> schedule the running -> admit the waiting -> load adapters -> let the step's time pass -> emit tokens.

With asynchronous scheduling (later versions, engine.md 1.6) a step is scheduled when the step before it starts: what
arrives or finishes during that one is not seen. So arrivals are drained up to the start of the step before
(`clock[SEEN]`), and who makes a last token keeps seat and blocks ("leaving") until the next step is scheduled.
`advance` resumes where it stopped, so the same kernel can be stepped under a wall clock.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.cost import dense_time_s, total_time_s
from loratwin.kernel.jit import entry, jit
from loratwin.kernel.queue import (
    EMPTY,
    Queue,
    keep_skipped,
    move_tree,
    new_queue,
    next_adapter,
    num_before,
    pop,
    push_back,
    push_front,
)
from loratwin.kernel.residency import DISK_LOADS, SWAP_INS, Residency, apply_adapters, new_residency, note_change
from loratwin.kernel.seats import LEAVING, Seats, enter_calendar, leave_calendar, leave_seat, new_seats, take_seat
from loratwin.kernel.types import F8, I4, I8, AdapterCosts, EngineLimits, Requests, StepCost, StepFeatures, StepSeries

ARRIVE, REFUSE, PREEMPT, ADMIT, DISK_LOAD, SWAP_IN, FIRST_TOKEN, FINISH = range(8)

# Counters of the engine (State.tally)
(
    ARRIVED,
    WAITING,
    RUNNING,
    DECODING,
    FREE_BLOCKS,
    OFFSET_SUM,  # sum of Seats.offset over decoding seats: their context is this + DECODING * step
    PARTIAL,  # the one seat whose prompt is not done, -1: none; always the last of the running list
    STEP,
    DISTINCT,
    LORA_DECODING,
    PREEMPTED_NOW,
    PREFILL_TOKENS,  # the following are of the present step
    LORA_PREFILL_TOKENS,
    PREFILL_CONTEXT,
    SKIPPED,
    NUM_FRESH,  # entries of State.fresh
    NUM_EVENTS,
    NUM_LEAVING,  # entries of State.leaving
) = range(18)

NOW, SEEN = range(2)  # State.clock: the time; up to when arrivals count in the step to be scheduled


class State(NamedTuple):
    """Everything that changes while the engine runs."""

    queue: Queue
    seats: Seats
    residency: Residency
    tally: I8  # the counters above
    clock: F8  # (2,) seconds, see above
    dense_s: F8  # (max_num_batched_tokens + 1,) time of the dense layers by tokens, NaN until it is needed
    fresh: I4  # (max_num_seqs + 1,) seats that finish their prompt in this step, in admission order
    leaving: I4  # (max_num_seqs + 1,) seats whose last token came with the last step
    loads: I4  # what this step loads, see `apply_adapters`
    generated: I4  # (requests,) tokens emitted before the last preemption
    admitted_s: F8
    first_token_s: F8
    finish_s: F8
    num_preemptions: I4
    refused: np.ndarray
    events: I8  # (capacity, 3) kind, request or adapter, step; counted on when full


def new_state(requests: Requests, limits: EngineLimits, num_adapters: int, event_capacity: int) -> State:
    """An idle engine at time 0."""
    n = len(requests.arrival_s)
    tally = np.zeros(18, np.int64)
    tally[FREE_BLOCKS], tally[PARTIAL] = limits.num_blocks, -1
    longest = int(requests.output_tokens.max()) if n else 1
    return State(
        queue=new_queue(n, num_adapters),
        seats=new_seats(limits.max_num_seqs, limits.block_size, longest),
        residency=new_residency(num_adapters, limits.max_loras, limits.max_cpu_loras),
        tally=tally,
        clock=np.zeros(2),
        dense_s=np.full(limits.max_num_batched_tokens + 1, np.nan),
        fresh=np.zeros(limits.max_num_seqs + 1, np.int32),
        leaving=np.zeros(limits.max_num_seqs + 1, np.int32),
        loads=np.zeros(2 * num_adapters + 1, np.int32),
        generated=np.zeros(n, np.int32),
        admitted_s=np.full(n, np.nan),
        first_token_s=np.full(n, np.nan),
        finish_s=np.full(n, np.nan),
        num_preemptions=np.zeros(n, np.int32),
        refused=np.zeros(n, np.bool_),
        events=np.zeros((event_capacity, 3), np.int64),
    )


@jit
def _note(s: State, kind: int, item: int) -> None:
    i = s.tally[NUM_EVENTS]
    if i < s.events.shape[0]:
        s.events[i, 0], s.events[i, 1], s.events[i, 2] = kind, item, s.tally[STEP]
    s.tally[NUM_EVENTS] = i + 1


@jit
def _fifo(s: State, r: Requests, request: int) -> int:
    """Index of the FIFO of a request: its adapter, or the place behind all adapters."""
    adapter = r.adapter[request]
    return adapter if adapter >= 0 else s.queue.head.shape[0] - 1


@jit
def _blocks(tokens: int, block_size: int) -> int:
    return (tokens + block_size - 1) // block_size


@jit
def _drain_arrivals(s: State, r: Requests, lim: EngineLimits) -> None:
    """Everything that arrived and is seen by now joins the queue, or is refused when too many are in flight."""
    c, now, n = s.tally, s.clock[SEEN], r.arrival_s.shape[0]
    while c[ARRIVED] < n and r.arrival_s[c[ARRIVED]] <= now:
        request = c[ARRIVED]
        c[ARRIVED] += 1
        if lim.max_in_flight > 0 and c[WAITING] + c[RUNNING] >= lim.max_in_flight:
            s.refused[request] = True
            _note(s, REFUSE, request)
            continue
        push_back(s.queue, request, _fifo(s, r, request))
        c[WAITING] += 1
        _note(s, ARRIVE, request)


@jit
def _join_batch(s: State, r: Requests, request: int) -> None:
    """Count a request's adapter into the batch."""
    adapter = r.adapter[request]
    if adapter >= 0:
        s.queue.running[adapter] += 1
        if s.queue.running[adapter] == 1:
            s.tally[DISTINCT] += 1
            move_tree(s.queue, adapter)
            note_change(s.residency, adapter)


@jit
def _leave_batch(s: State, r: Requests, request: int) -> None:
    adapter = r.adapter[request]
    if adapter >= 0:
        s.queue.running[adapter] -= 1
        if s.queue.running[adapter] == 0:
            s.tally[DISTINCT] -= 1
            move_tree(s.queue, adapter)
            note_change(s.residency, adapter)


@jit
def _stop_decoding(s: State, r: Requests, seat: int, block_size: int) -> None:
    """Take a seat out of the counters of decoding requests."""
    c, offset = s.tally, s.seats.offset[seat]
    c[DECODING] -= 1
    c[OFFSET_SUM] -= offset
    s.seats.phase[offset % block_size] -= 1
    if r.adapter[s.seats.request[seat]] >= 0:
        c[LORA_DECODING] -= 1


@jit
def _start_decoding(s: State, r: Requests, seat: int, remaining: int, block_size: int) -> None:
    """A prompt is done and its token emitted: from the next step on one token a step, `remaining` times."""
    c, seats = s.tally, s.seats
    step = c[STEP]
    enter_calendar(seats, seat, step + remaining)
    offset = np.int64(seats.known[seat]) - (step + 1)
    seats.offset[seat] = offset
    c[DECODING] += 1
    c[OFFSET_SUM] += offset
    seats.phase[offset % block_size] += 1
    if r.adapter[seats.request[seat]] >= 0:
        c[LORA_DECODING] += 1


@jit
def _count_preemption(s: State, request: int) -> None:
    s.tally[PREEMPTED_NOW] += 1
    s.num_preemptions[request] += 1
    _note(s, PREEMPT, request)


@jit
def _release(s: State, r: Requests, seat: int, lim: EngineLimits) -> None:
    """A finished request gives back its seat, its blocks and, if it still holds one, its adapter's place."""
    request = s.seats.request[seat]
    s.tally[FREE_BLOCKS] += _blocks(r.prompt_tokens[request] + r.output_tokens[request] - 1, lim.block_size)
    leave_seat(s.seats, seat)
    s.tally[RUNNING] -= 1
    if not lim.rules.async_scheduling or lim.rules.lora_set_of_running:
        _leave_batch(s, r, request)


@jit
def _release_leaving(s: State, r: Requests, lim: EngineLimits) -> None:
    """The step is scheduled; those whose last token came with the step before make room for the next one."""
    for i in range(s.tally[NUM_LEAVING]):
        if s.seats.last_step[s.leaving[i]] == LEAVING:  # else it was preempted
            _release(s, r, s.leaving[i], lim)
    s.tally[NUM_LEAVING] = 0


@jit
def _preempt_last(s: State, r: Requests, lim: EngineLimits) -> int:
    """The request admitted last loses everything and goes to the front of the queue; its seat."""
    c, seats = s.tally, s.seats
    seat = seats.prev[seats.request.shape[0] - 1]
    request = seats.request[seat]
    if seats.last_step[seat] == LEAVING:  # its last token is on the way: it is not computed again
        _release(s, r, seat, lim)
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
        _stop_decoding(s, r, seat, lim.block_size)
    c[FREE_BLOCKS] += _blocks(computed, lim.block_size)
    leave_seat(seats, seat)
    c[RUNNING] -= 1
    _leave_batch(s, r, request)
    push_front(s.queue, request, _fifo(s, r, request))
    c[WAITING] += 1
    _count_preemption(s, request)
    return seat


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
                if _preempt_last(s, r, lim) == seat:
                    return
            c[FREE_BLOCKS] -= 1
        seat = seats.next[seat]


@jit
def _compute_prompt(s: State, r: Requests, seat: int, tokens: int, block_size: int) -> None:
    """Compute a chunk of a prompt whose blocks are there; the last chunk makes it emit in this step."""
    c, seats = s.tally, s.seats
    computed = np.int64(seats.computed[seat])
    c[FREE_BLOCKS] -= _blocks(computed + tokens, block_size) - _blocks(computed, block_size)
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
        if _blocks(computed + tokens, lim.block_size) - _blocks(computed, lim.block_size) > c[FREE_BLOCKS]:
            _preempt_last(s, r, lim)
        else:
            _compute_prompt(s, r, seat, tokens, lim.block_size)
            budget -= tokens
    return budget


@jit
def _blocks_to_admit(c: I8, lim: EngineLimits, known: int, tokens: int) -> int:
    """KV blocks that must be free for a request of `known` tokens to start with `tokens` of them."""
    blocks = _blocks(known if lim.rules.reserve_full_prompt else tokens, lim.block_size)
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
        _join_batch(s, r, request)
        if np.isnan(s.admitted_s[request]):
            s.admitted_s[request] = s.clock[NOW]
        _note(s, ADMIT, request)
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
def _schedule(s: State, r: Requests, lim: EngineLimits) -> None:
    c = s.tally
    c[PREEMPTED_NOW] = c[PREFILL_TOKENS] = c[LORA_PREFILL_TOKENS] = c[PREFILL_CONTEXT] = c[NUM_FRESH] = 0
    c[SKIPPED] = 0
    budget = _schedule_running(s, r, lim)
    if c[PREEMPTED_NOW] == 0:
        _schedule_waiting(s, r, lim, budget)
    _release_leaving(s, r, lim)


@jit
def _load_adapters(s: State, lim: EngineLimits, costs: AdapterCosts) -> float:
    """Bring the batch's adapters into the slots; the seconds that the step waits for them."""
    time = apply_adapters(s.residency, s.queue.running, lim, costs, s.loads)
    for i in range(s.loads[-1]):
        load = s.loads[i]
        _note(s, SWAP_IN if load >= 0 else DISK_LOAD, load if load >= 0 else -1 - load)
    return time


@jit
def _features(s: State) -> StepFeatures:
    c = s.tally
    return StepFeatures(
        c[DECODING],
        c[PREFILL_TOKENS],
        c[OFFSET_SUM] + c[DECODING] * c[STEP],
        c[PREFILL_CONTEXT],
        c[DISTINCT],
        c[LORA_DECODING],
        c[LORA_PREFILL_TOKENS],
        c[WAITING],
        c[SKIPPED],
        c[RUNNING],
    )


@jit
def _dense_time_s(s: State, cost: StepCost, f: StepFeatures) -> float:
    """`dense_time_s`, computed once for each number of tokens: its powers would be a tenth of the run."""
    tokens = f.decode_requests + f.prefill_tokens
    if np.isnan(s.dense_s[tokens]):
        s.dense_s[tokens] = dense_time_s(cost, tokens)
    return s.dense_s[tokens]


@jit
def _finish(s: State, r: Requests, seat: int, lim: EngineLimits) -> None:
    request = s.seats.request[seat]
    s.finish_s[request] = s.clock[NOW]
    if lim.rules.async_scheduling:
        s.leaving[s.tally[NUM_LEAVING]] = seat
        s.tally[NUM_LEAVING] += 1
        s.seats.last_step[seat] = LEAVING
        if not lim.rules.lora_set_of_running:
            _leave_batch(s, r, request)
    else:
        _release(s, r, seat, lim)
    _note(s, FINISH, request)


@jit
def _emit_decoded(s: State, r: Requests, lim: EngineLimits) -> None:
    """Decoding requests whose last token this step made, in admission order."""
    seats = s.seats
    day = s.tally[STEP] & (seats.day_head.shape[0] - 1)
    seat = seats.day_head[day]
    seats.day_head[day] = seats.day_tail[day] = -1
    while seat >= 0:
        after = seats.day_next[seat]
        _stop_decoding(s, r, seat, lim.block_size)
        _finish(s, r, seat, lim)
        seat = after


@jit
def _emit_fresh(s: State, r: Requests, lim: EngineLimits) -> None:
    """Requests whose prompt is done emit a token: their first, unless they had been preempted."""
    for i in range(s.tally[NUM_FRESH]):
        seat = s.fresh[i]
        request = s.seats.request[seat]
        if s.generated[request] == 0:
            s.first_token_s[request] = s.clock[NOW]
            _note(s, FIRST_TOKEN, request)
        remaining = r.output_tokens[request] - s.generated[request] - 1
        if remaining == 0:
            _finish(s, r, seat, lim)
        else:
            _start_decoding(s, r, seat, remaining, lim.block_size)


@jit
def _log_step(log: StepSeries, step: int, s: State, f: StepFeatures, num_blocks: int, duration_s: float) -> None:
    log.start_s[step] = s.clock[NOW]
    log.duration_s[step] = duration_s
    log.decode_requests[step] = f.decode_requests
    log.prefill_tokens[step] = f.prefill_tokens
    log.running[step] = f.running
    log.waiting[step] = f.waiting
    log.distinct_adapters[step] = f.distinct_adapters
    log.kv_blocks[step] = num_blocks - s.tally[FREE_BLOCKS]
    log.swap_ins[step] = s.residency.tally[SWAP_INS]
    log.disk_loads[step] = s.residency.tally[DISK_LOADS]
    log.decode_context[step] = f.decode_context
    log.prefill_context[step] = f.prefill_context
    log.skipped[step] = f.skipped


@jit
def _step(
    s: State, r: Requests, lim: EngineLimits, costs: AdapterCosts, cost: StepCost, log: StepSeries, step: int
) -> int:
    """One step of the engine; 1, or 0 when all that run are leaving and nothing else could be scheduled."""
    _schedule(s, r, lim)
    start_s = s.clock[NOW]
    if s.tally[DECODING] + s.tally[PREFILL_TOKENS] == 0:
        s.clock[SEEN] = start_s
        return 0
    load_s = _load_adapters(s, lim, costs)
    features = _features(s)
    duration_s = total_time_s(cost, features, _dense_time_s(s, cost, features)) + load_s
    _log_step(log, step, s, features, lim.num_blocks, duration_s)
    s.clock[NOW] += duration_s
    s.clock[SEEN] = start_s if lim.rules.async_scheduling else s.clock[NOW]
    _emit_decoded(s, r, lim)
    _emit_fresh(s, r, lim)
    s.tally[STEP] += 1
    return 1


@entry
def advance(s: State, r: Requests, lim: EngineLimits, costs: AdapterCosts, cost: StepCost, log: StepSeries) -> int:
    """Run until the window ends, nothing is left to do, or the log is full; the number of steps taken.

    Parameters
    ----------
    log
        Columns of any one length, filled from the start: one row for each step taken.
    """
    c, n, steps = s.tally, r.arrival_s.shape[0], 0
    while steps < log.start_s.shape[0] and s.clock[NOW] < lim.window_s:
        _drain_arrivals(s, r, lim)
        if c[WAITING] == 0 and c[RUNNING] == 0:
            if c[ARRIVED] == n or r.arrival_s[c[ARRIVED]] >= lim.window_s:
                return steps
            s.clock[NOW] = s.clock[SEEN] = r.arrival_s[c[ARRIVED]]
            continue
        steps += _step(s, r, lim, costs, cost, log, steps)
    return steps
