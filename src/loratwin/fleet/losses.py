"""A server is lost: where its adapters go, and whether the others bear it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.fleet.balance import LEAST_PART, Entries
from loratwin.fleet.judge import Judge, Server, Task
from loratwin.fleet.packing import Packed
from loratwin.fleet.traffic import contents
from loratwin.plan.trial import Trial
from loratwin.workload import BASE
from loratwin.workload.arrays import F8

MOST_LOSSES = 8
"""Servers whose loss is tried: the fullest."""


def reserves(packed: Packed, load: F8, ranks: Sequence[int]) -> dict[int, int]:
    """For each adapter that lives on one server only, another that holds it in reserve: the least loaded then.

    Parameters
    ----------
    load
        Of each adapter, and last without adapter.
    ranks
        Of each adapter: a server whose slots are smaller cannot hold it.
    """
    number = len(packed.kinds)
    loads, counts = packed.entries.loads(load, number), packed.entries.counts(number)
    homes: dict[int, list[int]] = {}
    for adapter, server, part in packed.entries.rows():
        if part > LEAST_PART:
            homes.setdefault(adapter, []).append(server)
    holds = {rank: np.array([_holds(packed, j, rank) for j in range(number)]) for rank in set(ranks)}
    alone: list[list[int]] = [[] for _ in range(number)]
    for adapter, servers in homes.items():
        if len(servers) == 1 and adapter != BASE:
            alone[servers[0]].append(adapter)
    found: dict[int, int] = {}
    for lost in range(number):
        extra, more = loads.copy(), counts.copy()
        extra[lost] = np.inf
        for adapter in sorted(alone[lost], key=lambda a: (-load[a], a)):
            levels = np.where(holds[ranks[adapter]], extra, np.inf)
            level = levels.min()
            if level < np.inf:
                least = np.flatnonzero(levels == level)
                target = int(least[more[least].argmin()])
                found[adapter] = target
                extra[target] += load[adapter]
                more[target] += 1
    return found


def _holds(packed: Packed, server: int, rank: int) -> bool:
    config = packed.candidates[server].config
    return config.max_loras > 0 and config.max_lora_rank >= rank


def without(packed: Packed, lost: int, reserve: dict[int, int]) -> Entries | None:
    """Who gets what when a server is lost; None: an adapter then has none."""
    left: dict[int, dict[int, float]] = {}
    for adapter, server, part in packed.entries.rows():
        parts = left.setdefault(adapter, {})
        if server != lost and part > LEAST_PART:
            parts[server] = part
    for adapter, parts in left.items():
        if parts:
            total = sum(parts.values())
            left[adapter] = {server: part / total for server, part in parts.items()}
        elif adapter in reserve:
            left[adapter] = {reserve[adapter]: 1.0}
        else:
            return None
    return Entries.of([(a, server, part) for a, parts in left.items() for server, part in parts.items()])


def failing_after(judge: Judge, packed: Packed, lost: int, reserve: dict[int, int]) -> list[int] | None:
    """Servers that do not bear the loss of one, at the rates as they are; None: an adapter then has no server."""
    entries = without(packed, lost, reserve)
    if entries is None:
        return None
    found = contents(*entries, len(packed.kinds))
    others = [j for j in range(len(packed.kinds)) if j != lost and found[j]]
    tasks = []
    for j in others:
        server = Server(packed.kinds[j], found[j])
        number = judge.num_adapters(server)
        config = packed.candidates[j].config
        config = config.replace(max_cpu_loras=max(number, config.max_loras, 1))
        tasks.append(Task(server, Trial(config, number, verdict_only=True)))
    results = judge.simulate(tasks, "a server is lost")
    return [j for j, result in zip(others, results, strict=True) if not result.works]


def fullest(packed: Packed, load: F8, most: int = MOST_LOSSES) -> list[int]:
    """The servers that are asked for most, first."""
    loads = packed.entries.loads(load, len(packed.kinds))
    return sorted(range(len(loads)), key=lambda j: (-loads[j], j))[:most]


def bears_losses(judge: Judge, packed: Packed, load: F8, ranks: Sequence[int]) -> bool:
    """Whether the others bear the loss of any one of the fullest servers."""
    if len(packed.kinds) < 2:
        return False
    reserve = reserves(packed, load, ranks)
    return all(failing_after(judge, packed, lost, reserve) == [] for lost in fullest(packed, load))
