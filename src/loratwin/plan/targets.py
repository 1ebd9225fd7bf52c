"""The limits that a plan keeps, and of whom: of all, of each group or adapter, of single groups."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from loratwin.metrics import Slo, SloFor, SloRows, missing_rows, only_of, slo_rows
from loratwin.perf import Uncertainty
from loratwin.records import Run
from loratwin.records.columns import BoolArray, IntArray
from loratwin.simulate import held_rows, simulated_slo


@dataclass(frozen=True)
class Targets:
    """Limits, and of whom they are asked.

    Parameters
    ----------
    slo
        Of the server as a whole, but for the requests of groups that have limits of their own; None: none.
    slo_for
        Of whom limits are asked besides: `groups` or `adapters`, each of them.
    groups
        Names of the workload's groups, by index.
    own
        Limits of groups by name, each in place of `slo` for that group's requests.
    """

    slo: Slo | None = None
    slo_for: SloFor = "all"
    groups: tuple[str, ...] = ()
    own: Mapping[str, Slo] = field(default_factory=dict)

    @property
    def are_any(self) -> bool:
        """Whether there are limits at all."""
        return self.slo is not None or bool(self.own)

    def simulated(self, served_share: float, uncertainty: Uncertainty | None) -> Targets:
        """The same as the twin's own figures are held to it: `simulated_slo`."""

        def held(slo: Slo) -> Slo:
            return simulated_slo(slo, served_share, uncertainty)

        return replace(self, slo=self.slo and held(self.slo), own={name: held(slo) for name, slo in self.own.items()})

    def common(self, run: Run, group: IntArray) -> Run:
        """The run with only the requests that `slo` is asked of; there may be none.

        Parameters
        ----------
        group
            Group of each adapter, shape (num_adapters,).
        """
        if not self.own:
            return run
        return only_of(run, ~np.isin(_of_requests(run, group), [self.groups.index(name) for name in self.own]))

    def part(self, run: Run, group: IntArray, name: str) -> Run:
        """The run with only the requests of a group."""
        return only_of(run, _of_requests(run, group) == self.groups.index(name))

    def missing(self, run: Run, group: IntArray, common: Run) -> tuple[str, ...]:
        """Groups and adapters that miss the limits that are asked of them.

        Parameters
        ----------
        common
            `self.common(run, group)`.
        """
        found: list[str] = []
        if self.slo is not None and self.slo_for != "all":
            found += missing_rows(common, self.slo, self.slo_for, group, self.groups)
        for name, slo in self.own.items():
            part = self.part(run, group, name)
            for reach in self._reaches:
                found += missing_rows(part, slo, reach, group, self.groups)
        return tuple(dict.fromkeys(found))

    def rows(self, run: Run, group: IntArray, common: Run) -> list[SloRows]:
        """The limits that are asked of each, as `missing` asks them, with all figures."""
        found: list[SloRows] = []
        if self.slo is not None and self.slo_for != "all":
            found.append(slo_rows(common, self.slo, self.slo_for, group, self.groups))
        for name, slo in self.own.items():
            part = self.part(run, group, name)
            found += [slo_rows(part, slo, reach, group, self.groups) for reach in self._reaches]
        return found

    @property
    def _reaches(self) -> tuple[SloFor, ...]:
        """Of whom a group's own limits are asked: of it, and of its adapters where each is to keep them."""
        return ("groups", "adapters") if self.slo_for == "adapters" else ("groups",)


NO_TARGETS = Targets()
"""No limits at all."""


@dataclass(frozen=True, eq=False)
class OwnLimits:
    """A group with limits of its own, and what it makes of them.

    Parameters
    ----------
    whole
        One row: the group.
    customers
        A row for each of its adapters.
    """

    name: str
    slo: Slo
    whole: SloRows
    customers: SloRows


def customers(targets: Targets, run: Run, group: IntArray, uncertainty: Uncertainty | None) -> SloRows | None:
    """The common limits of every adapter that they are asked of; None: there are none."""
    if targets.slo is None:
        return None
    own = [targets.groups.index(name) for name in targets.own]
    rows = held_rows(run, targets.slo, uncertainty, of=targets.common(run, group))
    return rows.of(_padded(~np.isin(group, own), len(rows.name)))


def own_limits(targets: Targets, run: Run, group: IntArray, uncertainty: Uncertainty | None) -> tuple[OwnLimits, ...]:
    """What each group with limits of its own makes of them: the figures are the twin's, the verdicts a real run's."""
    found = []
    for name, slo in targets.own.items():
        number, part = targets.groups.index(name), targets.part(run, group, name)
        if not (group == number).any():  # of a server that has only some of the adapters
            continue
        whole = held_rows(run, slo, uncertainty, "groups", part, group, targets.groups)
        each = held_rows(run, slo, uncertainty, of=part)
        is_group: BoolArray = np.array([row == name for row in whole.name], dtype=bool)
        found.append(OwnLimits(name, slo, whole.of(is_group), each.of(_padded(group == number, len(each.name)))))
    return tuple(found)


def _of_requests(run: Run, group: IntArray) -> IntArray:
    """Group of each request, -1 without adapter; shape (num_requests,)."""
    of_adapter: IntArray = np.append(group, np.int32(-1))
    return of_adapter[run.requests.adapter]  # -1 is the last


def _padded(which: BoolArray, length: int) -> BoolArray:
    """With the row of requests without adapter, where there is one."""
    return np.append(which, np.ones(length - len(which), dtype=bool))
