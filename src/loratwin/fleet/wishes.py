"""What a placement must keep to besides that every server works: pins, isolated groups, a loss, moves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet.balance import Entries
from loratwin.fleet.placement import Placement
from loratwin.plan.question import AnyWorkload
from loratwin.workload import BASE, WorkloadSpec
from loratwin.workload.arrays import Adapters


@dataclass(frozen=True)
class Wishes:
    """What a placement must keep to, besides that every server works.

    Parameters
    ----------
    pins
        Adapter or group -> names of the servers that it must be on (`gpu-0` is the first), in equal parts.
    isolated
        Groups that share no server with others.
    failures
        Servers that can be lost, 0 or 1: the others then still carry everything, at the rates as they are.
    present
        Where the adapters are now.
    most_moves
        Adapters that may be brought to a server that does not hold them now; None: any number.
    move_price
        What bringing one adapter to a server costs, in what servers cost: the currency of their prices, or hours of one
        server where the fewest are asked for. Above 0 the present placement is changed as little as pays, over the
        workload's window.
    replica_share
        Part of a server's mean load that one replica of an adapter carries at most: a small one makes many replicas, so
        that what grows unforeseen does so on many servers. None: a half, or what works.
    """

    pins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    isolated: Sequence[str] = ()
    failures: int = 0
    present: Placement | None = None
    most_moves: int | None = None
    move_price: float = 0.0
    replica_share: float | None = None


def as_specified(wishes: Wishes, workload: AnyWorkload) -> Wishes:
    """The same with what the groups of a specification ask for; who is pinned already keeps to that."""
    if not isinstance(workload, WorkloadSpec):
        return wishes
    pins = {
        name: group.pin
        for group in workload.groups
        if group.pin is not None and group.name not in wishes.pins
        for name in group.adapter_names()
        if name not in wishes.pins
    }
    isolated = [group.name for group in workload.groups if group.isolated]
    return replace(wishes, pins={**pins, **wishes.pins}, isolated=tuple(dict.fromkeys([*wishes.isolated, *isolated])))


def check_wishes(wishes: Wishes) -> None:
    """Refuse wishes that no workload could meet.

    Raises
    ------
    InputError
        More than one server lost, moves without a present placement, or a price or share that is none.
    """
    if wishes.failures not in (0, 1):
        raise InputError(f"failures = {wishes.failures}: a plan stands the loss of 0 or 1 servers")
    if wishes.most_moves is not None and wishes.present is None:
        raise InputError("moves are counted from a present placement, and none is given")
    if not 0 <= wishes.move_price < inf:
        raise InputError(f"move_price = {wishes.move_price:g}: what a move costs is 0 or more")
    if wishes.replica_share is not None and not 0.001 <= wishes.replica_share <= 1:
        raise InputError(f"replica_share = {wishes.replica_share:g}: a part of a server's load is from 0.001 to 1")


def pinned_servers(
    pins: Mapping[str, Sequence[str]], adapters: Adapters, groups: Sequence[str]
) -> dict[int, tuple[int, ...]]:
    """Adapter -> numbers of the servers that it must be on.

    Raises
    ------
    InputError
        A pin names no server, or two name different ones for an adapter.
    UnknownNameError
        A name is neither an adapter nor a group.
    """
    index = {name: i for i, name in enumerate(adapters.name)}
    found: dict[int, tuple[int, ...]] = {}
    for name, servers in pins.items():
        places = tuple(dict.fromkeys(_server_number(each) for each in servers))
        if not places:
            raise InputError(f"pin {name!r}: names no server; write {name}=gpu-0")
        for adapter in [index[name]] if name in index else members(name, adapters, groups):
            if found.get(adapter, places) != places:
                raise InputError(
                    f"pins contradict: adapter {adapters.name[adapter]!r} is pinned to "
                    f"{_server_names(found[adapter])} and to {_server_names(places)}; keep one of them"
                )
            found[adapter] = places
    return found


def members(group: str, adapters: Adapters, groups: Sequence[str]) -> list[int]:
    """The adapters of a group.

    Raises
    ------
    UnknownNameError
        No such group.
    """
    if group not in groups:
        raise UnknownNameError("adapter or group", group, [*groups, *adapters.name[:50]])
    return [int(a) for a in np.flatnonzero(adapters.group == groups.index(group))]


def pools_of(
    isolated: Sequence[str], adapters: Adapters, groups: Sequence[str], has_base: bool
) -> list[tuple[int, ...]]:
    """Sets of adapters (-1: traffic without one) that share no server: what is not isolated, then each group that is.

    Raises
    ------
    UnknownNameError
        No such group.
    """
    apart = [tuple(members(group, adapters, groups)) for group in dict.fromkeys(isolated)]
    taken = {a for pool in apart for a in pool}
    rest = tuple(a for a in range(len(adapters)) if a not in taken)
    base = (BASE,) if has_base else ()
    return [each for each in ((*base, *rest), *apart) if each]


def keeps_places(entries: Entries, pinned: Mapping[int, Sequence[int]], pools: Sequence[Sequence[int]]) -> bool:
    """Whether pinned adapters are on their servers and no others, and no server has adapters of two pools."""
    pool = {a: i for i, pool in enumerate(pools) for a in pool}
    homes: dict[int, set[int]] = {}
    of_server: dict[int, int] = {}
    for adapter, server, _ in entries.rows():
        homes.setdefault(adapter, set()).add(server)
        if of_server.setdefault(server, pool[adapter]) != pool[adapter]:
            return False
    return all(homes.get(a) == set(servers) for a, servers in pinned.items())


def _server_number(name: str) -> int:
    number = name.removeprefix("gpu-")
    if not (name.startswith("gpu-") and number.isdecimal()):
        raise InputError(f"pin: {name!r} is no server of a plan; they are gpu-0, gpu-1, ...")
    return int(number)


def _server_names(numbers: Sequence[int]) -> str:
    return ", ".join(f"gpu-{j}" for j in numbers)
