"""Placements as others make them for a number of servers, from loads alone: no twin here.

Sources: LoRAServe is arXiv 2511.22880, its steps 1 to 4; dLoRA is the proactive step of OSDI'24; the order of
`zig_zag` is that of arXiv 2602.24044.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from heapq import heappop, heappush

import numpy as np

from loratwin.fleet.balance import Entries, deal, equal_parts
from loratwin.workload import BASE
from loratwin.workload.arrays import F8, I4
from loratwin.workload.streams import stream

Dealer = Callable[[F8, I4, Sequence[str], int], Entries]
"""From load (last: without adapter), ranks, names and servers to a placement."""


def at_random(load: F8, ranks: I4, names: Sequence[str], number: int) -> Entries:
    """Each adapter on any server."""
    where = stream(0, "fleet", "random placement").integers(0, number, len(names))
    return with_base([(a, int(j), 1.0) for a, j in enumerate(where)], load, number)


def whole(load: F8, ranks: I4, names: Sequence[str], number: int) -> Entries:
    """Whole adapters, the largest first to the least loaded server."""
    return deal(load, equal_parts(number), half=float("inf"))


def hashed(replicas: int) -> Dealer:
    """Rendezvous hash (highest random weight), so many servers for each adapter, in equal parts."""

    def dealt(load: F8, ranks: I4, names: Sequence[str], number: int) -> Entries:
        rows = []
        for a, name in enumerate(names):
            order = sorted(range(number), key=lambda j: hashlib.sha256(f"{name}\0{j}".encode()).digest())
            rows += [(a, j, 1 / min(replicas, number)) for j in order[:replicas]]
        return with_base(rows, load, number)

    return dealt


def loraserve(load: F8, ranks: I4, names: Sequence[str], number: int) -> Entries:
    """Servers shared out to the ranks by their load, adapters poured into them by falling load up to an equal level.

    The operating points of the ranks count as equal: published ones differ by 4 % at most.
    """
    by_rank = {rank: [a for a in range(len(names)) if ranks[a] == rank] for rank in sorted(set(ranks.tolist()))[::-1]}
    target = float(load[:-1].sum()) / number
    wanted = {rank: float(load[own].sum()) / target if target > 0 else 0.0 for rank, own in by_rank.items()}
    given = {rank: int(share) for rank, share in wanted.items()}
    for rank in sorted(wanted, key=lambda r: (given[r] - wanted[r], -r))[: number - sum(given.values())]:
        given[rank] += 1
    level, most_rank = np.zeros(number), np.zeros(number)
    rows: list[tuple[int, int, float]] = []
    left: list[tuple[int, float]] = []
    first = 0
    for rank, own in by_rank.items():
        group = list(range(first, first + given[rank]))
        most_rank[group] = rank
        first += given[rank]
        for a in sorted(own, key=lambda a: (-load[a], a)):
            rest = _poured(rows, level, group, a, float(load[a]), target)
            if rest > 0:
                left.append((a, rest))
    for a, rest in left:
        holding = [j for j in range(number) if most_rank[j] >= ranks[a]] or list(range(number))
        j = min(holding, key=lambda j: (level[j], j))
        rows.append((a, j, rest))
        level[j] += rest * load[a]
    return with_base(_merged(rows), load, number)


def _poured(
    rows: list[tuple[int, int, float]], level: F8, group: Sequence[int], adapter: int, load: float, target: float
) -> float:
    """Pour an adapter into servers by rising load; the fraction that is left."""
    rest = 1.0
    for j in sorted(group, key=lambda j: (level[j], j)):
        room = max(0.0, target - level[j])
        part = rest if load == 0 else min(rest, room / load)
        if part > 1e-9:
            rows.append((adapter, j, part))
            level[j] += part * load
            rest -= part
        if rest <= 1e-9:
            return 0.0
    return rest


def dlora(load: F8, ranks: I4, names: Sequence[str], number: int) -> Entries:
    """Replicas where they are missed most: at least servers + adapters - 1, the most under-represented one first."""
    share = np.maximum(load[:-1], 1e-9) / max(float(load[:-1].sum()), 1e-9)
    homes: list[list[int]] = [[] for _ in names]
    held = np.zeros(number, int)
    open_ = [(0.0, a) for a in range(len(names))]  # those without a server first, then by replicas over share: a heap
    for _ in range(number + len(names) - 1):
        if not open_:
            break
        _, a = heappop(open_)
        j = min((j for j in range(number) if j not in homes[a]), key=lambda j: (held[j], j))
        homes[a].append(j)
        held[j] += 1
        if len(homes[a]) < number:
            heappush(open_, (len(homes[a]) / float(share[a]), a))
    return with_base([(a, j, 1 / len(each)) for a, each in enumerate(homes) for j in each], load, number)


DEALERS: Mapping[str, Dealer] = {
    "random": at_random,
    "whole adapters": whole,
    "hash, 1 replica": hashed(1),
    "hash, 2 replicas": hashed(2),
    "LoRAServe": loraserve,
    "dLoRA": dlora,
}


def zig_zag(ranks: I4, load: F8) -> list[int]:
    """By falling rank; within a rank the largest, the smallest, the second largest, the second smallest, ..."""
    order: list[int] = []
    for rank in sorted(set(ranks.tolist()))[::-1]:
        own = sorted((a for a in range(len(ranks)) if ranks[a] == rank), key=lambda a: (-load[a], a))
        while own:
            order.append(own.pop(0))
            if own:
                order.append(own.pop())
    return order


def with_base(rows: Sequence[tuple[int, int, float]], load: F8, number: int) -> Entries:
    """The entries, and traffic without adapter in equal parts on all servers where there is some."""
    return Entries.of([*rows, *((BASE, j, 1 / number) for j in range(number) if load[-1] > 0)])


def _merged(rows: Sequence[tuple[int, int, float]]) -> list[tuple[int, int, float]]:
    found: dict[tuple[int, int], float] = {}
    for a, j, part in rows:
        found[a, j] = found.get((a, j), 0.0) + part
    return [(a, j, part) for (a, j), part in found.items()]
