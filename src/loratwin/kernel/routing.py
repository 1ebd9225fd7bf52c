"""Which server gets a request: rules that look at the servers. Small functions of arrays; what is random was drawn.

`choose` returns an entry of `Holders`. A router sees two kinds of things: what it counts itself, requests that it sent
and that are not answered, as of now; and what it last scraped from each server (`Watched.seen`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import F8, I1, I4, I8

LEAST_IN_FLIGHT, TWO_CHOICES, SCORERS = range(3)  # RouterRule.kind

NO_AFFINITY, ACTIVE_TWICE, ACTIVE, RESIDENCY = range(4)
"""RouterRule.affinity: llm-d-router's lora-affinity-scorer before #2625 (which counted every active adapter twice) and
after; the scorer of residency of #2792."""

# What a server tells, columns of Watched.seen and .before
(
    WAITING_NOW,  # requests in its queue
    BLOCKS_NOW,  # KV blocks that requests own
    DONE_NOW,  # requests answered or refused, of all that it ever got
    ACTIVE_NOW,  # adapters with a request that waits or runs
    IN_SLOTS,  # adapters in slots
    IDLE_IN_SLOTS,  # ... without a running request
    NUM_SIGNALS,
) = range(7)

IS_ACTIVE, IS_IN_SLOT, IS_IN_HOST = 1, 2, 4
"""Bits of Watched.seen_flags: what a server tells of one adapter."""

LOAD_THRESHOLD = 128.0
"""Queue at which llm-d's load-aware scorer gives 0."""


class Holders(NamedTuple):
    """The servers of each adapter, as rows one behind the other; the last row is for requests without adapter."""

    first: I8  # (adapters + 2,) where each row begins
    server: I4  # (entries,)
    local: I4  # (entries,) the adapter's number on that server; -1: without adapter


class RouterRule(NamedTuple):
    """A rule and the weights of its scorers."""

    kind: int
    affinity: int = NO_AFFINITY
    queue: float = 0.0
    kv: float = 0.0
    lora: float = 0.0
    load: float = 0.0


class Watched(NamedTuple):
    """What is known of the servers. Shapes (servers,), (servers, NUM_SIGNALS), and flags of all servers' adapters."""

    sent: I8
    in_flight: I8  # sent and not answered, as of the last look
    next_s: F8  # when its next step starts; infinite: never, unless a request comes
    seen_s: F8  # time of the last scrape; -inf: none yet
    phase_s: F8  # of its first scrape
    before: I8  # as of the end of the last step, the one under way left out
    seen: I8  # as of the last scrape
    flags_before: I1
    flags_seen: I1
    flag_start: I8  # (servers + 1,) of its flags
    num_blocks: I8  # that it has
    max_loras: I8


@jit
def _pick(number: float, count: int) -> int:
    """One of so many, by a number in [0, 1)."""
    return min(np.int64(number * count), count - 1)


@jit
def _least_in_flight(h: Holders, row: int, w: Watched, number: float) -> int:
    """The holder with fewest requests in flight; ties by the number."""
    least, ties = np.int64(2**62), 0
    for e in range(h.first[row], h.first[row + 1]):
        count = w.in_flight[h.server[e]]
        if count < least:
            least, ties = count, 0
        ties += count == least
    wanted = _pick(number, ties)
    for e in range(h.first[row], h.first[row + 1]):
        if w.in_flight[h.server[e]] == least:
            if wanted == 0:
                return e
            wanted -= 1
    return -1


@jit
def _flags(h: Holders, w: Watched, e: int) -> int:
    """What an entry's server last told of the adapter; 0 without adapter."""
    return w.flags_seen[w.flag_start[h.server[e]] + h.local[e]] if h.local[e] >= 0 else 0


@jit
def _rank(h: Holders, w: Watched, e: int) -> int:
    """Ray's order of candidates, smallest first: has the model; else by how many models it has."""
    if h.local[e] < 0:
        return 0
    return -1 if _flags(h, w, e) & IS_IN_SLOT else w.seen[h.server[e], IN_SLOTS]


@jit
def _nth_of_rank(h: Holders, row: int, w: Watched, rank: int, wanted: int) -> int:
    for e in range(h.first[row], h.first[row + 1]):
        if _rank(h, w, e) == rank:
            if wanted == 0:
                return e
            wanted -= 1
    return -1


