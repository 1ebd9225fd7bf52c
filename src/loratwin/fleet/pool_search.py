"""The servers of a pool: the fewest of one kind, a mix of kinds or ranks, or all that are given and the least TTFT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loratwin.errors import InputError
from loratwin.fleet.balance import Entries
from loratwin.fleet.columns import Column, by_columns, find_columns, lp_bound
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.no_plan import check_pinned_servers, check_pins, hopeless, too_few
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.plan_result import Bound
from loratwin.fleet.problem import Problem
from loratwin.fleet.worst import worst_adapters
from loratwin.workload import BASE

MOST_SERVERS = 100_000


def search_pools(problem: Problem) -> tuple[Packed, Bound]:
    """All pools, one after the other, each on servers that are left; then side by side.

    Raises
    ------
    InputError
        No plan was found, with the nearest that works; or wishes that do not go together.
    """
    _check_isolated_pins(problem)
    if problem.target == "latency" and len(problem.pools) > 1:
        raise InputError("the least latency with isolated groups: plan each group alone, on its part of the GPUs")
    left = [each.count for each in problem.gpus]
    parts: list[tuple[Packed, Bound]] = []
    for only in problem.pools:
        packed, bound = _search_pool(problem, problem.packer(only), left)
        parts.append((packed, bound))
        left = [None if count is None else count - packed.kinds.count(kind) for kind, count in enumerate(left)]
    return _side_by_side(parts)


def _check_isolated_pins(problem: Problem) -> None:
    """Refuse pins of isolated groups: theirs are the servers behind those of all others, however many these are."""
    apart = {a for only in problem.pools[1:] for a in only}
    name = next((problem.adapters.name[a] for a in problem.pinned if a in apart), None)
    if name is not None:
        raise InputError(
            f"adapter {name!r} is pinned, and its group is isolated: an isolated group has its own servers; leave out "
            "one of the two"
        )


def _search_pool(problem: Problem, packer: Packer, counts: Sequence[int | None]) -> tuple[Packed, Bound]:
    if problem.target == "latency":
        return _quickest(problem, packer, counts)
    assert problem.traffic.classes is not None
    classes = {int(problem.traffic.classes[a]) for a in packer.only if a != BASE}
    if len(problem.gpus) == 1 and (len(classes) <= 1 or packer.pinned):
        return _one_kind(problem, packer, counts[0])
    if packer.pinned:
        raise InputError("pins need servers of one kind: give one --gpus")
    return _mixed(problem, packer, counts, classes)


def _one_kind(problem: Problem, packer: Packer, count: int | None) -> tuple[Packed, Bound]:
    check_pinned_servers(problem, packer, count)
    bound = _even_bound(problem, packer)
    least = max(bound.gpus, packer.num_pinned, 1 + problem.wishes.failures)
    if packer.pinned:
        check_pins(problem, packer, least)
    most = MOST_SERVERS if count is None else count
    packed = packer.fewest(0, least, most) if most >= least else None
    if packed is None:
        needed = None if count is None else packer.fewest(0, max(least, count + 1), MOST_SERVERS)
        raise InputError(too_few(problem, 0, count, needed, bound))
    return packed, bound


def _even_bound(problem: Problem, packer: Packer) -> Bound:
    found = packer.least_by_even_share(0)
    if found is None:
        raise InputError(hopeless(problem, packer))
    fewer = f"with one less, a server of an equal part of load and adapters fails: {found - 1}"
    why = fewer if found > 1 else "there must be one"
    return Bound(found, "even share", why)


def _mixed(problem: Problem, packer: Packer, counts: Sequence[int | None], classes: set[int]) -> tuple[Packed, Bound]:
    """Several classes or kinds: how many servers of each mix; and even dealing where it is as good."""
    assert problem.traffic.classes is not None
    num_classes = int(problem.traffic.classes.max()) + 1
    needed = [c in classes for c in range(num_classes)] + [BASE in packer.only]
    columns = find_columns(problem.judge, num_classes, bool(problem.load[-1] > 0), len(problem.gpus), needed)
    if not columns:
        raise InputError(hopeless(problem, packer))
    columns, gpus = left_of(columns, problem.gpus, counts)
    low = lp_bound(columns, needed, gpus)
    name = f"configuration LP over {len(columns)} verified mixes"
    found = _by_columns(problem, packer, columns, gpus, needed)
    if len(problem.gpus) == 1:
        even = packer.least_by_even_share(0)
        most = min(counts[0] or MOST_SERVERS, len(found[0].kinds) - 1 if found else MOST_SERVERS)
        if even is not None and even <= most:
            packed = packer.fewest(0, even, most)
            found += [packed] if packed is not None else []
        low = min(low, even or low)
    if not found:
        free = [Gpus(each.profile, None, each.price_per_h) for each in problem.gpus]
        nearest = _numbers(problem.gpus, _by_columns(problem, packer, columns, free, needed))
        raise InputError(f"the counts of --gpus do not suffice: {nearest} would (at least {low} by {name})")
    best = min(found, key=lambda packed: (problem.cost(packed), len(packed.kinds)))
    return best, Bound(low, name, "another mix may do better: no proof beyond these")


def left_of(
    columns: Sequence[Column], gpus: Sequence[Gpus], counts: Sequence[int | None]
) -> tuple[list[Column], list[Gpus]]:
    """The columns of kinds of which something is left, and the kinds with what other pools left of them."""
    left = [column for column in columns if counts[column.kind] != 0]
    if not left:
        names = ", ".join(each.name for each in gpus)
        raise InputError(f"the counts of --gpus do not suffice: all servers are taken; give more of {names}")
    return left, [
        Gpus(each.profile, count or each.count, each.price_per_h) for each, count in zip(gpus, counts, strict=True)
    ]


def _by_columns(
    problem: Problem, packer: Packer, columns: Sequence[Column], gpus: Sequence[Gpus], needed: Sequence[bool]
) -> list[Packed]:
    classes = problem.traffic.classes
    assert classes is not None
    return [packed for packed, _ in by_columns(packer, columns, gpus, classes, needed, problem.by_price)]


def _numbers(gpus: Sequence[Gpus], found: Sequence[Packed]) -> str:
    """How many of each kind the first plan has."""
    if not found:
        return "no number of them"
    kinds = found[0].kinds
    return " and ".join(f"{kinds.count(k)} of {each.name}" for k, each in enumerate(gpus) if k in kinds)


def _quickest(problem: Problem, packer: Packer, counts: Sequence[int | None]) -> tuple[Packed, Bound]:
    """All the servers that are given, in equal parts of what their kind can do."""
    if len(problem.gpus) > 1:
        raise InputError("the least latency is planned for servers of one kind: give one --gpus")
    check_pinned_servers(problem, packer, counts[0])
    bound, number = _even_bound(problem, packer), counts[0] or 1
    found: list[tuple[float, Packed]] = []
    for half in packer.halves if number >= bound.gpus else ():
        packed = packer.verified(packer.deal(number, half), [0] * number)
        if packed is not None:
            packed = packer.finished(packed)
            found.append((worst_adapters(problem.judge, packed)[0].ttft_p99_ms, packed))
    if not found:
        needed = packer.fewest(0, max(bound.gpus, number + 1), MOST_SERVERS)
        raise InputError(too_few(problem, 0, number, needed, bound))
    return min(found, key=lambda each: each[0])[1], bound


def _side_by_side(parts: Sequence[tuple[Packed, Bound]]) -> tuple[Packed, Bound]:
    if len(parts) == 1:
        return parts[0]
    rows: list[tuple[int, int, float]] = []
    kinds: tuple[int, ...] = ()
    candidates: tuple[Any, ...] = ()
    for packed, _ in parts:
        rows += [(a, j + len(kinds), part) for a, j, part in packed.entries.rows()]
        kinds, candidates = kinds + packed.kinds, candidates + packed.candidates
    total = sum(bound.gpus for _, bound in parts)
    names = " + ".join(f"{bound.gpus} by {bound.name}" for _, bound in parts)
    return Packed(Entries.of(rows), kinds, candidates), Bound(total, "isolated groups", names)
