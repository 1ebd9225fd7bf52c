"""Several ranks, lengths and kinds of GPU: which mixes one server can take, and how many of each mix there must be.

A *column* is a server's part of each class of adapters, verified by the twin. A linear program over the columns (the
configuration LP of bin packing) says how many of each; its value is a bound over these columns, and no more than that:
another column may do better.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil
from typing import NamedTuple

import numpy as np

from loratwin.extras import required
from loratwin.fleet.balance import HALF, Entries, deal
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Server
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.traffic import Sample
from loratwin.plan.limits import last_good, run_all
from loratwin.workload import BASE
from loratwin.workload.arrays import F8, I4

RATIO = 0.98
"""The size of a column is found on powers of it."""

SMALLEST = 512
"""Powers that are tried: a part of 32 millionths."""

SLACK = (1.0, 1.02, 1.05, 1.1, 1.2, 1.4)
"""By how much the servers must be able to take more than there is, tried in turn until the dealt adapters fit."""


class Column(NamedTuple):
    """What one server can take: its part of each class, and of the traffic without adapter (last)."""

    kind: int
    parts: tuple[float, ...]


class Count(NamedTuple):
    """How many servers of each column there should be, and the LP's own value."""

    numbers: tuple[int, ...]
    bound: float


def classes_of(rank_class: I4, group: I4) -> tuple[I4, list[tuple[int, int]]]:
    """Adapters that are alike but for their rates: of one rank of slots and one group.

    Returns
    -------
    Class of each adapter, and (rank, group) of each class, by rank.
    """
    pairs = sorted(set(zip(rank_class.tolist(), group.tolist(), strict=True)))
    index = {pair: i for i, pair in enumerate(pairs)}
    found = [index[pair] for pair in zip(rank_class.tolist(), group.tolist(), strict=True)]
    return np.array(found, np.int32), pairs


def directions(num_classes: int, has_base: bool) -> list[tuple[float, ...]]:
    """Mixes worth a try: everything; each class alone; the lower and the upper ranks; traffic without adapter alone."""
    base = 1.0 if has_base else 0.0
    masks = [[1.0] * num_classes]
    masks += [[float(i == c) for i in range(num_classes)] for c in range(num_classes)]
    masks += [[float(i <= c) for i in range(num_classes)] for c in range(num_classes - 1)]
    masks += [[float(i > c) for i in range(num_classes)] for c in range(num_classes - 1)]
    found = [(*mask, share) for mask in masks for share in ((base, 0.0) if has_base else (0.0,))]
    if has_base:
        found.append((*[0.0] * num_classes, 1.0))
    return list(dict.fromkeys(found))


def find_columns(
    judge: Judge, num_classes: int, has_base: bool, num_kinds: int, needed: Sequence[bool]
) -> list[Column]:
    """The largest part of each mix that one server of each kind takes; none where not even the smallest works."""
    mixes = dict.fromkeys(
        tuple(share if is_needed else 0.0 for share, is_needed in zip(each, needed, strict=True))
        for each in directions(num_classes, has_base)
    )
    asked = [(kind, each) for kind in range(num_kinds) for each in mixes if any(each)]

    def try_all(values: list[tuple[int, int]]) -> list[bool]:
        servers = [_server(*asked[i], RATIO ** (SMALLEST - value)) for i, value in values]
        return [config is not None for config in judge.working(servers, "columns")]

    works = judge.working([_server(kind, each, RATIO**SMALLEST) for kind, each in asked], "columns")
    possible = [i for i, config in enumerate(works) if config is not None]
    powers = run_all(
        [last_good(0, SMALLEST + 1) for _ in possible], lambda found: try_all([(possible[i], v) for i, v in found])
    )
    return [
        Column(asked[i][0], tuple(RATIO ** (SMALLEST - power) * share for share in asked[i][1]))
        for i, power in zip(possible, powers, strict=True)
        if power is not None
    ]


def _server(kind: int, direction: Sequence[float], size: float) -> Server:
    size = min(1.0, size)
    return Server(kind, Sample(tuple(size * share for share in direction[:-1]), size * direction[-1]))


def count_columns(
    columns: Sequence[Column], gpus: Sequence[Gpus], needed: Sequence[bool], by_price: bool, slack: float = 1.0
) -> Count | None:
    """The fewest servers, or the cheapest, that take everything; None: the counts do not suffice.

    Parameters
    ----------
    needed
        Of each class, and last of the traffic without adapter: whether there is any.
    by_price
        Prices count, and not numbers.
    slack
        What the servers must be able to take, relative to what there is.

    Raises
    ------
    InputError
        scipy is not installed.
    """
    optimize = required("scipy.optimize", "a fleet of several ranks, groups or kinds of GPU", "fleet")
    rows = np.array([[column.parts[c] for column in columns] for c, is_needed in enumerate(needed) if is_needed])
    cost = np.array([(gpus[column.kind].price_per_h or 0.0) if by_price else 1.0 for column in columns])
    cost = cost + 1e-6 * (1 + np.arange(len(columns)) / len(columns))  # of equal ones the first, and the fewest
    limits = [optimize.LinearConstraint(rows, lb=slack)]
    for kind, each in enumerate(gpus):
        if each.count is not None:
            mask = np.array([float(column.kind == kind) for column in columns])
            limits.append(optimize.LinearConstraint(mask[None, :], ub=each.count))
    relaxed = optimize.milp(cost, constraints=limits)
    whole = optimize.milp(cost, constraints=limits, integrality=np.ones(len(columns)))
    if relaxed.x is None or whole.x is None:
        return None
    return Count(tuple(round(number) for number in whole.x), float(relaxed.fun))


def dealt_by(columns: Sequence[Column], classes: I4, load: F8, only: Sequence[int], half: float = HALF) -> Entries:
    """Each class dealt out to the servers by their parts of it; `columns` has one for each server."""
    rows: list[tuple[int, int, float]] = []
    for each in range(len(columns[0].parts)):
        is_base = each == len(columns[0].parts) - 1
        own = [a for a in only if (a == BASE if is_base else a != BASE and classes[a] == each)]
        parts = np.array([column.parts[each] for column in columns])
        if own and parts.sum() > 0:
            rows += deal(load, parts / parts.sum(), half, only=own).rows()
    return Entries.of(rows)


def by_columns(
    packer: Packer, columns: Sequence[Column], gpus: Sequence[Gpus], classes: I4, needed: Sequence[bool], by_price: bool
) -> Iterator[tuple[Packed, Count]]:
    """Plans by the columns, the cheapest first, each verified; the first is the one to take."""
    tried: set[tuple[int, ...]] = set()
    for slack in SLACK:
        count = count_columns(columns, gpus, needed, by_price, slack)
        if count is None or count.numbers in tried:
            continue
        tried.add(count.numbers)
        servers = [column for column, number in zip(columns, count.numbers, strict=True) for _ in range(number)]
        kinds = [column.kind for column in servers]
        among = [[j for j, each in enumerate(servers) if each == column] for column in dict.fromkeys(servers)]
        for half in packer.halves:
            entries = dealt_by(servers, classes, packer.load, packer.only, half)
            packed = packer.verified(entries, kinds, among)
            if packed is not None:
                yield packed, count
                break


def lp_bound(columns: Sequence[Column], needed: Sequence[bool], gpus: Sequence[Gpus]) -> int:
    """Fewest servers of any kind by the linear program, whatever their counts; 0 without columns."""
    free = [Gpus(each.profile) for each in gpus]
    count = count_columns(columns, free, needed, by_price=False) if columns else None
    return 0 if count is None else ceil(count.bound - 1e-4)
