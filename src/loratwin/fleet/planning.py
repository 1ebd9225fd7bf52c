"""The plan of a fleet: how many servers of which kind, which adapters on each, with which slots and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import inf, isnan, nan
from typing import get_args

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet.balance import Entries, moves, rebalance, relabelled
from loratwin.fleet.columns import Column, by_columns, classes_of, find_columns, lp_bound
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Oracle, Server, Task
from loratwin.fleet.losses import bears_losses, failing_after, fullest, reserves
from loratwin.fleet.packing import HALVES, Packed, Packer, check_holdable
from loratwin.fleet.placement import Placement
from loratwin.fleet.placement import Server as PlacedServer
from loratwin.fleet.plan_result import Bound, FleetPlan, PlannedServer, Stress, Target, WorstAdapter
from loratwin.fleet.traffic import Sample, Traffic
from loratwin.metrics import Slo, SloFor, per_adapter
from loratwin.plan.question import HEADROOM, SEEDS, Asked, drawn_for, settings_for, targets
from loratwin.plan.search import Progress
from loratwin.plan.trial import Result, Trial
from loratwin.records.config import ranks_that_hold
from loratwin.simulate.workers import Workers
from loratwin.workload import BASE
from loratwin.workload.arrays import I4

MOST_SERVERS = 100_000
MOST_CLASSES = 8
"""Classes of adapters; where there would be more, groups are not told apart."""

WORST = 10
"""Adapters that are named as the worst."""

LOOKED_AT = 64
"""Servers whose adapters are looked at for the worst: those of the longest TTFT."""

GROWTH, TRIPLED = 1.2, 3.0


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
    """

    pins: Mapping[str, Sequence[str]] = field(default_factory=dict)
    isolated: Sequence[str] = ()
    failures: int = 0
    present: Placement | None = None
    most_moves: int | None = None


def plan_fleet(
    workload: Asked,
    gpus: Sequence[Gpus],
    *,
    target: Target = "fewest",
    slo: Slo | str | None = None,
    slo_for: SloFor | None = None,
    headroom: float = HEADROOM,
    confidence: float | None = None,
    wishes: Wishes | None = None,
    seeds: Sequence[int] = SEEDS,
    slots: Sequence[int] | None = None,
    max_num_seqs: Sequence[int] | int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    processes: int = 1,
    progress: Progress | None = None,
    name: str = "workload",
) -> FleetPlan:
    """Find how many servers a workload needs, and which adapters live on which.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already, then `seeds` is ignored.
    gpus
        Kinds of server to choose from, with the number that can be had and the price.
    target
        `fewest` servers; the `cheapest` by their prices; or `latency`: all that are given, for the least TTFT (99th
        percentile) of the worst adapter.
    slo, slo_for, headroom, confidence
        What every server must keep, as `loratwin.find_plan` has them.
    wishes
        Pins, isolation, a server that may be lost, moves; None: none.
    seeds
        Draws of the workload that every server is verified with.
    slots, max_num_seqs, max_num_batched_tokens, max_model_len, gpu_memory_utilization
        As `loratwin.find_plan` has them.
    processes
        More than 1 starts further Python processes: a script then needs `if __name__ == "__main__":`. The result is the
        same for any number.
    progress
        Called with the number of simulations done, the number known to be needed so far, and what they are for.
    name
        Of the workload, to be shown.

    Returns
    -------
    FleetPlan
        Every server in it was simulated with what it gets, and works.

    Raises
    ------
    InputError
        No such plan was found: an adapter that no GPU holds, counts that do not suffice, pins that contradict, more
        moves than allowed. One line with the nearest that works.
    """
    wishes = wishes or Wishes()
    _check(gpus, target, wishes)
    limits, reach, groups = targets(workload, slo, slo_for)
    traffic = _traffic(drawn_for(workload, seeds))
    settings = [
        settings_for(
            each.profile,
            objective="latency" if target == "latency" else "throughput",
            slo=limits,
            headroom=headroom,
            confidence=confidence,
            slots=slots,
            advised=None,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            others={},
            extrapolate=False,
        )
        for each in gpus
    ]
    oracle = Oracle(traffic, tuple(each.profile for each in gpus), limits, reach, groups)
    with Workers[Task, Result](oracle.measure, processes) as workers:
        judge = Judge(oracle, settings, workers, progress)
        check_holdable(judge, traffic.adapters.name)
        return _Planner(judge, tuple(gpus), target, wishes, groups).plan(name)


