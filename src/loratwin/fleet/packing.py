"""From dealt adapters to servers that the twin has verified: the fewest of one kind, and repair of what fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import ceil
from typing import NamedTuple

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.balance import HALF, Entries, deal, equal_parts, rebalance
from loratwin.fleet.judge import Judge, Server
from loratwin.fleet.traffic import Sample, contents
from loratwin.plan.choice import Candidate
from loratwin.records import EngineConfig
from loratwin.workload import BASE
from loratwin.workload.arrays import F8

HALVES = (HALF, 0.25, 1.0)
"""How far hot adapters are split unless told, in the order in which that is tried."""

GUESS_REQUESTS_PER_S = 32.0
"""Of one server, where the search for their number begins."""

FARTHEST, FARTHEST_MORE = 4, 16
"""The number of servers is searched up to so many times the least that an even share needs, and so many more."""

REPAIRS = 6
"""Rounds in which a failing server is relieved before there must be more servers."""

RELIEF = 0.02
"""Part of a server's mean load that a failing one is relieved of in each round."""

MOST_SEARCHED = 8
"""Failing servers of which each is searched at length for better slots; where more fail, all are relieved."""

LARGE, SAMPLE = 64, 32
"""Of more servers than this a sample is asked first: where most of it fails, nobody asks the others."""

FEW = 8
"""Servers up to which the fullest must work as they are dealt; of more that are alike a sample tells, and failing ones
are relieved."""

QUICK = 2
"""Configurations of each server that a sample is tried with: those that were tuned and that worked last."""

ROOMS, TUNED_BY = (1.03, 1.06, 1.1, 1.2), 8
"""Slots of a fleet are first chosen by a few of so many times the fewest servers, the first where most of them work."""

PATIENCE, LAST = 3, 50
"""Rounds of repair go on for so many times as long where no more than one server in so many still fails."""

SEARCHED_ALONE = 4
"""Servers of a kind up to which each gets a search of its own for slots and limits; of more, the fullest does."""


class Packed(NamedTuple):
    """A placement that was verified."""

    entries: Entries
    kinds: tuple[int, ...]  # of the servers
    candidates: tuple[Candidate, ...]  # what each is started with, all of which work


