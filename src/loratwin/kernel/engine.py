"""One engine step as vLLM 0.8.5 takes it (engine.md 1.2), and the loop around it.

drain arrivals -> schedule the running -> admit the waiting -> load adapters -> let the step's time pass -> emit tokens.

With asynchronous scheduling (later versions, engine.md 1.6) a step is scheduled when the step before it starts: what
arrives or finishes during that one is not seen. So arrivals are drained up to the start of the step before
(`clock[SEEN]`), and who makes a last token keeps seat and blocks ("leaving") until the next step is scheduled.
`advance` resumes where it stopped, so the same kernel can be stepped under a wall clock.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from loratwin.kernel.coming import comes_before, leave_coming
from loratwin.kernel.cost import dense_time_s, total_time_s
from loratwin.kernel.emit import emit_decoded, emit_fresh, follow
from loratwin.kernel.jit import entry, jit
from loratwin.kernel.queue import push_back
from loratwin.kernel.residency import DISK_LOADS, SWAP_INS, apply_adapters
from loratwin.kernel.schedule import schedule
from loratwin.kernel.state import (
    ARRIVE,
    ARRIVED,
    DECODING,
    DISK_LOAD,
    DISTINCT,
    FREE_BLOCKS,
    LORA_DECODING,
    LORA_PREFILL_TOKENS,
    NEXT_OWN,
    NOW,
    NUM_COMING,
    OFFSET_SUM,
    PREFILL_CONTEXT,
    PREFILL_TOKENS,
    REFUSE,
    RUNNING,
    SEEN,
    SKIPPED,
    STEP,
    SWAP_IN,
    WAITING,
    State,
    fifo_of,
    note,
)
from loratwin.kernel.types import AdapterCosts, EngineLimits, Requests, StepCost, StepFeatures, StepTrace


@jit
def _next_arrival(s: State, r: Requests) -> int:
    """The request that arrives next, of those whose arrival is known; -1: there is none."""
    if s.follower.shape[0] > 0:
        return _next_of_both(s, r)
    return s.tally[ARRIVED] if s.tally[ARRIVED] < s.arrival_s.shape[0] else -1


@jit
def _next_of_both(s: State, r: Requests) -> int:
    """The same where some follow others."""
    c, n = s.tally, s.arrival_s.shape[0]
    own = c[NEXT_OWN]
    while own < n and r.follows[own] >= 0:
        own += 1
    c[NEXT_OWN] = own
    if c[NUM_COMING] > 0 and (own == n or comes_before(s, s.coming[0], own)):
        return s.coming[0]
    return own if own < n else -1


@jit
def _drain_arrivals(s: State, r: Requests, lim: EngineLimits) -> None:
    """Everything that arrived and is seen by now joins the queue, or is refused when too many are in flight."""
    c, now = s.tally, s.clock[SEEN]
    while True:
        request = _next_arrival(s, r)
        if request < 0 or s.arrival_s[request] > now:
            return
        c[ARRIVED] += 1
        if s.follower.shape[0] > 0:
            if r.follows[request] >= 0:
                leave_coming(s)
            else:
                c[NEXT_OWN] += 1
        if lim.max_in_flight > 0 and c[WAITING] + c[RUNNING] >= lim.max_in_flight:
            s.refused[request] = True
            note(s, REFUSE, request)
            follow(s, r, lim, request, s.arrival_s[request])
            continue
        push_back(s.queue, request, c[ARRIVED] - 1, fifo_of(s, r, request))
        c[WAITING] += 1
        note(s, ARRIVE, request)


@jit
def _load_adapters(s: State, lim: EngineLimits, costs: AdapterCosts) -> float:
    """Bring the batch's adapters into the slots; the seconds that the step waits for them."""
    time = apply_adapters(s.residency, s.queue.running, lim, costs, s.loads)
    for i in range(s.loads[-1]):
        load = s.loads[i]
        note(s, SWAP_IN if load >= 0 else DISK_LOAD, load if load >= 0 else -1 - load)
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
def _log_step(log: StepTrace, step: int, s: State, f: StepFeatures, num_blocks: int, duration_s: float) -> None:
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
    s: State, r: Requests, lim: EngineLimits, costs: AdapterCosts, cost: StepCost, log: StepTrace, step: int
) -> int:
    """One step of the engine; 1, or 0 when all that run are leaving and nothing else could be scheduled."""
    schedule(s, r, lim)
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
    emit_decoded(s, r, lim)
    emit_fresh(s, r, lim)
    s.tally[STEP] += 1
    return 1


@jit
def run_until(
    s: State, r: Requests, lim: EngineLimits, costs: AdapterCosts, cost: StepCost, log: StepTrace, until_s: float
) -> int:
    """Take every step that starts before `until_s`, until nothing is left to do or the log is full; how many.

    Nothing that arrives at `until_s` or later is looked at: it need not be known yet. So the pieces of a run add up to
    the whole, byte by byte, and whoever sends requests may decide on each when it comes.
    """
    c, steps = s.tally, 0
    while steps < log.start_s.shape[0] and s.clock[NOW] < until_s:
        _drain_arrivals(s, r, lim)
        if c[WAITING] == 0 and c[RUNNING] == 0:
            request = _next_arrival(s, r)
            if request < 0 or s.arrival_s[request] >= until_s:
                return steps
            s.clock[NOW] = s.clock[SEEN] = s.arrival_s[request]
            continue
        steps += _step(s, r, lim, costs, cost, log, steps)
    return steps


@entry
def advance(s: State, r: Requests, lim: EngineLimits, costs: AdapterCosts, cost: StepCost, log: StepTrace) -> int:
    """Run until the window ends, nothing is left to do, or the log is full; the number of steps taken.

    Parameters
    ----------
    log
        Columns of any one length, filled from the start: one row for each step taken.
    """
    return run_until(s, r, lim, costs, cost, log, lim.window_s)


def is_compiled() -> bool:
    """True when an earlier run left this kernel compiled in the cache, which other copies of its files share."""
    folder = getattr(getattr(advance, "stats", None), "cache_path", None)
    return folder is not None and any(Path(folder).glob("engine.advance-*.nbi"))