def _check(gpus: Sequence[Gpus], target: str, wishes: Wishes) -> None:
    if not gpus:
        raise InputError("gpus: name one kind at least")
    if target not in get_args(Target):
        raise UnknownNameError("target", target, get_args(Target))
    if target == "cheapest" and any(each.price_per_h is None for each in gpus):
        raise InputError("the cheapest fleet needs a price for each kind: --gpus PROFILE@2.5")
    if target == "latency" and any(each.count is None for each in gpus):
        raise InputError("the least latency is asked for on given GPUs: say how many, as --gpus PROFILE:8")
    if len({each.name for each in gpus}) < len(gpus):
        raise InputError("gpus: a profile is given twice; give it once, with the number of both")
    if wishes.failures not in (0, 1):
        raise InputError(f"failures = {wishes.failures}: a plan stands the loss of 0 or 1 servers")
    if wishes.most_moves is not None and wishes.present is None:
        raise InputError("moves are counted from a present placement, and none is given")


def _traffic(workloads: tuple) -> Traffic:  # type: ignore[type-arg]
    if not workloads or not len(workloads[0].adapters):
        raise InputError("the workload has no adapters; there is nothing to place")
    if not all(workload.num_requests for workload in workloads):
        raise InputError("the workload has no requests in its window; there is nothing to plan")
    adapters = workloads[0].adapters
    held = np.array([ranks_that_hold(rank)[0] for rank in adapters.rank.tolist()], np.int32)
    classes, pairs = classes_of(held, adapters.group)
    if len(pairs) > MOST_CLASSES:
        classes, _ = classes_of(held, np.zeros_like(adapters.group))
    return Traffic(workloads, classes)


