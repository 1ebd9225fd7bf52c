"""Which adapters are in the slots and in host memory: vLLM's two LRU caches, touched once a step (engine.md 2.3).

Every step touches the adapters of its batch in ascending order, so the recency order of a tier is always: the adapters
that left the batch, in the order they left, then the members of the last batch in ascending order. Only the first part
(the idle ones) is kept as a linked list.

vLLM evicts the least recently *touched* adapter, which can be a member of this very step whose turn has not come: it is
then loaded again at its turn, and may push out the next. So a step is a walk over turns in which only two kinds of
adapters need one: newcomers, and members pushed out before their turn. The others are touched in silence. A step costs
what changes and what is loaded, not what is in the batch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import I4, I8, AdapterCosts, EngineLimits

NOBODY = 2**31 - 1
"""Behind every adapter."""


class Tier(NamedTuple):
    """What one tier holds, and the idle ones among it, oldest first, linked by index with sentinel num_adapters."""

    next: I4  # (adapters + 1,) -1: not in the list
    prev: I4  # (adapters + 1,)
    holds: I4  # (adapters,) 0 or 1
    place: I8  # see the constants below


USED, LEAVER, STAYER = range(3)  # Tier.place: how many it holds; how far the search for the oldest came in this step


class Residency(NamedTuple):
    """State of both tiers. Slots hold nothing that host memory does not."""

    slots: Tier
    host: Tier
    member: I4  # (adapters,) 1: in the last step's batch
    changed: I4  # (2 * adapters + 2,) adapters whose number of running requests left or reached 0 since the last step
    tally: I8  # see the constants below


NUM_CHANGED, SWAP_INS, DISK_LOADS = range(3)  # Residency.tally


def new_residency(num_adapters: int, max_loras: int, max_cpu_loras: int) -> Residency:
    """As after start-up, when every adapter was registered and activated in turn: the last ones are still there."""
    return Residency(
        slots=_new_tier(num_adapters, max_loras),
        host=_new_tier(num_adapters, max_cpu_loras),
        member=np.zeros(num_adapters, np.int32),
        changed=np.zeros(2 * num_adapters + 2, np.int32),
        tally=np.zeros(3, np.int64),
    )


def _new_tier(num_adapters: int, capacity: int) -> Tier:
    """Holds the last adapters, all idle."""
    first = max(0, num_adapters - capacity)
    chain = np.array([num_adapters, *range(first, num_adapters), num_adapters])
    links = np.full((2, num_adapters + 1), -1, np.int32)
    links[0, chain[:-1]] = chain[1:]
    links[1, chain[1:]] = chain[:-1]
    holds = (np.arange(num_adapters) >= first).astype(np.int32)
    return Tier(links[0], links[1], holds, place=np.array([holds.sum(), 0, 0]))


@jit
def _append(tier: Tier, adapter: int) -> None:
    """The latest to become idle."""
    end = tier.next.shape[0] - 1
    last = tier.prev[end]
    tier.next[last], tier.prev[adapter] = adapter, last
    tier.next[adapter], tier.prev[end] = end, adapter


@jit
def _unlink(tier: Tier, adapter: int) -> None:
    """Idle no more, if it was."""
    if tier.next[adapter] >= 0:
        tier.next[tier.prev[adapter]] = tier.next[adapter]
        tier.prev[tier.next[adapter]] = tier.prev[adapter]
        tier.next[adapter] = -1


@jit
def note_change(res: Residency, adapter: int) -> None:
    """An adapter got its first running request or lost its last."""
    if res.tally[NUM_CHANGED] == res.changed.shape[0]:
        _drop_repeats(res)
    res.changed[res.tally[NUM_CHANGED]] = adapter
    res.tally[NUM_CHANGED] += 1


@jit
def _drop_repeats(res: Residency) -> None:
    """Sort the changed adapters (few, nearly always) by insertion and keep each once."""
    kept = 0
    for i in range(res.tally[NUM_CHANGED]):
        adapter, place = res.changed[i], kept
        while place > 0 and res.changed[place - 1] > adapter:
            place -= 1
        if place > 0 and res.changed[place - 1] == adapter:
            continue
        for j in range(kept, place, -1):
            res.changed[j] = res.changed[j - 1]
        res.changed[place] = adapter
        kept += 1
    res.tally[NUM_CHANGED] = kept


@jit
def _next_newcomer(res: Residency, running: I4, turn: int) -> int:
    """The first adapter behind `turn` that was not in the last batch and is in this one."""
    for i in range(res.tally[NUM_CHANGED]):
        adapter = np.int64(res.changed[i])
        if adapter > turn and running[adapter] > 0 and not res.member[adapter]:
            return adapter
    return NOBODY


@jit
def _next_stayer(res: Residency, running: I4, adapter: int) -> int:
    """The first adapter from `adapter` on that was in the last batch and is in this one."""
    while adapter < res.member.shape[0]:
        if res.member[adapter] and running[adapter] > 0:
            return adapter
        adapter += 1
    return NOBODY


@jit
def _oldest_member(res: Residency, tier: Tier, running: I4, turn: int) -> int:
    """Of the last batch's members in this tier, the first not touched yet: it left, or its turn is still to come."""
    leaver, i = np.int64(NOBODY), tier.place[LEAVER]
    while i < res.tally[NUM_CHANGED] and leaver == NOBODY:
        adapter = res.changed[i]
        if res.member[adapter] and running[adapter] == 0 and tier.holds[adapter]:
            leaver = np.int64(adapter)
        else:
            i += 1
    tier.place[LEAVER] = i
    stayer = _next_stayer(res, running, max(tier.place[STAYER], turn + 1))
    while stayer != NOBODY and not tier.holds[stayer]:
        stayer = _next_stayer(res, running, stayer + 1)
    tier.place[STAYER] = stayer
    return min(leaver, stayer)