@dataclass
class Packer:
    """Places adapters on servers, asking the twin.

    Parameters
    ----------
    load
        Tokens per second of each adapter, and last without adapter: shape (num_adapters + 1,).
    pinned
        Adapter -> servers that it must be on.
    only
        Adapters that are placed, -1 is traffic without adapter.
    accepts
        What else a verified placement must stand, as the loss of a server.
    halves
        How far hot adapters are split, in the order in which that is tried.
    """

    judge: Judge
    load: F8
    only: tuple[int, ...]
    pinned: Mapping[int, Sequence[int]] = field(default_factory=dict)
    accepts: Callable[[Packed], bool] = lambda packed: True
    halves: tuple[float, ...] = HALVES

    @property
    def num_pinned(self) -> int:
        """Servers that pins name: there must be so many."""
        return 1 + max((j for servers in self.pinned.values() for j in servers), default=-1)

    @staticmethod
    def servers(entries: Entries, kinds: Sequence[int]) -> list[Server]:
        """The servers of a placement, as the twin is asked about them."""
        found = contents(*entries, len(kinds))
        return [Server(kind, content) for kind, content in zip(kinds, found, strict=True)]

    def deal(self, num_servers: int, half: float) -> Entries:
        """Evenly over servers that are alike."""
        return deal(self.load, equal_parts(num_servers), half, self.pinned, self.only)

    def even_share(self, num_servers: int, kind: int) -> Server:
        """An ideal server that gets one of so many equal parts."""
        traffic = self.judge.oracle.traffic
        classes = np.zeros(len(traffic.adapters), np.int32) if traffic.classes is None else traffic.classes
        own = set(classes[[a for a in self.only if a != BASE]].tolist())
        parts = [1 / num_servers if each in own else 0.0 for each in range(int(classes.max(initial=0)) + 1)]
        return Server(kind, Sample(tuple(parts), 1 / num_servers if BASE in self.only else 0.0))

    def least_by_even_share(self, kind: int) -> int | None:
        """The fewest servers of which each, with an equal part of everything, works; None: no number was found."""
        rate = np.append(self.judge.oracle.traffic.adapters.rate_per_s, self._base_rate)[list(self.only)].sum()
        most = max(1, len(self.only)) * 64

        def works(number: int) -> bool:
            share = self.even_share(number, kind)
            if number > 1 and self.judge.is_idle(share):
                return False  # so small a part has no request that could be late
            return self.judge.working([share], "fewest servers")[0] is not None

        number = max(1, int(rate / GUESS_REQUESTS_PER_S))
        if works(number):
            while number > 1 and works(number // 2):
                number //= 2
            return _least(works, number // 2, number)
        while not works(number := 2 * number):
            if number > most:
                return None
        return _least(works, number // 2, number)

    @property
    def _base_rate(self) -> float:
        return self.judge.oracle.traffic.workloads[0].base_rate_per_s

    def fewest(self, kind: int, least: int, most: int) -> Packed | None:
        """The fewest servers of one kind, from a number on for which nothing speaks against it; None: not even most.

        No more than some times the least are tried: what does not work there fails for another reason than load.
        """
        most = min(most, FARTHEST * least + FARTHEST_MORE)
        if least > FEW:
            self._tune_first(kind, least, most)
        if least > LARGE:
            return self._fewest_of_many(kind, least, most)
        return self._first_from(kind, least, most, step=1)

    def _fewest_of_many(self, kind: int, least: int, most: int) -> Packed | None:
        """The same where every number costs hundreds of simulations: a sample of the servers tells where to begin.

        Another way of splitting hot adapters is tried only where no number does with the first one.
        """
        for halves in (self.halves[:1], self.halves[1:]):
            packer = replace(self, halves=halves)
            first = packer._least_by_sample(kind, least, most) if halves else None
            found = None if first is None else packer._first_from(kind, first, most, step=max(1, least // 100))
            if found is not None:
                return found
        return None

    def _tune_first(self, kind: int, least: int, most: int) -> None:
        """Choose slots by a few servers: what is tried first of all others then works for most of them."""
        for number in dict.fromkeys(min(most, ceil(room * least)) for room in ROOMS):
            servers = self.servers(self.deal(number, self.halves[0]), [kind] * number)
            picked = np.linspace(0, number - 1, min(number, TUNED_BY)).astype(int).tolist()
            if self.judge.tune([servers[j] for j in picked]):
                return

    def _least_by_sample(self, kind: int, least: int, most: int) -> int | None:
        """The fewest servers from a number on of which a sample mostly works; None: not even of most."""

        def works(number: int) -> bool:
            return not self._mostly_fails(self.deal(number, self.halves[0]), [kind] * number)

        failed, number, step = least - 1, least, max(1, least // 50)
        while not works(number):
            if number >= most:
                return None
            failed, number, step = number, min(most, number + step), 2 * step
        return _least(works, failed, number)

    def _first_from(self, kind: int, least: int, most: int, step: int) -> Packed | None:
        """The fewest servers that are verified, from a number on; steps grow, then what was passed over is tried."""
        failed, number = least - 1, least
        found: Packed | None = None
        while found is None:
            found = self.evenly([kind] * number)
            if found is None:
                if number >= most:
                    return None
                failed, number, step = number, min(most, number + step), step + max(1, step // 2)
        while number - failed > 1:
            middle = (number + failed) // 2
            packed = self.evenly([kind] * middle)
            failed, number, found = (middle, number, found) if packed is None else (failed, middle, packed)
        return found

    def evenly(self, kinds: Sequence[int]) -> Packed | None:
        """Equal parts on servers of one kind, verified; None: some server fails, however hot adapters are split."""
        for half in self.halves:
            packed = self.verified(self.deal(len(kinds), half), kinds)
            if packed is not None:
                return packed
        return None

    def verified(
        self,
        entries: Entries,
        kinds: Sequence[int],
        among: Sequence[Sequence[int]] | None = None,
        repairs: int = REPAIRS,
    ) -> Packed | None:
        """The placement, changed where a server fails; None: that was not enough.

        Parameters
        ----------
        among
            Sets of servers between which adapters can be moved; None: all.
        """
        if self._is_hopeless(entries, kinds, alike=among is None and len(set(kinds)) == 1):
            return None
        relief = np.zeros(len(kinds))
        mean = float(self.load[list(self.only)].sum()) / len(kinds)
        for round_ in range(PATIENCE * repairs + 1):
            candidates, failing = self._candidates(self.servers(entries, kinds))
            if not failing:
                packed = Packed(entries, tuple(kinds), tuple(candidates))
                return packed if self.accepts(packed) else None
            most_failing = _most_failing(len(kinds)) if round_ < repairs else len(kinds) // LAST
            if round_ == PATIENCE * repairs or len(failing) > max(1, most_failing):
                return None
            relief[failing] += RELIEF * mean
            extra = relief + self._beyond_nominal(entries, len(kinds))
            for group in among or [range(len(kinds))]:
                most = 2 * len(set(group) & set(failing))
                alone = len(kinds) > FEW  # else every server would be another one, and be asked about anew
                entries = rebalance(
                    entries, self.load, len(kinds), most, 0.0, tuple(self.pinned), extra, group, evens_out=not alone
                )
        return None

    def _beyond_nominal(self, entries: Entries, num_servers: int) -> F8:
        """Tokens per second that the draws ask of each server beyond what its rates say; shape (num_servers,)."""
        traffic = self.judge.oracle.traffic
        drawn = np.array([traffic.drawn_tokens_per_s(content) for content in contents(*entries, num_servers)])
        found: F8 = drawn - entries.loads(self.load, num_servers)
        return found

    def _is_hopeless(self, entries: Entries, kinds: Sequence[int], alike: bool) -> bool:
        """Whether it is known early that too many servers fail."""
        if len(kinds) <= FEW or not alike:
            return not self._probed(entries, kinds) or (len(kinds) > LARGE and self._mostly_fails(entries, kinds))
        return self._mostly_fails(entries, kinds)

    def _probed(self, entries: Entries, kinds: Sequence[int]) -> bool:
        """Whether the fullest server of each kind, by load and by number, works with the first seed."""
        loads, counts = entries.loads(self.load, len(kinds)), entries.counts(len(kinds))
        probes = {max((j for j, each in enumerate(kinds) if each == kind), key=lambda j: (values[j], -j))
                  for kind in set(kinds) for values in (loads, counts)}  # fmt: skip
        servers = self.servers(entries, kinds)
        return None not in self.judge.working([servers[j] for j in sorted(probes)])

    def _mostly_fails(self, entries: Entries, kinds: Sequence[int]) -> bool:
        """Whether too many of a sample of the servers, evenly spread by load, fail with what worked last."""
        order = np.argsort(entries.loads(self.load, len(kinds)), kind="stable")
        number = min(SAMPLE, len(kinds))
        picked = order[np.linspace(0, len(kinds) - 1, number).astype(int)].tolist()
        servers = self.servers(entries, kinds)
        worked = self.judge.working([servers[j] for j in picked], "sample", most=QUICK)
        asked = {j: config for j, config in zip(picked, worked, strict=True) if config is not None}
        judged = self.judge.judged([servers[j] for j in asked], list(asked.values()), "sample")
        failing = number - sum(self.judge.works(each) for each in judged)
        return failing > _most_failing(len(kinds)) * number / len(kinds)

    def _candidates(self, servers: Sequence[Server]) -> tuple[list[Candidate], list[int]]:
        """What each server is started with, and the numbers of those for which nothing works."""
        configs = self.judge.working(servers)
        failing = [j for j, config in enumerate(configs) if config is None]
        if failing:
            return [], failing  # once these are relieved, all seeds are asked
        found = self.judge.judged(servers, [each for each in configs if each is not None], "all servers")
        failing = self._failing_with_more_slots(servers, found)
        if len(failing) <= max(1, min(MOST_SEARCHED, len(servers) // 4)):
            for j in list(failing):
                if (best := self.judge.best(servers[j])) is not None:
                    found[j] = best
                    failing.remove(j)
        return found, failing

    def _failing_with_more_slots(self, servers: Sequence[Server], found: list[Candidate]) -> list[int]:
        """Numbers of those that fail; single adapters often starve for a slot, so each is tried with one for all."""
        failing = [j for j, each in enumerate(found) if not self.judge.works(each)]
        roomier = {j: self.judge.with_all_slots(servers[j], found[j].config) for j in failing}
        asked = {j: config for j, config in roomier.items() if config is not None}
        tried = self.judge.judged([servers[j] for j in asked], list(asked.values()), "all servers")
        for j, each in zip(asked, tried, strict=True):
            if self.judge.works(each):
                found[j] = each
                failing.remove(j)
        return failing

    def finished(self, packed: Packed) -> Packed:
        """The same with the best slots and limits for each server, and with margins."""
        servers = self.servers(packed.entries, packed.kinds)
        candidates = list(packed.candidates)
        for _, numbers in _by_kind(packed.kinds):
            self._tune(servers, candidates, numbers)
        return packed._replace(candidates=tuple(self.judge.with_margins(servers, candidates)))

    def _tune(self, servers: Sequence[Server], candidates: list[Candidate], numbers: Sequence[int]) -> None:
        """Search for the fullest, or each of a few; what is best for the fullest is taken where it works."""
        alone = numbers if len(numbers) <= SEARCHED_ALONE else [self._fullest(servers, numbers)]
        for j in alone:
            candidates[j] = self.judge.best(servers[j]) or candidates[j]
        others = [j for j in numbers if j not in alone]
        if not others:
            return
        configs = [self._like(servers[j], candidates[alone[0]].config) for j in others]
        judged = self.judge.judged([servers[j] for j in others], configs, "limits")
        for j, each in zip(others, judged, strict=True):
            if self.judge.works(each):
                candidates[j] = each

    def _fullest(self, servers: Sequence[Server], numbers: Sequence[int]) -> int:
        def asked(j: int) -> float:
            content = servers[j].content
            assert not isinstance(content, Sample)
            return float(sum(self.load[share.adapter] * (share.high - share.low) for share in content))

        return max(numbers, key=lambda j: (asked(j), -j))

    def _like(self, server: Server, config: EngineConfig) -> EngineConfig:
        """The same slots and sequences, for the adapters of this server."""
        number = self.judge.num_adapters(server)
        return self.judge.finder(server).config(number, min(config.max_loras, number), config.max_num_seqs)


def _most_failing(num_servers: int) -> int:
    """Failing servers that others may relieve; of a large fleet fewer, since each round asks about all of them."""
    return num_servers // (4 if num_servers > LARGE else 2)


def _by_kind(kinds: Sequence[int]) -> Iterator[tuple[int, list[int]]]:
    for kind in sorted(set(kinds)):
        yield kind, [j for j, each in enumerate(kinds) if each == kind]


def _least(works: Callable[[int], bool], failed: int, good: int) -> int:
    """Bisection: the least number that works, between one that does not (or 0) and one that does."""
    while good - failed > 1:
        middle = (good + failed) // 2
        failed, good = (failed, middle) if works(middle) else (middle, good)
    return good


def check_holdable(judge: Judge, names: Sequence[str]) -> None:
    """Refuse adapters that no GPU holds, alone on it with one slot.

    Raises
    ------
    InputError
        Names the adapter, why, and the largest rank that a GPU holds.
    """
    from loratwin.records.config import LORA_RANKS

    adapters = judge.oracle.traffic.adapters
    kinds = range(len(judge.oracle.profiles))
    for rank in sorted(set(adapters.rank.tolist()), reverse=True):
        reasons = [_why_not(judge, kind, rank, int(np.flatnonzero(adapters.rank == rank)[0])) for kind in kinds]
        if all(reasons):
            name = names[int(np.flatnonzero(adapters.rank == rank)[0])]
            fits = [each for each in LORA_RANKS if any(not _why_not(judge, kind, each, 0) for kind in kinds)]
            nearest = f"the highest rank that one holds is {fits[-1]}" if fits else "none holds an adapter of any rank"
            raise InputError(f"adapter {name!r} has rank {rank}, and no GPU holds it: {reasons[0]}; {nearest}")


def _why_not(judge: Judge, kind: int, rank: int, adapter: int) -> str:
    """Why a server does not start with one slot of this rank; empty: it does."""
    from loratwin.records.config import ranks_that_hold
    from loratwin.simulate import served_capacity

    settings = judge.settings[kind]
    config = EngineConfig(
        max_loras=1,
        max_lora_rank=ranks_that_hold(rank)[0],
        max_num_seqs=settings.sequence_options()[0],
        max_num_batched_tokens=settings.max_num_batched_tokens,
        max_model_len=settings.max_model_len,
        gpu_memory_utilization=settings.gpu_memory_utilization,
    )
    capacity = served_capacity(judge.oracle.profiles[kind], config)
    return "" if capacity.starts else capacity.reason
