"""A plan against where the adapters are now: servers numbered so that most stay, and no more moves than may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.balance import Entries, moves, rebalance, relabelled
from loratwin.fleet.packing import Packed
from loratwin.fleet.placement import Placement
from loratwin.fleet.problem import Problem
from loratwin.fleet.wishes import keeps_places
from loratwin.workload import BASE
from loratwin.workload.arrays import I4

NUMBERS_TRIED = 3
"""Of servers, where the present placement is only changed: as many as there must be, one more, two more."""

MOVE_PRICE = 0.005
"""Part of a server's mean load by which a move must lower the fullest."""


def as_present(problem: Problem, packed: Packed) -> tuple[Packed, int | None]:
    """Servers numbered so that most adapters stay; where that is too many moves, the present placement changed.

    Returns
    -------
    The placement, and adapters to be moved; None: nothing is present.

    Raises
    ------
    InputError
        More adapters have to move than may.
    """
    present = problem.wishes.present
    if present is None:
        return packed, None
    old = _entries(problem, present)
    if not problem.pinned:
        packed = _renumbered(packed, old)
    needed = moves(packed.entries, old)
    most = problem.wishes.most_moves
    if most is None or needed <= most:
        return packed, needed
    changed = _changed(problem, old, max(present.num_servers, len(packed.kinds)), most)
    if changed is None:
        raise InputError(f"{needed} adapters would have to move, and {most} may: allow {needed}, or take more servers")
    return changed, moves(changed.entries, old)


def _entries(problem: Problem, present: Placement) -> Entries:
    """Of the adapters that are still asked for."""
    index = {name: i for i, name in enumerate(problem.adapters.name)}
    rows = [
        (BASE if a < 0 else index[present.adapters[a]], j, part)
        for a, j, part in zip(present.adapter.tolist(), present.server.tolist(), present.fraction.tolist(), strict=True)
        if (a < 0 and problem.load[-1] > 0) or (a >= 0 and present.adapters[a] in index)
    ]
    return Entries.of(rows)


def _renumbered(packed: Packed, old: Entries) -> Packed:
    number = len(packed.kinds)
    numbers: I4 = relabelled(packed.entries, old, number, packed.kinds)
    back = np.argsort(numbers)
    entries = Entries.of([(a, int(numbers[j]), part) for a, j, part in packed.entries.rows()])
    kinds = tuple(packed.kinds[j] for j in back)
    return Packed(entries, kinds, tuple(packed.candidates[j] for j in back))


def _changed(problem: Problem, old: Entries, least: int, most_moves: int) -> Packed | None:
    """The present placement with so many moves, on no fewer servers than there must be; None: that does not work."""
    if len(problem.gpus) > 1 or not len(old.adapter):
        return None
    packer = problem.packer(sorted({a for only in problem.pools for a in only}))
    held = set(old.adapter.tolist())
    new = [a for a in packer.only if a not in held]
    budget = most_moves - sum(a != BASE for a in new)
    if budget < 0:
        return None
    for number in range(least, least + NUMBERS_TRIED):
        if problem.gpus[0].count is not None and number > problem.gpus[0].count:
            return None
        with_new = _with_new(problem, old, new, number)
        entries = rebalance(with_new, problem.load, number, budget, MOVE_PRICE, tuple(problem.pinned))
        if not keeps_places(entries, problem.pinned, problem.pools):
            continue
        packed = packer.verified(entries, [0] * number, repairs=0)
        if packed is not None and all(packed.entries.counts(number)):
            return packed
    return None


def _with_new(problem: Problem, old: Entries, new: Sequence[int], number: int) -> Entries:
    """Adapters that nobody held go to the least loaded server, the largest first; traffic without one to all."""
    loads = old.loads(problem.load, number)
    rows = list(old.rows())
    for adapter in sorted(new, key=lambda a: (-problem.load[a], a)):
        if adapter == BASE:
            rows += [(BASE, j, 1 / number) for j in range(number)]
            continue
        target = int(loads.argmin())
        rows.append((adapter, target, 1.0))
        loads[target] += problem.load[adapter]
    return Entries.of(rows)
