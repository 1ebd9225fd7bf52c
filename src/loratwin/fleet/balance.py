"""Adapters dealt out to servers: evenly in load and number, hot ones split; then moved where that helps. No twin here.

A server's limit falls in both its load and the number of its adapters, so it is best spent by equal mixes: filling by
load leaves the cold ones on servers that are full by number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from heapq import heapify, heappop, heappush
from typing import NamedTuple

import numpy as np

from loratwin.workload import BASE
from loratwin.workload.arrays import F8, I4


def equal_parts(num_servers: int) -> F8:
    """Each server gets as much as any other."""
    return np.full(num_servers, 1 / num_servers)


HALF = 0.5
"""A replica carries at most this part of a server's mean load."""


SPLIT_WORTH = 0.8
"""A whole adapter moves where that gains at least this part of what splitting a hot one would."""


LEAST_PART = 1e-6
"""A smaller fraction of an adapter's requests is none."""


class Entries(NamedTuple):
    """A placement's entries; shape (num_entries,) each. -1 is traffic without adapter."""

    adapter: I4
    server: I4
    fraction: F8

    @classmethod
    def of(cls, rows: Sequence[tuple[int, int, float]]) -> Entries:
        """From (adapter, server, fraction), by adapter and server."""
        ordered = sorted(rows)
        adapter, server, fraction = zip(*ordered, strict=True) if ordered else ((), (), ())
        return cls(np.array(adapter, np.int32), np.array(server, np.int32), np.array(fraction, np.float64))

    def rows(self) -> Iterator[tuple[int, int, float]]:
        """(adapter, server, fraction)."""
        return zip(self.adapter.tolist(), self.server.tolist(), self.fraction.tolist(), strict=True)

    def loads(self, load: F8, num_servers: int) -> F8:
        """What each server is asked for; `load` has shape (num_adapters + 1,), the last without adapter."""
        weights = load[self.adapter] * self.fraction
        found: F8 = np.bincount(self.server, weights=weights, minlength=num_servers).astype(np.float64)
        return found

    def counts(self, num_servers: int) -> I4:
        """Adapters on each server."""
        found: I4 = np.bincount(self.server[self.adapter >= 0], minlength=num_servers).astype(np.int32)
        return found


def num_replicas(load: F8, server_load: float, half: float, most: int) -> I4:
    """On how many servers each adapter must be, so that none carries more than a part of what a server does.

    Parameters
    ----------
    load
        Of each adapter.
    server_load
        Of one server, in the same unit.
    half
        That part.
    most
        Replicas of an adapter.
    """
    needed = np.ceil(load / (half * server_load) - 1e-9) if server_load > 0 else np.ones(len(load))
    found: I4 = np.clip(needed, 1, most).astype(np.int32)
    return found


def deal(
    load: F8,
    parts: F8,
    half: float = HALF,
    pinned: Mapping[int, Sequence[int]] | None = None,
    only: Sequence[int] | None = None,
) -> Entries:
    """Deal adapters out evenly: largest first to the least loaded server that holds fewer than its part of them.

    Parameters
    ----------
    load
        Of each adapter, and last without adapter: shape (num_adapters + 1,).
    parts
        What each server gets of everything, shape (num_servers,), adding up to 1; some may get nothing.
    half
        As `num_replicas`.
    pinned
        Adapter -> servers that it must be on, in equal parts.
    only
        Adapters that are dealt, -1 is traffic without adapter; None: all.
    """
    known = range(BASE, len(load) - 1) if only is None else only
    wanted, pinned = set(known), pinned or {}
    rows = [(BASE, j, float(part)) for j, part in enumerate(parts) if BASE in wanted and load[-1] > 0 and part > 0]
    rows += [(a, j, 1 / len(servers)) for a, servers in pinned.items() if a in wanted for j in servers]
    free = np.array(sorted(wanted - {BASE} - set(pinned)), np.int32)
    server_load = float(load[sorted(wanted)].sum() * parts.max())  # -1 is the last
    replicas = num_replicas(load[free], server_load, half, int((parts > 0).sum()))
    held = Entries.of(rows)
    loads, counts = held.loads(load, len(parts)), held.counts(len(parts))
    caps = np.ceil(parts * (counts.sum() + replicas.sum()) - 1e-9)
    return Entries.of(
        [*rows, *_dealt(load, dict(zip(free.tolist(), replicas.tolist(), strict=True)), parts, loads, counts, caps)]
    )