class _Planner:
    """One plan in the making."""

    def __init__(
        self, judge: Judge, gpus: tuple[Gpus, ...], target: Target, wishes: Wishes, groups: tuple[str, ...]
    ) -> None:
        self.judge, self.gpus, self.target, self.wishes, self.groups = judge, gpus, target, wishes, groups
        self.traffic = judge.oracle.traffic
        self.adapters = self.traffic.adapters
        self.load = self.traffic.tokens_per_s()
        self.pinned = self._pinned()
        self.num_pinned = 1 + max((j for servers in self.pinned.values() for j in servers), default=-1)

    def plan(self, name: str) -> FleetPlan:
        """Pool by pool, then what the present placement asks, then the figures."""
        pools = self._pools()
        if self.pinned and len(pools) > 1:
            raise InputError("pins and isolated groups together: an isolated group has its own servers; pin the others")
        if self.target == "latency" and len(pools) > 1:
            raise InputError("the least latency with isolated groups: plan each group alone, on its part of the GPUs")
        left = [each.count for each in self.gpus]
        parts: list[tuple[Packed, Bound]] = []
        for only in pools:
            packed, bound = self._pool(only, left)
            parts.append((packed, bound))
            left = [None if count is None else count - packed.kinds.count(kind) for kind, count in enumerate(left)]
        packed, bound = _together(parts)
        packed, changes = self._as_present(packed, self._packer(tuple(sorted({a for only in pools for a in only}))))
        packed = self._finished(packed)
        return self._result(packed, bound, changes, name)

    def _pinned(self) -> dict[int, tuple[int, ...]]:
        index = {name: i for i, name in enumerate(self.adapters.name)}
        found: dict[int, tuple[int, ...]] = {}
        for name, servers in self.wishes.pins.items():
            places = tuple(dict.fromkeys(_server_number(each) for each in servers))
            if not places:
                raise InputError(f"pin {name!r}: names no server; write {name}=gpu-0")
            members = [index[name]] if name in index else self._members(name)
            for adapter in members:
                if found.get(adapter, places) != places:
                    raise InputError(
                        f"pins contradict: adapter {self.adapters.name[adapter]!r} is pinned to "
                        f"{_server_names(found[adapter])} and to {_server_names(places)}; keep one of them"
                    )
                found[adapter] = places
        return found

    def _members(self, group: str) -> list[int]:
        if group not in self.groups:
            raise UnknownNameError("adapter or group", group, [*self.groups, *self.adapters.name[:50]])
        return [int(a) for a in np.flatnonzero(self.adapters.group == self.groups.index(group))]

    def _pools(self) -> list[tuple[int, ...]]:
        apart = [tuple(self._members(group)) for group in dict.fromkeys(self.wishes.isolated)]
        taken = {a for pool in apart for a in pool}
        rest = tuple(a for a in range(len(self.adapters)) if a not in taken)
        base = (BASE,) if self.load[-1] > 0 else ()
        return [each for each in ((*base, *rest), *apart) if each]

    def _packer(self, only: tuple[int, ...]) -> Packer:
        ranks = self.adapters.rank.tolist()

        def accepts(packed: Packed) -> bool:
            return not self.wishes.failures or bears_losses(self.judge, packed, self.load, ranks)

        return Packer(self.judge, self.load, only, self.pinned, accepts)

    def _pool(self, only: tuple[int, ...], counts: Sequence[int | None]) -> tuple[Packed, Bound]:
        packer = self._packer(only)
        if self.target == "latency":
            return self._quickest(packer, counts)
        assert self.traffic.classes is not None
        classes = {int(self.traffic.classes[a]) for a in only if a != BASE}
        if len(self.gpus) == 1 and (len(classes) <= 1 or self.pinned):
            return self._one_kind(packer, counts[0])
        if self.pinned:
            raise InputError("pins need servers of one kind: give one --gpus")
        return self._by_columns(packer, counts, classes)

    def _one_kind(self, packer: Packer, count: int | None) -> tuple[Packed, Bound]:
        bound = self._even_bound(packer)
        least = max(bound.gpus, self.num_pinned, 1 + self.wishes.failures)
        if self.pinned:
            self._check_pins(packer, least)
        most = MOST_SERVERS if count is None else count
        packed = packer.fewest(0, least, most) if most >= least else None
        if packed is None:
            needed = packer.fewest(0, max(least, (count or 0) + 1), MOST_SERVERS)
            raise InputError(self._too_few(0, count, needed, bound))
        return packed, bound

    def _even_bound(self, packer: Packer) -> Bound:
        found = packer.least_by_even_share(0)
        if found is None:
            raise InputError(self._hopeless(packer))
        fewer = f"with one less, a server of an equal part of load and adapters fails: {found - 1}"
        why = fewer if found > 1 else "there must be one"
        return Bound(found, "even share", why)

    def _too_few(self, kind: int, count: int | None, needed: Packed | None, bound: Bound) -> str:
        name = self.gpus[kind].name
        nearest = "no number of them was found to do" if needed is None else f"{len(needed.kinds)} would"
        return f"{count} servers of {name} do not suffice: {nearest} (at least {bound.gpus} by {bound.name})"

    def _hopeless(self, packer: Packer) -> str:
        """Why no number of servers does: what one with hardly any traffic reaches."""
        server = packer.even_share(4096, 0)
        finder, number = self.judge.finder(server), self.judge.num_adapters(server)
        config = finder.config(number, number, self.judge.settings[0].sequence_options()[-1])
        capacity = self.judge.oracle.bench(server).capacity(number, config)
        if not capacity.starts:
            return f"no server of {self.gpus[0].name} starts: {capacity.reason}"
        (result,) = self.judge.simulate([Task(server, Trial(config, number))], "why not")
        seen = {**result.outcome.slo_s, **result.outcome.real_slo_s} if result.outcome is not None else {}
        reached = ", ".join(f"{limit} = {1e3 * value:.0f} ms" for limit, value in seen.items())
        asked = f"the SLO {self.judge.oracle.slo} is out of reach: " if self.judge.oracle.slo else "nothing works: "
        return f"{asked}a server of {self.gpus[0].name} with hardly any traffic reaches {reached or 'nothing'}"

    def _check_pins(self, packer: Packer, least: int) -> None:
        """Refuse pins that alone are too much for a server."""
        alone = Packer(self.judge, self.load, tuple(self.pinned), self.pinned)
        entries = alone.deal(least, HALVES[0])
        servers = [each for each in alone.servers(entries, [0] * least)]
        used = [j for j, each in enumerate(servers) if each.content]
        for j, config in zip(used, self.judge.working([servers[j] for j in used], "pins"), strict=True):
            if config is None:
                names = [self.adapters.name[a] for a, places in self.pinned.items() if j in places]
                raise InputError(
                    f"pins put {len(names)} adapters on gpu-{j} ({', '.join(names[:3])} ...), which it cannot carry: "
                    f"pin {self._most_pins(servers[j])} of them there, or split them, as NAME=gpu-{j},gpu-{j + 1}"
                )

    def _most_pins(self, server: Server) -> int:
        assert not isinstance(server.content, Sample)
        content = tuple(sorted(server.content, key=lambda share: float(self.load[share.adapter])))
        good, bad = 0, len(content)
        while bad - good > 1:
            middle = (good + bad) // 2
            part = Server(server.kind, tuple(sorted(content[:middle])))
            good, bad = (middle, bad) if self.judge.working([part], "pins")[0] is not None else (good, middle)
        return good

    def _by_columns(self, packer: Packer, counts: Sequence[int | None], classes: set[int]) -> tuple[Packed, Bound]:
        """Several classes or kinds: how many servers of each mix; and even dealing where it is as good."""
        assert self.traffic.classes is not None
        num_classes = int(self.traffic.classes.max()) + 1
        needed = [c in classes for c in range(num_classes)] + [BASE in packer.only]
        columns = self._columns(num_classes, needed)
        if not columns:
            raise InputError(self._hopeless(packer))
        gpus = [Gpus(each.profile, count, each.price_per_h) for each, count in zip(self.gpus, counts, strict=True)
                if count is None or count > 0]  # fmt: skip
        if len(gpus) < len(self.gpus):
            raise InputError(
                "the counts of --gpus do not suffice: give more of " + ", ".join(g.name for g in self.gpus)
            )
        low = lp_bound(columns, needed, gpus)
        name = f"configuration LP over {len(columns)} verified mixes"
        found = [
            packed for packed, _ in by_columns(packer, columns, gpus, self.traffic.classes, needed, self._by_price)
        ]
        if len(self.gpus) == 1:
            even = packer.least_by_even_share(0)
            most = min(counts[0] or MOST_SERVERS, len(found[0].kinds) - 1 if found else MOST_SERVERS)
            if even is not None and even <= most:
                packed = packer.fewest(0, even, most)
                found += [packed] if packed is not None else []
            low = min(low, even or low)
        if not found:
            free = [Gpus(each.profile, None, each.price_per_h) for each in self.gpus]
            others = [p for p, _ in by_columns(packer, columns, free, self.traffic.classes, needed, self._by_price)]
            nearest = " and ".join(
                f"{others[0].kinds.count(k)} of {each.name}" for k, each in enumerate(self.gpus) if k in others[0].kinds
            ) if others else "no number of them"  # fmt: skip
            raise InputError(f"the counts of --gpus do not suffice: {nearest} would (at least {low} by {name})")
        best = min(found, key=lambda packed: (self._cost(packed), len(packed.kinds)))
        return best, Bound(low, name, "another mix may do better: no proof beyond these")

    @property
    def _by_price(self) -> bool:
        return self.target == "cheapest"

    def _cost(self, packed: Packed) -> float:
        if not self._by_price:
            return float(len(packed.kinds))
        return sum(self.gpus[kind].price_per_h or 0.0 for kind in packed.kinds)

    def _columns(self, num_classes: int, needed: Sequence[bool]) -> list[Column]:
        """Mixes of the classes that are asked for."""
        return find_columns(self.judge, num_classes, bool(self.load[-1] > 0), len(self.gpus), needed)

    def _quickest(self, packer: Packer, counts: Sequence[int | None]) -> tuple[Packed, Bound]:
        """All the servers that are given, in equal parts of what their kind can do."""
        if len(self.gpus) > 1:
            raise InputError("the least latency is planned for servers of one kind: give one --gpus")
        bound, number = self._even_bound(packer), counts[0] or 1
        found: list[tuple[float, Packed]] = []
        for half in HALVES if number >= max(bound.gpus, self.num_pinned) else ():
            packed = packer.verified(packer.deal(number, half), [0] * number)
            if packed is not None:
                packed = packer.finished(packed)
                found.append((self._worst(packed)[0].ttft_p99_ms, packed))
        if not found:
            needed = packer.fewest(0, max(bound.gpus, number + 1), MOST_SERVERS)
            raise InputError(self._too_few(0, number, needed, bound))
        return min(found, key=lambda each: each[0])[1], bound

    def _as_present(self, packed: Packed, packer: Packer) -> tuple[Packed, int | None]:
        """Servers numbered so that most adapters stay; where that is too many moves, the present placement changed."""
        present = self.wishes.present
        if present is None:
            return packed, None
        old = self._present_entries(present)
        if not self.pinned:
            packed = _renumbered(packed, old)
        needed = moves(packed.entries, old)
        most = self.wishes.most_moves
        if most is None or needed <= most:
            return packed, needed
        changed = self._changed(old, present.num_servers, len(packed.kinds), most, packer)
        if changed is None:
            raise InputError(
                f"{needed} adapters would have to move, and {most} may: allow {needed}, or take more servers"
            )
        return changed, moves(changed.entries, old)

    def _changed(self, old: Entries, before: int, fewest: int, most: int, packer: Packer) -> Packed | None:
        """The present placement with so many moves, on no fewer servers than there must be."""
        if len(self.gpus) > 1 or not len(old.adapter):
            return None
        held = set(old.adapter.tolist())
        new = [a for a in packer.only if a not in held]
        if sum(a != BASE for a in new) > most:
            return None
        for number in range(max(before, fewest), max(before, fewest) + 3):
            if self.gpus[0].count is not None and number > self.gpus[0].count:
                return None
            loads = old.loads(self.load, number)
            rows = list(old.rows())
            for adapter in sorted(new, key=lambda a: (-self.load[a], a)):
                if adapter == BASE:
                    rows += [(BASE, j, 1 / number) for j in range(number)]
                    continue
                target = int(loads.argmin())
                rows.append((adapter, target, 1.0))
                loads[target] += self.load[adapter]
            budget = most - sum(a != BASE for a in new)
            entries = rebalance(Entries.of(rows), self.load, number, budget, 0.005, tuple(self.pinned))
            if not keeps_places(entries, self.pinned, self._pools()):
                continue
            packed = packer.verified(entries, [0] * number, repairs=0)
            if packed is not None and all(packed.entries.counts(number)):
                return packed
        return None

    def _present_entries(self, present: Placement) -> Entries:
        """Of the adapters that are still asked for."""
        index = {name: i for i, name in enumerate(self.adapters.name)}
        rows = [
            (BASE if a < 0 else index[present.adapters[a]], j, part)
            for a, j, part in zip(
                present.adapter.tolist(), present.server.tolist(), present.fraction.tolist(), strict=True
            )
            if (a < 0 and self.load[-1] > 0) or (a >= 0 and present.adapters[a] in index)
        ]
        return Entries.of(rows)

    def _finished(self, packed: Packed) -> Packed:
        packer = self._packer(tuple(range(BASE, len(self.adapters))))
        tuned = packer.finished(packed)
        if self.wishes.failures and not packer.accepts(tuned):
            tuned = packed._replace(
                candidates=tuple(
                    self.judge.with_margins(packer.servers(packed.entries, packed.kinds), packed.candidates)
                )
            )
        return tuned

    def _result(self, packed: Packed, bound: Bound, changes: int | None, name: str) -> FleetPlan:
        reserve = reserves(packed, self.load, self.adapters.rank.tolist()) if self.wishes.failures else {}
        placement, candidates = self._placement(packed, reserve)
        packed = packed._replace(candidates=candidates)
        loads = packed.entries.loads(self.load, len(packed.kinds))
        counts = placement.num_hosted()
        servers = tuple(
            PlannedServer(server.name, kind, int(counts[j]), float(loads[j]), candidates[j])
            for j, (server, kind) in enumerate(zip(placement.servers, packed.kinds, strict=True))
        )
        fullest_one = fullest(packed, self.load, 1)[0]
        asked = self._packer(()).servers(packed.entries, packed.kinds)[fullest_one]
        chance = candidates[fullest_one].chance
        if isnan(chance) and self.judge.num_adapters(asked):
            chance = self.judge.with_chance(asked, packed.candidates[fullest_one]).chance
        settings = self.judge.settings[0]
        return FleetPlan(
            workload=name,
            gpus=self.gpus,
            target=self.target,
            slo=self.judge.oracle.slo,
            slo_for=self.judge.oracle.slo_for,
            headroom=settings.headroom,
            confidence=settings.confidence,
            failures=self.wishes.failures,
            seeds=tuple(workload.seed for workload in self.traffic.workloads),
            window_s=self.traffic.workloads[0].window_s,
            placement=placement,
            servers=servers,
            bound=bound,
            adapters=self.adapters.name,
            ranks=self.adapters.rank,
            load=self.load[:-1],
            moves=changes,
            worst=tuple(self._worst(packed)[:WORST]),
            stress=self._stress(packed, reserve),
            chance=chance,
            notes=tuple(dict.fromkeys(note for each in candidates for note in each.notes)),
            num_simulated=self.judge.num_simulated,
        )

    def _placement(self, packed: Packed, reserve: Mapping[int, int]) -> tuple[Placement, tuple]:  # type: ignore[type-arg]
        rows = [*packed.entries.rows(), *((a, j, 0.0) for a, j in reserve.items())]
        entries = Entries.of(rows)
        counts = entries.counts(len(packed.kinds))
        candidates = tuple(
            replace(each, config=each.config.replace(max_cpu_loras=max(int(count), each.config.max_loras, 1)))
            for each, count in zip(packed.candidates, counts, strict=True)
        )
        servers = tuple(
            PlacedServer(f"gpu-{j}", self.gpus[kind].name, candidates[j].config, self.gpus[kind].price_per_h)
            for j, kind in enumerate(packed.kinds)
        )
        return Placement(servers, self.adapters.name, *entries), candidates

    def _worst(self, packed: Packed) -> list[WorstAdapter]:
        """Adapters by TTFT in the 99th percentile (first seed), each where it fares worst."""
        servers = self._packer(()).servers(packed.entries, packed.kinds)

        def tail(j: int) -> float:
            value = packed.candidates[j].mean("ttft_p99_ms")
            return -inf if isnan(value) else value

        slowest = sorted(range(len(servers)), key=lambda j: (-tail(j), j))[:LOOKED_AT]
        found: dict[str, WorstAdapter] = {}
        for j in slowest:
            number = self.judge.num_adapters(servers[j])
            rows = per_adapter(self.judge.oracle.bench(servers[j]).simulate(Trial(packed.candidates[j].config, number)))
            for i, who in enumerate(rows.name):
                p99 = float(rows.ttft_p99_ms[i])
                if not isnan(p99) and (who not in found or p99 > found[who].ttft_p99_ms):
                    mean = float(rows.ttft_mean_ms[i])
                    found[who] = WorstAdapter(who, f"gpu-{j}", p99, mean, int(rows.requests[i]))
        return sorted(found.values(), key=lambda each: (-each.ttft_p99_ms, each.name)) or [
            WorstAdapter("", "", nan, nan, 0)
        ]

    def _stress(self, packed: Packed, reserve: dict[int, int]) -> tuple[Stress, ...]:
        """What if: all rates grow by a fifth, the hottest adapter triples, the fullest server is lost."""
        servers = self._packer(()).servers(packed.entries, packed.kinds)
        everyone = range(len(servers))
        grown = [self._trial(packed, servers, j)._replace(factor=GROWTH) for j in everyone]
        hottest = int(self.load[:-1].argmax())
        entries = packed.entries
        where = sorted(set(entries.server[entries.adapter == hottest].tolist()))
        name = self.adapters.name[hottest]
        tripled = [self._trial(packed, servers, j)._replace(customer=name, customer_factor=TRIPLED) for j in where]
        cases = [
            self._case(f"all rates +{100 * (GROWTH - 1):.0f} %", servers, everyone, grown),
            self._case(f"{name} asks {TRIPLED:g} times as much", servers, where, tripled),
        ]
        if len(servers) > 1:
            cases.append(self._loss(packed, reserve or reserves(packed, self.load, self.adapters.rank.tolist())))
        return tuple(cases)

    def _trial(self, packed: Packed, servers: Sequence[Server], j: int) -> Trial:
        return Trial(packed.candidates[j].config, self.judge.num_adapters(servers[j]), verdict_only=True)

    def _case(self, name: str, servers: Sequence[Server], numbers: Sequence[int], trials: Sequence[Trial]) -> Stress:
        tasks = [Task(servers[j], trial) for j, trial in zip(numbers, trials, strict=True)]
        results = self.judge.simulate(tasks, "what if")
        return Stress(name, tuple(f"gpu-{j}" for j, result in zip(numbers, results, strict=True) if not result.works))

    def _loss(self, packed: Packed, reserve: dict[int, int]) -> Stress:
        (lost,) = fullest(packed, self.load, 1)
        failing = failing_after(self.judge, packed, lost, reserve)
        names = ("an adapter without a server",) if failing is None else tuple(f"gpu-{j}" for j in failing)
        return Stress(f"gpu-{lost} is lost", names)


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


