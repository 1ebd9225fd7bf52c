"""A plan against where the adapters are now: servers numbered so that most stay, and no more moves than may be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.balance import Entries, budgets, moves, onto, rebalance, relabelled, split_further
from loratwin.fleet.packing import Packed
from loratwin.fleet.placement import Placement
from loratwin.fleet.problem import Problem
from loratwin.fleet.wishes import keeps_places
from loratwin.workload import BASE
from loratwin.workload.arrays import I4
from loratwin.workload.hours import HOUR_S

NUMBERS_TRIED = 3
"""Of servers, where the present placement is only changed: as many as there must be, one more, two more."""

MOVE_PRICE = 0.005
"""Part of a server's mean load by which a move must lower the fullest."""


def as_present(problem: Problem, packed: Packed) -> tuple[Packed, int | None]:
    """Servers numbered so that most adapters stay; where these are too many moves, or cost too much, the present
    placement changed.

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
    most = needed if problem.wishes.most_moves is None else problem.wishes.most_moves
    choices = [packed] if needed <= most else []
    if not choices or problem.wishes.move_price:
        choices += _changes(problem, old, present.num_servers, len(packed.kinds), min(needed, most))
    if not choices:
        raise InputError(f"{needed} adapters would have to move, and {most} may: allow {needed}, or take more servers")
    hours = problem.traffic.workloads[0].window_s / HOUR_S

    def cost(each: Packed) -> float:
        return hours * problem.cost(each) + problem.wishes.move_price * moves(each.entries, old)

    best = min(choices, key=cost)
    return best, moves(best.entries, old)


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


def _changes(problem: Problem, old: Entries, before: int, fewest: int, most_moves: int) -> list[Packed]:
    """The present placement with so many moves, or, where they have a price, as few as work.

    Parameters
    ----------
    before, fewest
        Servers that there are, and that there must be.
    """
    if len(problem.gpus) > 1 or not len(old.adapter):
        return []
    least = max(before, fewest)
    count = problem.gpus[0].count
    found = []
    for number in range(fewest if problem.wishes.move_price else least, least + NUMBERS_TRIED):
        if count is not None and number > count:
            break
        changed = _changed(problem, old, number, budgets(most_moves) if problem.wishes.move_price else [most_moves])
        found += [changed] if changed is not None else []
        if found and number >= before:
            break
    return found


def _changed(problem: Problem, old: Entries, number: int, numbers_of_moves: Sequence[int]) -> Packed | None:
    """On so many servers, with the first number of moves that works; None: none does."""
    packer = problem.packer(sorted({a for only in problem.pools for a in only}))
    start = onto(old, problem.load, number, packer.only)
    needed = moves(start, old)
    for most in numbers_of_moves:
        if needed > most:
            continue
        entries = _moved(problem, start, number, most - needed)
        if keeps_places(entries, problem.pinned, problem.pools) and all(entries.counts(number)):
            packed = packer.verified(entries, [0] * number, repairs=0)
            if packed is not None:
                return packed
    return None


def _moved(problem: Problem, entries: Entries, number: int, most: int) -> Entries:
    """Adapters moved about, or replicas added where they are to be many."""
    share = problem.wishes.replica_share
    if share is not None:
        return split_further(entries, problem.load, number, share, most)
    return rebalance(entries, problem.load, number, most, MOVE_PRICE, tuple(problem.pinned))
