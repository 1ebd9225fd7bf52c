"""The waiting queue: one FIFO per adapter, and who is next among those that may run.

vLLM keeps one deque and walks it, skipping requests whose adapter has no place. The same order comes out of one FIFO
for each adapter if the heads can be compared: two tournament trees hold the position of every FIFO's head, one for the
adapters in the batch, one for the others. The next request is the smaller root, or the root of the first tree alone
when no further adapter may join. Every operation costs log2(adapters), whatever the length of the queue.

Positions: a fresh request's is how many arrived before it (its number, unless some follow others); a preempted one goes
to the front of the queue, so it gets the next number below all others. How many requests stand before a position (those
that the walk would have skipped) is summed over three levels of counters: single positions, 128 and 128 x 128 of them.

Some versions of vLLM keep requests that were passed over in a queue of their own, which comes first (engine.md 1.3).
They are always the first ones of the order, so they get positions below all others, in order (`keep_skipped`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import I1, I4, I8

EMPTY = np.int64(2**62)
SHIFT = 7
"""log2 of 128."""


class Queue(NamedTuple):
    """FIFOs by adapter; the index num_adapters stands for requests without adapter, which may always join."""

    head: I4  # (adapters + 1,) first request, -1: none
    tail: I4  # (adapters + 1,)
    next: I4  # (requests,) the one behind; this and the position are set by whoever joins
    position: I4  # (requests,)
    joined: I8  # tournament tree over the adapters in the batch, leaves at [size, 2 size)
    others: I8  # and over the rest
    running: I4  # (adapters + 1,) running requests of the adapter
    front: I8  # see the constants below
    last_skipped: I4  # (adapters + 1,) the last of the FIFO that is in the queue of skipped requests, -1: none
    came: I4  # (requests,) the fresh request of a position; empty: it is the request of this number
    fresh: I1  # (requests,) 1: a fresh request waits at this position
    fresh_by_128: I4
    fresh_by_16384: I4


LAST, PREEMPTED, SKIPPED, NEXT_SKIPPED, FRESH_FROM = range(5)
"""Queue.front: last position given to a preempted request; how many preempted ones wait, not in the queue of skipped;
how many are in that; the next position in it; the first fresh request that can be outside of it."""

FIRST_SKIPPED = -(2**30)
"""Position of the first request in the queue of skipped ones; those of preempted requests are above."""


def new_queue(num_requests: int, num_adapters: int, some_follow: bool) -> Queue:
    """An empty queue; `some_follow`: requests may arrive in another order than that of their numbers."""
    size = 1 << int(num_adapters).bit_length()
    return Queue(
        head=np.full(num_adapters + 1, -1, np.int32),
        tail=np.full(num_adapters + 1, -1, np.int32),
        next=np.empty(num_requests, np.int32),
        position=np.empty(num_requests, np.int32),
        joined=np.full(2 * size, EMPTY),
        others=np.full(2 * size, EMPTY),
        running=np.zeros(num_adapters + 1, np.int32),
        front=np.array([0, 0, 0, FIRST_SKIPPED, 0]),
        last_skipped=np.full(num_adapters + 1, -1, np.int32),
        came=np.empty(num_requests if some_follow else 0, np.int32),
        fresh=np.zeros(num_requests, np.int8),
        fresh_by_128=np.zeros((num_requests >> SHIFT) + 1, np.int32),
        fresh_by_16384=np.zeros((num_requests >> 2 * SHIFT) + 1, np.int32),
    )


@jit
def _set_leaf(tree: I8, leaf: int, key: int) -> None:
    node = leaf + tree.shape[0] // 2
    tree[node] = key
    while node > 1:
        node >>= 1
        least = min(tree[2 * node], tree[2 * node + 1])
        if tree[node] == least:
            return
        tree[node] = least


@jit
def refresh(q: Queue, adapter: int) -> None:
    """Put the head of an adapter's FIFO where it now belongs."""
    head = q.head[adapter]
    key = EMPTY if head < 0 else np.int64(q.position[head])
    if q.running[adapter] > 0 or adapter == q.running.shape[0] - 1:
        _set_leaf(q.joined, adapter, key)
    else:
        _set_leaf(q.others, adapter, key)


@jit
def move_tree(q: Queue, adapter: int) -> None:
    """The adapter joined or left the batch: its head changes trees."""
    if adapter < q.running.shape[0] - 1:
        _set_leaf(q.others if q.running[adapter] > 0 else q.joined, adapter, EMPTY)
        refresh(q, adapter)


@jit
def _count(q: Queue, position: int, change: int) -> None:
    q.fresh[position] += change
    q.fresh_by_128[position >> SHIFT] += change
    q.fresh_by_16384[position >> 2 * SHIFT] += change


