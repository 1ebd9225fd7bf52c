"""What a plan of a fleet is searched for: the judge, the kinds of server, the wishes as numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.columns import classes_of
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge
from loratwin.fleet.losses import bears_losses
from loratwin.fleet.packing import HALVES, Packed, Packer
from loratwin.fleet.plan_result import Target
from loratwin.fleet.traffic import Traffic
from loratwin.fleet.wishes import Wishes, pinned_servers, pools_of
from loratwin.metrics import Slo
from loratwin.plan.targets import NO_TARGETS, Targets
from loratwin.records.config import ranks_that_hold
from loratwin.workload import Workload
from loratwin.workload.arrays import F8, I4, Adapters

MOST_CLASSES = 8
"""Classes of adapters; where there would be more, groups are not told apart."""


def traffic_of(workloads: Sequence[Workload], targets: Targets = NO_TARGETS) -> Traffic:
    """The requests of a fleet, its adapters in classes; who keeps other limits is of another class.

    Raises
    ------
    InputError
        There is nothing to place, or nobody asks for it.
    """
    if not workloads or not len(workloads[0].adapters):
        raise InputError("the workload has no adapters; there is nothing to place")
    if not all(workload.num_requests for workload in workloads):
        raise InputError("the workload has no requests in its window; there is nothing to plan")
    adapters = workloads[0].adapters
    held = np.array([ranks_that_hold(rank)[0] for rank in adapters.rank.tolist()], np.int32)
    classes, pairs = classes_of(held, adapters.group)
    if len(pairs) > MOST_CLASSES:
        classes, _ = classes_of(held, _limits_of(adapters.group, targets))
    return Traffic(tuple(workloads), classes)


def _limits_of(group: I4, targets: Targets) -> I4:
    """A number for each adapter by the limits that it keeps, 0 for the common ones; shape (num_adapters,)."""
    number: dict[Slo | None, int] = {None: 0}
    for slo in targets.own.values():
        number.setdefault(slo, len(number))
    of_group = [number[targets.own.get(name)] for name in targets.groups] or [0]
    return np.array(of_group, np.int32)[np.minimum(group, len(of_group) - 1)]


@dataclass(frozen=True, eq=False)
class Problem:
    """One question, as all parts of the search see it.

    Parameters
    ----------
    judge
        Says of a server whether it works.
    gpus
        Kinds of server.

    Raises
    ------
    InputError
        Wishes name what the workload has not, or contradict each other.
    """

    judge: Judge
    gpus: tuple[Gpus, ...]
    target: Target
    wishes: Wishes
    load: F8 = field(init=False)
    """Tokens per second of each adapter, and last without adapter: shape (num_adapters + 1,)."""
    pinned: dict[int, tuple[int, ...]] = field(init=False)
    """Adapter -> servers that it must be on."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "load", self.traffic.tokens_per_s())
        object.__setattr__(self, "pinned", pinned_servers(self.wishes.pins, self.adapters, self.groups))

    @property
    def traffic(self) -> Traffic:
        """The requests of all servers together."""
        return self.judge.oracle.traffic

    @property
    def adapters(self) -> Adapters:
        """Of the workload."""
        return self.traffic.adapters

    def pinned_of(self, only: Sequence[int]) -> dict[int, tuple[int, ...]]:
        """The pins of these adapters."""
        wanted = set(only)
        return {a: servers for a, servers in self.pinned.items() if a in wanted}

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the workload's groups, by number."""
        return self.judge.oracle.targets.groups

    @cached_property
    def pools(self) -> tuple[tuple[int, ...], ...]:
        """Sets of adapters that share no server."""
        return tuple(pools_of(self.wishes.isolated, self.adapters, self.groups, bool(self.load[-1] > 0)))

    def packer(self, only: Sequence[int]) -> Packer:
        """What places these adapters, and stands the loss of a server where that is wished."""
        ranks = self.adapters.rank.tolist()

        def accepts(packed: Packed) -> bool:
            return not self.wishes.failures or bears_losses(self.judge, packed, self.load, ranks)

        share = self.wishes.replica_share
        halves = HALVES if share is None else (share,)
        return Packer(self.judge, self.load, tuple(only), self.pinned_of(only), accepts, halves)

    @property
    def by_price(self) -> bool:
        """Whether the price counts, and not the number of servers."""
        return self.target == "cheapest"

    def cost(self, packed: Packed) -> float:
        """What is to be least: servers, or their price an hour."""
        if not self.by_price:
            return float(len(packed.kinds))
        return sum(self.gpus[kind].price_per_h or 0.0 for kind in packed.kinds)