def _dealt(
    load: F8, replicas: Mapping[int, int], parts: F8, loads: F8, counts: I4, caps: F8
) -> Iterator[tuple[int, int, float]]:
    heap = [(float(loads[j] / parts[j]), int(counts[j]), j) for j in range(len(parts)) if parts[j] > 0]
    heapify(heap)
    full: list[tuple[float, int, int]] = []  # by number
    for adapter in sorted(replicas, key=lambda a: (-load[a] / replicas[a], a)):
        number = replicas[adapter]
        taken: list[tuple[float, int, int]] = []
        while heap and len(taken) < number:
            each = heappop(heap)
            (taken if each[1] < caps[each[2]] else full).append(each)
        while full and len(taken) < number:  # a hot one on almost all servers: numbers give way
            taken.append(full.pop(0))
        for level, count, j in taken:
            yield adapter, j, 1 / len(taken)
            heappush(heap, (level + float(load[adapter]) / len(taken) / parts[j], count + 1, j))


def rebalance(
    held: Entries,
    load: F8,
    num_servers: int,
    most_moves: int,
    price: float = 0.0,
    pinned: Sequence[int] = (),
    extra: F8 | None = None,
    among: Sequence[int] | None = None,
    evens_out: bool = True,
) -> Entries:
    """Move and split adapters where that lowers the load of the fullest server most, one move after the other.

    A move brings one adapter to a server that did not hold it; the parts of an adapter that has several are evened out
    for nothing, since only the router must know.

    Parameters
    ----------
    most_moves
        At most so many.
    price
        Part of a server's mean load by which a move must lower the fullest; it stops where none does.
    pinned
        Adapters that stay.
    extra
        To be counted on top of what each server carries, shape (num_servers,).
    among
        Servers that take part; None: all.
    evens_out
        Whether adapters on several servers are evened out, too; else only the servers of a move change.
    """
    state = _Loads(held, load, num_servers, frozenset(pinned), extra, among)
    for number in range(most_moves + 1):
        if evens_out:
            state.even_out()
        if number == most_moves or not state.move(price):
            break
    return state.entries()