@jit
def num_before(q: Queue, position: int) -> int:
    """How many requests wait at smaller positions."""
    if position < 0:
        return _num_first_before(q, position)
    hundreds, thousands = position >> SHIFT, position >> 2 * SHIFT
    total = q.front[PREEMPTED] + q.front[SKIPPED]
    for i in range(thousands):
        total += q.fresh_by_16384[i]
    for i in range(thousands << SHIFT, hundreds):
        total += q.fresh_by_128[i]
    for i in range(hundreds << SHIFT, position):
        total += q.fresh[i]
    return total


@jit
def _num_first_before(q: Queue, position: int) -> int:
    """The same among skipped and preempted requests: each is at the head of its FIFO or behind others like it."""
    total = 0
    for fifo in range(q.head.shape[0]):
        request = q.head[fifo]
        while request >= 0 and q.position[request] < position:
            total += 1
            request = q.next[request]
    return total


@jit
def push_back(q: Queue, request: int, position: int, adapter: int) -> None:
    """A fresh request joins the end of the queue; `position`: how many arrived before it."""
    _count(q, position, 1)
    q.position[request] = position
    if q.came.shape[0] > 0:
        q.came[position] = request
    q.next[request] = -1
    if q.head[adapter] < 0:
        q.head[adapter] = request
        q.tail[adapter] = request
        refresh(q, adapter)
    else:
        q.next[q.tail[adapter]] = request
        q.tail[adapter] = request


@jit
def push_front(q: Queue, request: int, adapter: int) -> None:
    """A preempted request goes to the front of the whole queue, but for those that the queue of skipped ones holds."""
    q.front[LAST] -= 1
    q.front[PREEMPTED] += 1
    q.position[request] = q.front[LAST]
    last = q.last_skipped[adapter]
    if last >= 0:
        q.next[request] = q.next[last]
        q.next[last] = request
        if q.tail[adapter] == last:
            q.tail[adapter] = request
        return
    q.next[request] = q.head[adapter]
    if q.head[adapter] < 0:
        q.tail[adapter] = request
    q.head[adapter] = request
    refresh(q, adapter)


@jit
def pop(q: Queue, adapter: int) -> None:
    """Remove the head of an adapter's FIFO."""
    request = q.head[adapter]
    if request == q.last_skipped[adapter]:
        q.last_skipped[adapter] = -1
    if q.position[request] < FIRST_SKIPPED // 2:
        q.front[SKIPPED] -= 1
    elif q.position[request] < 0:
        q.front[PREEMPTED] -= 1
    else:
        _count(q, np.int64(q.position[request]), -1)
    q.head[adapter] = q.next[request]
    refresh(q, adapter)


@jit
def _keep(q: Queue, request: int, adapter: int) -> None:
    """Move the first request of the order outside of the queue of skipped ones to its end."""
    if q.position[request] < 0:
        q.front[PREEMPTED] -= 1
    else:
        _count(q, q.position[request], -1)
    q.position[request] = q.front[NEXT_SKIPPED]
    q.front[NEXT_SKIPPED] += 1
    q.front[SKIPPED] += 1
    q.last_skipped[adapter] = request
    if q.head[adapter] == request:
        refresh(q, adapter)


@jit
def _next_preempted(q: Queue) -> int:
    """The FIFO of the first preempted request outside of the queue of skipped ones."""
    found, least = 0, 0
    for adapter in range(q.head.shape[0]):
        last = q.last_skipped[adapter]
        request = q.head[adapter] if last < 0 else q.next[last]
        if request >= 0 and q.position[request] < least:
            found, least = adapter, q.position[request]
    return found


@jit
def keep_skipped(q: Queue, adapter_of: I4, seen: int, num_arrived: int) -> None:
    """All that wait at positions before `seen` were passed over: they are in the queue of skipped ones from now on."""
    while q.front[PREEMPTED] > 0:
        adapter = _next_preempted(q)
        last = q.last_skipped[adapter]
        request = q.head[adapter] if last < 0 else q.next[last]
        if q.position[request] >= seen:
            return
        _keep(q, request, adapter)
    end = min(seen, num_arrived)
    for position in range(q.front[FRESH_FROM], end):
        if q.fresh[position]:
            request = np.int64(q.came[position]) if q.came.shape[0] > 0 else position
            adapter = np.int64(adapter_of[request])
            _keep(q, request, adapter if adapter >= 0 else q.head.shape[0] - 1)
    q.front[FRESH_FROM] = max(q.front[FRESH_FROM], end)


@jit
def next_adapter(q: Queue, may_join: bool) -> int:
    """Whose head is next: an adapter's index; -1: nobody may run. `may_join`: an adapter may enter the batch."""
    tree = q.joined
    if may_join and q.others[1] < q.joined[1]:
        tree = q.others
    if tree[1] == EMPTY:
        return -1
    node, size = 1, tree.shape[0] // 2
    while node < size:
        node = 2 * node + np.int64(tree[2 * node] != tree[1])  # as a sum: a branch would be guessed wrong half the time
    return node - size
