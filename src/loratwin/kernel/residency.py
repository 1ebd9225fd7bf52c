"""Which adapters are in the slots and in host memory: vLLM's two LRU caches, touched once a step (engine.md 2.3).

Every step touches the adapters of its batch in ascending order, so the recency order of a tier is always: the adapters
that left the batch, in the order they left, then the members of the last batch in ascending order. Only the first part
(the idle ones) is kept as a linked list; a step whose batch brings no new adapter costs nothing. A step that must load
replays the touches literally, because vLLM evicts the least recently *touched* adapter, which can be one of this very
step that has not had its turn; it is then loaded again when its turn comes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import I4, I8, AdapterCosts, EngineLimits

Bools = np.ndarray


class Residency(NamedTuple):
    """State of both tiers. Linked lists use the index num_adapters as their sentinel."""

    slot_next: I4  # (adapters + 1,) recency list of the slots, oldest first
    slot_prev: I4
    host_next: I4  # the same for host memory
    host_prev: I4
    in_slot: I4  # (adapters,) 0 or 1
    in_host: I4
    in_batch: I4  # (adapters,) member of the last step's batch
    changed: I4  # (2 * adapters,) adapters whose number of running requests left or reached 0 since the last step
    count: I8  # see the constants below


SLOTS_USED, HOST_USED, NUM_CHANGED, SWAP_INS, DISK_LOADS = range(5)


def new_residency(num_adapters: int, max_loras: int, max_cpu_loras: int) -> Residency:
    """As after start-up, when every adapter was registered and activated in turn: the last ones are still there."""
    size = num_adapters + 1
    links = [np.full(size, -1, np.int32) for _ in range(4)]
    res = Residency(
        *links,
        in_slot=np.zeros(num_adapters, np.int32),
        in_host=np.zeros(num_adapters, np.int32),
        in_batch=np.zeros(num_adapters, np.int32),
        changed=np.zeros(2 * num_adapters + 2, np.int32),
        count=np.zeros(5, np.int64),
    )
    _fill(res.host_next, res.host_prev, res.in_host, max_cpu_loras)
    _fill(res.slot_next, res.slot_prev, res.in_slot, max_loras)
    res.count[HOST_USED], res.count[SLOTS_USED] = res.in_host.sum(), res.in_slot.sum()
    return res


def _fill(nxt: I4, prev: I4, member: I4, capacity: int) -> None:
    """Link the last `capacity` adapters, oldest first."""
    end = len(member)
    chain = [end, *range(max(0, end - capacity), end), end]
    nxt[chain[:-1]] = chain[1:]
    prev[chain[1:]] = chain[:-1]
    member[chain[1:-1]] = 1


@jit
def _append(nxt: I4, prev: I4, item: int) -> None:
    end = nxt.shape[0] - 1
    last = prev[end]
    nxt[last], prev[item] = item, last
    nxt[item], prev[end] = end, item


@jit
def _remove(nxt: I4, prev: I4, item: int) -> None:
    nxt[prev[item]] = nxt[item]
    prev[nxt[item]] = prev[item]
    nxt[item] = -1


@jit
def note_change(res: Residency, adapter: int) -> None:
    """An adapter got its first running request or lost its last."""
    if adapter < res.in_batch.shape[0]:
        if res.count[NUM_CHANGED] == res.changed.shape[0]:
            _drop_repeats(res)
        res.changed[res.count[NUM_CHANGED]] = adapter
        res.count[NUM_CHANGED] += 1


@jit
def _drop_repeats(res: Residency) -> None:
    """Sort the changed adapters (few, nearly always) by insertion and keep each once."""
    kept = 0
    for i in range(res.count[NUM_CHANGED]):
        adapter, place = res.changed[i], kept
        while place > 0 and res.changed[place - 1] > adapter:
            place -= 1
        if place > 0 and res.changed[place - 1] == adapter:
            continue
        for j in range(kept, place, -1):
            res.changed[j] = res.changed[j - 1]
        res.changed[place] = adapter
        kept += 1
    res.count[NUM_CHANGED] = kept


@jit
def _evict_from_slot(res: Residency, adapter: int) -> None:
    _remove(res.slot_next, res.slot_prev, adapter)
    res.in_slot[adapter] = 0
    res.count[SLOTS_USED] -= 1


@jit
def _ensure_in_host(res: Residency, adapter: int, max_cpu_loras: int) -> bool:
    """Register from disk what is not in host memory; True when it had to be read."""
    missing = res.in_host[adapter] == 0
    if missing:
        if res.count[HOST_USED] >= max_cpu_loras:
            oldest = res.host_next[res.in_slot.shape[0]]
            _remove(res.host_next, res.host_prev, oldest)
            res.in_host[oldest] = 0
            res.count[HOST_USED] -= 1
            if res.in_slot[oldest]:
                _evict_from_slot(res, oldest)
        res.in_host[adapter] = 1
        res.count[HOST_USED] += 1
    else:
        _remove(res.host_next, res.host_prev, adapter)
    _append(res.host_next, res.host_prev, adapter)
    return missing


@jit
def _ensure_in_slot(res: Residency, adapter: int, max_loras: int) -> bool:
    """Activate what is not in a slot; True when it had to be copied."""
    missing = res.in_slot[adapter] == 0
    if missing:
        if res.count[SLOTS_USED] >= max_loras:
            _evict_from_slot(res, res.slot_next[res.in_slot.shape[0]])
        res.in_slot[adapter] = 1
        res.count[SLOTS_USED] += 1
    else:
        _remove(res.slot_next, res.slot_prev, adapter)
    _append(res.slot_next, res.slot_prev, adapter)
    return missing


@jit
def _make_idle(res: Residency, adapter: int) -> None:
    if res.in_host[adapter]:
        _append(res.host_next, res.host_prev, adapter)
    if res.in_slot[adapter]:
        _append(res.slot_next, res.slot_prev, adapter)


@jit
def _make_busy(res: Residency, adapter: int) -> None:
    if res.in_host[adapter]:
        _remove(res.host_next, res.host_prev, adapter)
    if res.in_slot[adapter]:
        _remove(res.slot_next, res.slot_prev, adapter)


@jit
def apply_adapters(res: Residency, running: I4, limits: EngineLimits, costs: AdapterCosts, loads: I4) -> float:
    """Bring the adapters of this step's batch into the slots; seconds that it takes.

    `running` counts the running requests by adapter; `loads` receives what was loaded, in order, as adapter (swap-in) or
    -1 - adapter (read from disk), the number of entries at its end.
    """
    loads[-1] = 0
    res.count[SWAP_INS] = 0
    res.count[DISK_LOADS] = 0
    if res.count[NUM_CHANGED] == 0:
        return 0.0
    _drop_repeats(res)
    must_load = False
    for i in range(res.count[NUM_CHANGED]):
        adapter = res.changed[i]
        must_load |= running[adapter] > 0 and res.in_slot[adapter] == 0
    time = _replay(res, running, limits, costs, loads) if must_load else _shift(res, running)
    res.count[NUM_CHANGED] = 0
    return time


@jit
def _shift(res: Residency, running: I4) -> float:
    """Nothing to load: those that left the batch become idle, those that came are idle no more."""
    for i in range(res.count[NUM_CHANGED]):
        adapter = res.changed[i]
        if res.in_batch[adapter] and running[adapter] == 0:
            res.in_batch[adapter] = 0
            _make_idle(res, adapter)
        elif not res.in_batch[adapter] and running[adapter] > 0:
            res.in_batch[adapter] = 1
            _make_busy(res, adapter)
    return 0.0


@jit
def _replay(res: Residency, running: I4, limits: EngineLimits, costs: AdapterCosts, loads: I4) -> float:
    """Touch every adapter of the batch in turn, as LRUCacheWorkerLoRAManager does."""
    num_adapters = res.in_batch.shape[0]
    for adapter in range(num_adapters):
        if res.in_batch[adapter]:
            _make_idle(res, adapter)
    time = 0.0
    for adapter in range(num_adapters):
        if running[adapter] > 0:
            if _ensure_in_host(res, adapter, limits.max_cpu_loras):
                time += costs.disk_load_s[adapter]
                _note_load(res, loads, -1 - adapter, DISK_LOADS)
            if _ensure_in_slot(res, adapter, limits.max_loras):
                time += costs.swap_in_s[adapter]
                _note_load(res, loads, adapter, SWAP_INS)
    for adapter in range(num_adapters):
        res.in_batch[adapter] = 1 if running[adapter] > 0 else 0
        if running[adapter] > 0:
            _make_busy(res, adapter)
    return time


@jit
def _note_load(res: Residency, loads: I4, entry: int, counter: int) -> None:
    loads[loads[-1]] = entry
    loads[-1] += 1
    res.count[counter] += 1