class _Loads:
    """Who is where, and what each server carries; changed move by move."""

    def __init__(
        self,
        held: Entries,
        load: F8,
        num_servers: int,
        pinned: frozenset[int],
        extra: F8 | None,
        among: Sequence[int] | None,
    ) -> None:
        self.load, self.pinned = load, pinned
        self.among = np.arange(num_servers) if among is None else np.array(sorted(among))
        self.taking_part = frozenset(self.among.tolist())
        self.parts: dict[int, dict[int, float]] = {}
        for adapter, server, fraction in held.rows():
            self.parts.setdefault(adapter, {})[server] = fraction
        self.loads = held.loads(load, num_servers) + (0.0 if extra is None else extra)
        self.on: list[set[int]] = [set() for _ in range(num_servers)]
        for adapter, server, _ in held.rows():
            self.on[server].add(adapter)

    @property
    def mean(self) -> float:
        return float(self.loads[self.among].mean())

    def even_out(self, rounds: int = 3) -> None:
        """Pour each adapter that is on several servers anew, so that they are as level as it can make them."""
        several = [a for a, parts in self.parts.items() if len(parts) > 1 and self.load[a] > 0 and a not in self.pinned]
        for _ in range(rounds):
            for adapter in sorted(several, key=lambda a: (-self.load[a], a)):
                self._pour(adapter)

    def _pour(self, adapter: int) -> None:
        parts, total = self.parts[adapter], float(self.load[adapter])
        servers = [j for j in sorted(parts) if j in self.taking_part]
        total *= sum(parts[j] for j in servers)
        if len(servers) < 2 or not total > 0:
            return
        whole = float(self.load[adapter])
        others = [float(self.loads[j]) - parts[j] * whole for j in servers]
        new = _water(others, total)
        for j, other, amount in zip(servers, others, new, strict=True):
            parts[j] = amount / whole
            self.loads[j] = other + amount

    def move(self, price: float) -> bool:
        """The best move off the fullest server; whether one was worth its price."""
        levels = self.loads[self.among]
        fullest, emptiest = int(self.among[levels.argmax()]), int(self.among[levels.argmin()])
        gap = float(self.loads[fullest] - self.loads[emptiest])
        best = self._best_move(fullest, emptiest, gap)
        if best is None or best[0] <= price * self.mean + 1e-12:
            return False
        _, adapter, whole = best
        parts = self.parts[adapter]
        amount = parts[fullest] if whole else min(parts[fullest], gap / 2 / float(self.load[adapter]))
        self._shift(adapter, fullest, emptiest, amount)
        return True

    def _best_move(self, source: int, target: int, gap: float) -> tuple[float, int, bool] | None:
        """(how much the fuller of the two falls, adapter, whether all of its part goes); one replica more costs."""
        found: list[tuple[float, float, int, bool]] = []
        for adapter in sorted(self.on[source] - self.on[target] - self.pinned - {BASE}):
            carried = self.parts[adapter][source] * float(self.load[adapter])
            whole = carried <= gap / 2
            gain = carried if whole else gap / 2
            found.append((gain if whole else SPLIT_WORTH * gain, gain, adapter, whole))
        if not found:
            return None
        _, gain, adapter, whole = max(found, key=lambda each: (each[0], self.load[each[2]], -each[2]))
        return gain, adapter, whole

    def _shift(self, adapter: int, source: int, target: int, part: float) -> None:
        parts, total = self.parts[adapter], float(self.load[adapter])
        left = parts[source] - part
        parts[target] = parts.get(target, 0.0) + part
        self.on[target].add(adapter)
        self.loads[source] -= part * total
        self.loads[target] += part * total
        if left <= 1e-12:
            del parts[source]
            self.on[source].discard(adapter)
        else:
            parts[source] = left

    def entries(self) -> Entries:
        """What came out; a part that carries nothing is given up."""
        return Entries.of([(a, j, part) for a, parts in self.parts.items() for j, part in _normal(parts)])


def _normal(parts: Mapping[int, float]) -> list[tuple[int, float]]:
    kept = {j: part for j, part in parts.items() if part > LEAST_PART}
    total = sum(kept.values())
    return [(j, part / total) for j, part in kept.items()]


def _water(levels: Sequence[float], amount: float) -> list[float]:
    """How much of an amount each vessel gets, so that the lowest rise to one level."""
    order = sorted(range(len(levels)), key=lambda i: levels[i])
    got = [0.0] * len(levels)
    for number in range(1, len(order) + 1):
        top = (amount + sum(levels[i] for i in order[:number])) / number
        if number == len(order) or top <= levels[order[number]]:
            for i in order[:number]:
                got[i] = max(0.0, top - levels[i])
            break
    return got


def moves(new: Entries, old: Entries) -> int:
    """Adapters that must be brought to a server that did not hold them."""
    before = set(zip(old.adapter.tolist(), old.server.tolist(), strict=True))
    after = set(zip(new.adapter.tolist(), new.server.tolist(), strict=True))
    return sum(adapter != BASE for adapter, _ in after - before)


