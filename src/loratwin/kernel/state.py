"""Everything that changes while the engine runs, and the counters and events in it."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.blocks import BlockPool, new_pool
from loratwin.kernel.jit import jit
from loratwin.kernel.queue import Queue, new_queue
from loratwin.kernel.residency import Residency, new_residency
from loratwin.kernel.seats import Seats, new_seats
from loratwin.kernel.types import F8, I4, I8, EngineLimits, Requests

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
    NUM_DUE,  # requests whose arrival is known: all, or in a closed loop as many as were answered, and the first
    NEXT_OWN,  # where some follow others: the next request that may come at a time of its own
    NUM_COMING,  # entries of State.coming
    PREFIX_QUERIES,  # tokens looked up in the prefix cache, as the server counts
    PREFIX_HITS,  # tokens found there
) = range(23)

NOW, SEEN = range(2)  # State.clock: the time; up to when arrivals count in the step to be scheduled


class State(NamedTuple):
    """Everything that changes while the engine runs."""

    queue: Queue
    seats: Seats
    residency: Residency
    pool: BlockPool
    tally: I8  # the counters above
    clock: F8  # (2,) seconds, see above
    dense_s: F8  # (max_num_batched_tokens + 1,) time of the dense layers by tokens, NaN until it is needed
    fresh: I4  # (max_num_seqs + 1,) seats that finish their prompt in this step, in admission order
    leaving: I4  # (max_num_seqs + 1,) seats whose last token came with the last step
    loads: I4  # what this step loads, see `apply_adapters`
    arrival_s: F8  # (requests,) infinite while nobody knows: the request that it follows has not ended
    follower: I4  # (requests,) who arrives when it has ended, -1: nobody; empty: nobody follows anybody
    coming: I4  # (followers + 1,) those whose arrival is known and not yet there, as a heap: the next one first
    generated: I4  # (requests,) tokens emitted before the last preemption
    admitted_s: F8
    first_token_s: F8
    finish_s: F8
    num_preemptions: I4
    refused: np.ndarray
    events: I8  # (capacity, 3) kind, request or adapter, step; counted on when full


def new_state(
    requests: Requests, limits: EngineLimits, num_adapters: int, event_capacity: int, with_pool: bool
) -> State:
    """An idle engine at time 0; `with_pool`: see `has_pool`."""
    n = len(requests.arrival_s)
    num_due = min(n, limits.loop.in_flight) if limits.loop.in_flight else n
    tally = np.zeros(23, np.int64)
    tally[FREE_BLOCKS], tally[PARTIAL], tally[NUM_DUE] = limits.num_blocks, -1, num_due
    longest = int(requests.output_tokens.max()) if n else 1
    return State(
        queue=new_queue(n, num_adapters, some_follow=len(requests.follows) > 0),
        seats=new_seats(limits.max_num_seqs, limits.block_size, longest),
        residency=new_residency(num_adapters, limits.max_loras, limits.max_cpu_loras),
        pool=new_pool(requests, limits, with_pool),
        tally=tally,
        clock=np.zeros(2),
        dense_s=np.full(limits.max_num_batched_tokens + 1, np.nan),
        fresh=np.zeros(limits.max_num_seqs + 1, np.int32),
        leaving=np.zeros(limits.max_num_seqs + 1, np.int32),
        loads=np.zeros(2 * num_adapters + 1, np.int32),
        arrival_s=_arrivals(requests, limits.loop.in_flight),
        follower=_followers(requests.follows),
        coming=np.zeros(len(requests.follows), np.int32),
        generated=np.zeros(n, np.int32),
        admitted_s=np.full(n, np.nan),
        first_token_s=np.full(n, np.nan),
        finish_s=np.full(n, np.nan),
        num_preemptions=np.zeros(n, np.int32),
        refused=np.zeros(n, np.bool_),
        events=np.zeros((event_capacity, 3), np.int64),
    )


def _arrivals(requests: Requests, in_flight: int) -> F8:
    """Those that are known at time 0. Shape (requests,)."""
    if in_flight == 0:
        arrival_s = requests.arrival_s.copy()
        arrival_s[np.flatnonzero(requests.follows >= 0)] = np.inf
        return arrival_s
    arrival_s = np.full(len(requests.arrival_s), np.inf)
    arrival_s[:in_flight] = 0.0
    return arrival_s


def _followers(follows: I4) -> I4:
    """Who follows each request, -1: nobody. Shape (requests,), or empty."""
    follower = np.full(len(follows), -1, np.int32)
    later = np.flatnonzero(follows >= 0)
    follower[follows[later]] = later
    return follower


@jit
def has_pool(s: State) -> bool:
    """Whether blocks are known one by one, as a prefix cache needs them, or only counted."""
    return s.pool.due_head.shape[0] > 0


@jit
def note(s: State, kind: int, item: int) -> None:
    i = s.tally[NUM_EVENTS]
    if i < s.events.shape[0]:
        s.events[i, 0], s.events[i, 1], s.events[i, 2] = kind, item, s.tally[STEP]
    s.tally[NUM_EVENTS] = i + 1


@jit
def fifo_of(s: State, r: Requests, request: int) -> int:
    """Index of the FIFO of a request: its adapter, or the place behind all adapters."""
    adapter = r.adapter[request]
    return adapter if adapter >= 0 else s.queue.head.shape[0] - 1


@jit
def blocks_of(tokens: int, block_size: int) -> int:
    return (tokens + block_size - 1) // block_size