@jit
def _drop(tier: Tier, adapter: int) -> None:
    if tier.holds[adapter]:
        _unlink(tier, adapter)
        tier.holds[adapter] = 0
        tier.place[USED] -= 1


@jit
def _make_room(res: Residency, tier: Tier, running: I4, turn: int, capacity: int) -> int:
    """Evict the least recently touched adapter when the tier is full; which one, or `NOBODY`."""
    if tier.place[USED] < capacity:
        return NOBODY
    oldest = np.int64(tier.next[tier.next.shape[0] - 1])
    if oldest == tier.next.shape[0] - 1:
        oldest = _oldest_member(res, tier, running, turn)
    _drop(tier, oldest)
    return oldest


@jit
def _touch_in_host(res: Residency, running: I4, adapter: int, max_cpu_loras: int) -> bool:
    """Register from disk what is not in host memory; True when it had to be read."""
    if res.host.holds[adapter]:
        _unlink(res.host, adapter)
        return False
    evicted = _make_room(res, res.host, running, adapter, max_cpu_loras)
    if evicted != NOBODY:
        _drop(res.slots, evicted)
    res.host.holds[adapter] = 1
    res.host.place[USED] += 1
    return True


@jit
def _touch_in_slot(res: Residency, running: I4, adapter: int, max_loras: int) -> bool:
    """Activate what is not in a slot; True when it had to be copied."""
    if res.slots.holds[adapter]:
        _unlink(res.slots, adapter)
        return False
    _make_room(res, res.slots, running, adapter, max_loras)
    res.slots.holds[adapter] = 1
    res.slots.place[USED] += 1
    return True


@jit
def _next_turn(res: Residency, running: I4, turn: int) -> int:
    """The next adapter that needs its turn: a newcomer, or a member that was pushed out.

    Members are pushed out in order, so if the next one is in its slot, all behind it are too.
    """
    newcomer = _next_newcomer(res, running, turn)
    if res.slots.place[STAYER] < 0 and res.host.place[STAYER] < 0:  # nobody was pushed out
        return newcomer
    stayer = _next_stayer(res, running, turn + 1)
    return newcomer if stayer == NOBODY or res.slots.holds[stayer] else min(newcomer, stayer)


@jit
def _note_load(res: Residency, loads: I4, entry: int, kind: int) -> None:
    loads[loads[-1]] = entry
    loads[-1] += 1
    res.tally[kind] += 1


@jit
def _take_turns(res: Residency, running: I4, limits: EngineLimits, costs: AdapterCosts, loads: I4) -> float:
    """Touch the adapters of the batch in ascending order, as LRUCacheWorkerLoRAManager does; seconds of loading."""
    for tier in (res.slots, res.host):
        tier.place[LEAVER], tier.place[STAYER] = 0, -1
    time = 0.0
    adapter = _next_turn(res, running, -1)
    while adapter != NOBODY:
        if _touch_in_host(res, running, adapter, limits.max_cpu_loras):
            time += costs.disk_load_s[adapter]
            _note_load(res, loads, -1 - adapter, DISK_LOADS)
        if _touch_in_slot(res, running, adapter, limits.max_loras):
            time += costs.swap_in_s[adapter]
            _note_load(res, loads, adapter, SWAP_INS)
        adapter = _next_turn(res, running, adapter)
    return time


@jit
def _settle(res: Residency, running: I4) -> None:
    """The batch becomes the last one; who left it is idle wherever it still is."""
    for i in range(res.tally[NUM_CHANGED]):
        adapter = res.changed[i]
        if res.member[adapter] and running[adapter] == 0:
            for tier in (res.host, res.slots):
                if tier.holds[adapter]:
                    _append(tier, adapter)
        res.member[adapter] = 1 if running[adapter] > 0 else 0
    res.tally[NUM_CHANGED] = 0


@jit
def apply_adapters(res: Residency, running: I4, limits: EngineLimits, costs: AdapterCosts, loads: I4) -> float:
    """Bring the adapters of this step's batch into the slots; seconds that it takes.

    `running` counts the running requests by adapter; `loads` receives what was loaded, in order, as adapter (swap-in)
    or -1 - adapter (read from disk), the number of entries at its end.
    """
    loads[-1] = 0
    res.tally[SWAP_INS] = res.tally[DISK_LOADS] = 0
    if res.tally[NUM_CHANGED] == 0:
        return 0.0
    _drop_repeats(res)
    time = _take_turns(res, running, limits, costs, loads)
    _settle(res, running)
    return time