def split_further(held: Entries, load: F8, num_servers: int, half: float, most_moves: int) -> Entries:
    """Give replicas to adapters of which one carries too much, the worst first; all replicas of an adapter get as much.

    What is on many servers may grow there before anybody knows: on ServeGen's clients this keeps a fleet level from
    hour to hour where moving adapters about does not (`benchmarks/fleet_drift.py`). No replica is taken away.

    Parameters
    ----------
    half
        As `num_replicas`.
    most_moves
        Replicas that may be added.
    """
    homes: dict[int, set[int]] = {}
    for adapter, server, part in held.rows():
        if adapter != BASE and part > LEAST_PART:
            homes.setdefault(adapter, set()).add(server)
    loads = held.loads(np.append(np.zeros(len(load) - 1), load[-1]), num_servers)  # -1 is the last
    for adapter, servers in homes.items():
        loads[sorted(servers)] += load[adapter] / len(servers)
    heap = [(-float(load[a]) / len(servers), a) for a, servers in homes.items()]
    heapify(heap)
    enough = half * float(loads.mean())
    for _ in range(most_moves):
        while heap and len(homes[heap[0][1]]) == num_servers:
            heappop(heap)
        if not heap or -heap[0][0] <= enough:
            break
        _, adapter = heappop(heap)
        servers = homes[adapter]
        target = min((j for j in range(num_servers) if j not in servers), key=lambda j: (loads[j], j))
        loads[sorted(servers)] -= load[adapter] / len(servers)
        servers.add(target)
        loads[sorted(servers)] += load[adapter] / len(servers)
        heappush(heap, (-float(load[adapter]) / len(servers), adapter))
    rows = [(a, j, 1 / len(servers)) for a, servers in homes.items() for j in servers]
    return Entries.of([*rows, *(row for row in held.rows() if row[0] == BASE)])


def budgets(most: int) -> list[int]:
    """Numbers of moves to try in turn, where each has a price: none, then twice as many each time, up to the most."""
    doubled = [2**power for power in range(most.bit_length()) if 2**power < most]
    return list(dict.fromkeys([0, *doubled, most]))


def onto(held: Entries, load: F8, num_servers: int, only: Sequence[int]) -> Entries:
    """A placement on so many servers, with the fewest moves: the last servers are emptied, what is new is dealt out.

    Parts on a server that goes fall to the others that hold the adapter; what only they held, and adapters that nobody
    held, go to the least loaded server. Traffic without adapter is shared by those that had it, or all, equally.

    Parameters
    ----------
    load
        Of each adapter, and last without adapter: shape (num_adapters + 1,).
    only
        Adapters that are placed, -1 is traffic without adapter.
    """
    kept: dict[int, dict[int, float]] = {a: {} for a in only if a != BASE}
    for adapter, server, part in held.rows():
        if server < num_servers and adapter in kept and part > LEAST_PART:
            kept[adapter][server] = part
    rows = [(a, j, part) for a, parts in kept.items() if parts for j, part in _normal(parts)]
    if BASE in only and load[-1] > 0:
        had = [j for a, j, _ in held.rows() if a == BASE and j < num_servers] or list(range(num_servers))
        rows += [(BASE, j, 1 / len(had)) for j in had]
    loads = Entries.of(rows).loads(load, num_servers)
    for adapter in sorted((a for a, parts in kept.items() if not parts), key=lambda a: (-load[a], a)):
        target = int(loads.argmin())
        rows.append((adapter, target, 1.0))
        loads[target] += load[adapter]
    return Entries.of(rows)


def relabelled(new: Entries, old: Entries, num_servers: int, kinds: Sequence[int] | None = None) -> I4:
    """The number that each server of a new placement should have, so that most adapters stay. Shape (num_servers,).

    Parameters
    ----------
    kinds
        Of the servers: one takes the place of its like only. None: all alike.

    Raises
    ------
    InputError
        scipy is not installed.
    """
    from loratwin.extras import required

    optimize = required("scipy.optimize", "a fleet that keeps its adapters where they are", "fleet")
    held: dict[int, list[int]] = {}
    for adapter, server, _ in old.rows():
        if adapter != BASE and server < num_servers:
            held.setdefault(adapter, []).append(server)
    kept = np.zeros((num_servers, num_servers))
    for adapter, server, _ in new.rows():
        for before in held.get(adapter, ()):
            kept[server, before] += 1
    if kinds is not None:
        unlike = np.asarray(kinds)[:, None] != np.asarray(kinds)[None, :]
        kept[unlike] = -1e9
    rows, columns = optimize.linear_sum_assignment(-kept)
    numbers: I4 = np.empty(num_servers, np.int32)
    numbers[rows] = columns
    return numbers