@jit
def _two_choices(h: Holders, row: int, w: Watched, first: float, second: float) -> int:
    """Ray Serve: of those that have the model (else: fewest) two at random; fewer in flight wins, then the first.

    The tries that follow when a replica refuses are not modelled: servers here refuse nothing.
    """
    least, count = np.int64(2**62), 0
    for e in range(h.first[row], h.first[row + 1]):
        rank = _rank(h, w, e)
        if rank < least:
            least, count = rank, 0
        count += rank == least
    i = _pick(first, count)
    one = _nth_of_rank(h, row, w, least, i)
    if count == 1:
        return one
    j = _pick(second, count - 1)
    other = _nth_of_rank(h, row, w, least, j + (j >= i))
    return other if w.in_flight[h.server[other]] < w.in_flight[h.server[one]] else one


@jit
def _affinity(rule: RouterRule, h: Holders, w: Watched, e: int) -> float:
    """Score of the adapter's presence, 0 to 1."""
    server, flags = h.server[e], _flags(h, w, e)
    active, slots = w.seen[server, ACTIVE_NOW], w.max_loras[server]
    if rule.affinity == RESIDENCY:
        if h.local[e] < 0:
            return max(slots - active, 0) / slots if slots > 0 else 0.0
        if flags & IS_IN_SLOT:
            return 1.0
        if flags & IS_IN_HOST:
            return 0.7
        if w.seen[server, IN_SLOTS] < slots:
            return 0.6
        return 0.3 if w.seen[server, IDLE_IN_SLOTS] > 0 else 0.0
    if flags & IS_ACTIVE:
        return 1.0
    return 0.8 if (2 * active if rule.affinity == ACTIVE_TWICE else active) < slots else 0.0


@jit
def _score(rule: RouterRule, h: Holders, w: Watched, e: int, least: int, most: int) -> float:
    """The weighted sum of an entry's scores; `least` and `most` wait on its rivals."""
    server = h.server[e]
    waiting = w.seen[server, WAITING_NOW]
    score = rule.queue * (1.0 if most == least else (most - waiting) / (most - least))
    score += rule.kv * (1.0 - w.seen[server, BLOCKS_NOW] / w.num_blocks[server])
    score += rule.load * 0.5 * max(0.0, 1.0 - waiting / LOAD_THRESHOLD)
    return score + rule.lora * _affinity(rule, h, w, e) if rule.affinity != NO_AFFINITY else score


@jit
def _scorers(rule: RouterRule, h: Holders, row: int, w: Watched, number: float) -> int:
    """llm-d: the highest weighted sum of scores; ties by the number."""
    least, most = np.int64(2**62), np.int64(0)
    for e in range(h.first[row], h.first[row + 1]):
        waiting = w.seen[h.server[e], WAITING_NOW]
        least, most = min(least, waiting), max(most, waiting)
    best, ties = -1.0, 0
    for e in range(h.first[row], h.first[row + 1]):
        score = _score(rule, h, w, e, least, most)
        if score > best:
            best, ties = score, 0
        ties += score == best
    wanted = _pick(number, ties)
    for e in range(h.first[row], h.first[row + 1]):
        if _score(rule, h, w, e, least, most) == best:
            if wanted == 0:
                return e
            wanted -= 1
    return -1


@jit
def choose(rule: RouterRule, h: Holders, row: int, w: Watched, first: float, second: float) -> int:
    """The entry of a row that gets a request; `first`, `second`: its numbers in [0, 1)."""
    if rule.kind == LEAST_IN_FLIGHT:
        return _least_in_flight(h, row, w, first)
    if rule.kind == TWO_CHOICES:
        return _two_choices(h, row, w, first, second)
    return _scorers(rule, h, row, w, first)


@jit
def looks_at_servers(rule: RouterRule) -> bool:
    """Whether a rule uses what is scraped."""
    return rule.kind != LEAST_IN_FLIGHT


@jit
def looks_at_adapters(rule: RouterRule) -> bool:
    """Whether it uses what is told of single adapters."""
    return rule.kind == TWO_CHOICES or rule.affinity != NO_AFFINITY


@jit
def counts_in_flight(rule: RouterRule) -> bool:
    """Whether it uses its own count of what is in flight."""
    return rule.kind != SCORERS