def _renumbered(packed: Packed, old: Entries) -> Packed:
    number = len(packed.kinds)
    numbers: I4 = relabelled(packed.entries, old, number, packed.kinds)
    back = np.argsort(numbers)
    entries = Entries.of([(a, int(numbers[j]), part) for a, j, part in packed.entries.rows()])
    kinds = tuple(packed.kinds[j] for j in back)
    return Packed(entries, kinds, tuple(packed.candidates[j] for j in back))


def _together(parts: Sequence[tuple[Packed, Bound]]) -> tuple[Packed, Bound]:
    """Pools side by side."""
    if len(parts) == 1:
        return parts[0]
    rows: list[tuple[int, int, float]] = []
    kinds: tuple[int, ...] = ()
    candidates: tuple = ()  # type: ignore[type-arg]
    for packed, _ in parts:
        rows += [(a, j + len(kinds), part) for a, j, part in packed.entries.rows()]
        kinds, candidates = kinds + packed.kinds, candidates + packed.candidates
    total = sum(bound.gpus for _, bound in parts)
    names = " + ".join(f"{bound.gpus} by {bound.name}" for _, bound in parts)
    return Packed(Entries.of(rows), kinds, candidates), Bound(total, "isolated groups", names)


def _server_number(name: str) -> int:
    number = name.removeprefix("gpu-")
    if not (name.startswith("gpu-") and number.isdecimal()):
        raise InputError(f"pin: {name!r} is no server of a plan; they are gpu-0, gpu-1, ...")
    return int(number)


def _server_names(numbers: Sequence[int]) -> str:
    return ", ".join(f"gpu-{j}" for j in numbers)
