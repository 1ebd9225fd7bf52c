"""The twin as judge of servers: does this content work on this GPU, with which slots and limits, and how well."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from typing import NamedTuple, overload

from loratwin.errors import InputError
from loratwin.fleet.traffic import Content, Sample, Traffic
from loratwin.learn import predict
from loratwin.metrics import Slo
from loratwin.perf import Profile
from loratwin.plan.choice import Candidate, choose
from loratwin.plan.grid import coarse_slots
from loratwin.plan.limits import STEP, Search, margin_search, power_below, run_all
from loratwin.plan.search import AT_A_TIME, BISECTION_SLOTS, Finder, Progress, Settings
from loratwin.plan.targets import NO_TARGETS, Targets
from loratwin.plan.trial import Bench, Result, Trial, combine
from loratwin.records import EngineConfig
from loratwin.simulate.workers import Mapper, Workers, silent
from loratwin.workload import BASE, Workload

KEPT = 40
"""Servers whose requests a process keeps at hand."""


class Server(NamedTuple):
    """What is judged: a kind of GPU (index) and what it gets."""

    kind: int
    content: Content | Sample


class Task(NamedTuple):
    """One simulation of one server."""

    server: Server
    trial: Trial


class _Parts(Sequence[Workload]):
    """The requests of a server for each seed, taken out of the fleet's when they are asked for."""

    def __init__(self, traffic: Traffic, content: Content | Sample) -> None:
        self._traffic, self._content = traffic, content
        self._known: dict[int, Workload] = {}

    def __len__(self) -> int:
        return len(self._traffic.workloads)

    @overload
    def __getitem__(self, seed: int) -> Workload: ...
    @overload
    def __getitem__(self, seed: slice) -> list[Workload]: ...
    def __getitem__(self, seed: int | slice) -> Workload | list[Workload]:
        if isinstance(seed, slice):
            return [self[i] for i in range(*seed.indices(len(self)))]
        if not 0 <= seed < len(self):
            raise IndexError(seed)
        if seed not in self._known:
            self._known[seed] = self._traffic.part(self._content, seed)
        return self._known[seed]


@dataclass(frozen=True)
class Oracle:
    """What all simulations have in common; sent once to each process.

    Parameters
    ----------
    profiles
        Of the kinds of GPU.
    targets
        Limits that every server keeps, and of whom they are asked.
    """

    traffic: Traffic
    profiles: tuple[Profile, ...]
    targets: Targets = NO_TARGETS
    _benches: dict[Server, Bench] = field(default_factory=dict, repr=False, compare=False)

    @property
    def slo(self) -> Slo | None:
        """Limits of a server as a whole."""
        return self.targets.slo

    def bench(self, server: Server) -> Bench:
        """The server's requests and limits; those used last are kept."""
        bench = self._benches.pop(server, None)
        if bench is None:
            while len(self._benches) >= KEPT:
                del self._benches[next(iter(self._benches))]
            parts = _Parts(self.traffic, server.content)
            profile = self.profiles[server.kind]
            order = tuple(range(num_adapters(self.traffic, server.content)))
            bench = Bench(parts, order, profile, self.targets)
        self._benches[server] = bench
        return bench

    def measure(self, task: Task) -> Result:
        """Simulate and judge; a draw without a request misses no SLO, as there is no percentile that could."""
        bench, trial = self.bench(task.server), task.trial
        result = bench.measure(trial)
        if bench.workload(trial.num_adapters, trial.seed).num_requests:
            return result
        return result._replace(works=not result.starved, missing=())


def num_adapters(traffic: Traffic, content: Content | Sample) -> int:
    """Adapters that a server of this content holds."""
    if isinstance(content, Sample):
        return len(traffic.part(content, 0).adapters)
    return sum(share.adapter != BASE for share in content)


class _Through:
    """Carries the trials of one server through the fleet's workers."""

    def __init__(self, server: Server, workers: Mapper[Task, Result]) -> None:
        self.server, self.workers = server, workers

    def map(self, tasks: Sequence[Trial], done: Callable[[int], None] = silent) -> list[Result]:
        return self.workers.map([Task(self.server, trial) for trial in tasks], done)


class Judge:
    """Asks the twin about servers, many at a time; what was simulated once is kept."""

    def __init__(
        self,
        oracle: Oracle,
        settings: Sequence[Settings],
        workers: Workers[Task, Result],
        progress: Progress | None = None,
    ) -> None:
        """See above.

        Parameters
        ----------
        settings
            What the search of each kind of GPU must keep to.
        """
        self.oracle, self.settings, self.workers = oracle, tuple(settings), workers
        self.progress = progress or (lambda done, total, what: None)
        self.num_simulated = 0
        self._known: dict[Task, Result] = {}
        self._worked: dict[Server, EngineConfig | None] = {}
        self._candidates: dict[tuple[Server, EngineConfig], Candidate] = {}
        self._recent: dict[int, list[tuple[int, int]]] = {}  # by kind: slots and sequences that worked, the last first
        self._tuned: dict[int, tuple[int, int]] = {}  # by kind: those that were found best

    @property
    def num_seeds(self) -> int:
        """Draws of the workload."""
        return len(self.oracle.traffic.workloads)

    def num_adapters(self, server: Server) -> int:
        """Adapters that it holds."""
        return num_adapters(self.oracle.traffic, server.content)

    def finder(self, server: Server) -> Finder:
        """The search of one GPU, on the fleet's workers."""
        bench = self.oracle.bench(server)
        return Finder(bench, self.settings[server.kind], _Through(server, self.workers), self.progress)

    def working(
        self, servers: Sequence[Server], what: str = "servers", most: int | None = None
    ) -> list[EngineConfig | None]:
        """For each server a configuration that works with the first seed, at the rates with headroom; None: none does.

        First those that were tuned and that worked last, then those of the learned model, then the grid.

        Parameters
        ----------
        most
            Configurations that are tried of each, for a quick look; None: all.
        """
        open_ = self._open(servers, most)
        while open_:
            each = max(1, AT_A_TIME // len(open_))  # many servers keep all processes at work with one for each
            asked = {server: list(islice(options, each)) for server, options in open_.items()}
            tasks = [Task(server, self._verdict(server, config)) for server, some in asked.items() for config in some]
            results = iter(self.simulate(tasks, what))
            for server, some in asked.items():
                won = [config for config in some if next(results).works]
                if won or len(some) < each:
                    del open_[server]
                if won or (len(some) < each and most is None):  # a quick look says nothing of what was not tried
                    self._note(server, won[0] if won else None)
        return [self._worked.get(server) for server in servers]

    def _open(self, servers: Sequence[Server], most: int | None) -> dict[Server, Iterator[EngineConfig]]:
        """Servers of which it is not known what works, with what is worth a try; idle ones take the first that starts.

        What is asked of a server's requests is asked in one go, while they are at hand.
        """
        open_: dict[Server, Iterator[EngineConfig]] = {}
        idle: list[tuple[Server, EngineConfig | None]] = []
        for server in dict.fromkeys(servers):
            if server in self._worked:
                continue
            options = self._options(server)
            first = next(options, None)
            if self.is_idle(server):
                idle.append((server, first))
            else:
                open_[server] = islice(chain([] if first is None else [first], options), most)
        for server, config in idle:
            self._note(server, config)
        return open_

    def is_idle(self, server: Server) -> bool:
        """Whether nothing is asked of it: there is no percentile that could miss an SLO."""
        return not self.oracle.bench(server).workloads[0].num_requests

    def _note(self, server: Server, config: EngineConfig | None) -> None:
        self._worked[server] = config
        if config is not None and config.max_loras:  # without adapters there are no slots, and others have some
            recent = self._recent.setdefault(server.kind, [])
            pair = (config.max_loras, config.max_num_seqs)
            self._recent[server.kind] = [pair, *(each for each in recent if each != pair)][:2]

    def _verdict(self, server: Server, config: EngineConfig) -> Trial:
        factor = 1 + self.settings[server.kind].headroom
        return Trial(config, self.num_adapters(server), factor=factor, verdict_only=True)

    def _options(self, server: Server) -> Iterator[EngineConfig]:
        """Configurations worth a try that start, the most promising first; whether one does is found when it is due."""
        number = self.num_adapters(server)
        if not number:
            return iter([self.empty_config(server.kind)])
        return self._starting(server, number, self._pairs(server, number))

    def _starting(self, server: Server, number: int, pairs: Sequence[tuple[int, int]]) -> Iterator[EngineConfig]:
        for count, limit in pairs:
            config = self.finder(server).config(number, count, limit)
            if self._starts(server, config):
                yield config

    def _pairs(self, server: Server, number: int) -> list[tuple[int, int]]:
        """Slots and sequences worth a try of a server with so many adapters, the most promising first."""
        settings = self.settings[server.kind]
        known = (
            settings.measured_slots[1] if settings.measured_slots else number
        )  # beyond what was measured nothing is tried unasked
        slots = sorted({min(each, number) for each in settings.slots or (*BISECTION_SLOTS, min(number, known))})
        slots = [each for each in slots if settings.slots or each <= known]
        middle = slots[len(slots) // 2]
        sequences = settings.sequence_options()
        few_and_most = list(dict.fromkeys((sequences[-1], sequences[len(sequences) // 2])))
        found = [self._tuned[server.kind]] if server.kind in self._tuned else []
        recent = [(min(count, number), limit) for count, limit in (*found, *self._recent.get(server.kind, []))]
        if not recent:
            recent = [(min(number, each), few_and_most[0]) for each in self._advised(server)]
        near = sorted(slots, key=lambda each: abs(slots.index(each) - slots.index(middle)))
        return list(dict.fromkeys([*recent, *((count, limit) for limit in few_and_most for count in near)]))

    def with_all_slots(self, server: Server, config: EngineConfig) -> EngineConfig | None:
        """The same with a slot for each adapter, where that is another one, may be tried and starts; else None."""
        number, allowed = self.num_adapters(server), self.settings[server.kind]
        most = allowed.slots[-1] if allowed.slots else (allowed.measured_slots or (0, number))[1]
        slots = min(number, most)
        if slots <= config.max_loras:
            return None
        roomier = config.replace(max_loras=slots, max_cpu_loras=max(slots, number))
        return roomier if self._starts(server, roomier) else None

    def empty_config(self, kind: int) -> EngineConfig:
        """Of a server without adapters."""
        settings = self.settings[kind]
        return EngineConfig(
            max_loras=0,
            max_num_seqs=settings.sequence_options()[-1],
            max_num_batched_tokens=settings.max_num_batched_tokens,
            max_model_len=settings.max_model_len,
            gpu_memory_utilization=settings.gpu_memory_utilization,
        )

    def _advised(self, server: Server) -> list[int]:
        """Slots by the learned model, which knows nothing of traffic without adapter or of other GPUs' limits."""
        settings = self.settings[server.kind]
        if settings.slots is not None:
            return []
        try:
            bench = self.oracle.bench(server)
            return [predict(bench.workloads[0], bench.profile).slots_to_check]
        except InputError:
            return []

    def judged(
        self, servers: Sequence[Server], configs: Sequence[EngineConfig], what: str = "servers"
    ) -> list[Candidate]:
        """Each server with its configuration: all seeds, the headroom, and the chance where one was asked for."""
        new = [pair for pair in dict.fromkeys(zip(servers, configs, strict=True)) if pair not in self._candidates]
        for (server, config), candidate in zip(new, self._judged(new, what), strict=True):
            self._candidates[server, config] = candidate
        return [self._candidates[pair] for pair in zip(servers, configs, strict=True)]

    def _judged(self, pairs: Sequence[tuple[Server, EngineConfig]], what: str) -> list[Candidate]:
        plain = [
            [Trial(config, self.num_adapters(server), seed) for seed in range(self.num_seeds)]
            for server, config in pairs
        ]
        tasks = [Task(server, trial) for (server, _), row in zip(pairs, plain, strict=True) for trial in row]
        found = iter(self.simulate(tasks, what))
        results = [[next(found) for _ in row] for row in plain]
        roomy = self._have_headroom(pairs, plain, results)
        candidates = [
            combine(config, self.num_adapters(server), results[i][0].outcome.kv_tokens, results[i], roomy[i])  # type: ignore[union-attr]
            for i, (server, config) in enumerate(pairs)
        ]
        return [self._with_chance(server, each) for (server, _), each in zip(pairs, candidates, strict=True)]

    def _have_headroom(
        self,
        pairs: Sequence[tuple[Server, EngineConfig]],
        plain: Sequence[Sequence[Trial]],
        results: Sequence[Sequence[Result]],
    ) -> list[bool]:
        higher = [
            [
                Task(server, trial._replace(factor=1 + headroom, verdict_only=True))
                for trial in row
                if headroom and all(result.works for result in seen)
            ]
            for (server, _), row, seen in zip(pairs, plain, results, strict=True)
            for headroom in (self.settings[server.kind].headroom,)
        ]
        found = iter(self.simulate([task for row in higher for task in row], "headroom"))
        return [all([next(found).works for _ in row]) for row in higher]

    def _with_chance(self, server: Server, candidate: Candidate) -> Candidate:
        if not self.settings[server.kind].confidence or not self.works(candidate) or _never_asked(candidate):
            return candidate
        return self.finder(server).with_chance([candidate])[0]

    def works(self, candidate: Candidate) -> bool:
        """Whether a server may be so: it works, as in a plan of one GPU, and none of its adapters starves."""
        slo = None if _never_asked(candidate) else self.oracle.slo
        return candidate.works(slo) and not candidate.starving_adapters > 0

    def best(self, server: Server) -> Candidate | None:
        """The best slots and limits by the rule that `plan` has, searched at length; None: none work."""
        finder = self.finder(server)
        found = finder.alternatives(self.num_adapters(server))
        self.num_simulated += finder.num_simulated
        fair = [each for each in found if self.works(each)]
        best = choose(fair, self.settings[server.kind].objective, self.oracle.slo).best
        if best is not None:
            self._note(server, best.config)
            self._candidates[server, best.config] = best
        return best

    def tune(self, servers: Sequence[Server]) -> bool:
        """Choose the slots that work for most of a few servers that are alike; they are tried first from then on.

        Few slots bear the highest rates, and let single adapters starve; of numbers that do as well the middle one is
        taken. Whether nearly all of the servers work.
        """
        servers = [server for server in servers if self.num_adapters(server)]
        if not servers:
            return True
        kind, number = servers[0].kind, max(self.num_adapters(server) for server in servers)
        settings = self.settings[kind]
        slots = settings.slots or settings.only_measured(coarse_slots(number), number)
        pairs = [(count, settings.sequence_options()[-1]) for count in sorted({min(each, number) for each in slots})]
        asked = [(pair, server, self._like(server, *pair)) for pair in pairs for server in servers]
        asked = [each for each in asked if self._starts(*each[1:])]
        judged = self.judged([server for _, server, _ in asked], [config for _, _, config in asked], "slots")
        works = Counter(pair for (pair, _, _), each in zip(asked, judged, strict=True) if self.works(each))
        most = max(works.values(), default=0)
        equal = [pair for pair in pairs if works[pair] == most]
        self._tuned[kind] = equal[len(equal) // 2]
        return 8 * most >= 7 * len(servers)

    def _like(self, server: Server, slots: int, sequences: int) -> EngineConfig:
        number = self.num_adapters(server)
        return self.finder(server).config(number, min(slots, number), sequences)

    def _starts(self, server: Server, config: EngineConfig) -> bool:
        return self.oracle.bench(server).capacity(self.num_adapters(server), config).starts

    def with_margins(self, servers: Sequence[Server], candidates: Sequence[Candidate]) -> list[Candidate]:
        """By how much all rates of each server can grow (first seed), all searched at a time.

        Of a few servers of each kind first, which say where the margins of the others are likely to be.
        """
        powers: dict[int, int | None] = {}
        for numbers in _few_first(servers):
            near = [_middle([powers[k] for k in powers if servers[k].kind == servers[i].kind]) for i in numbers]
            found = self._powers([(servers[i], candidates[i]) for i in numbers], near)
            powers |= zip(numbers, found, strict=True)
        return [replace(each, margin=self._margin(servers[i], each, powers[i])) for i, each in enumerate(candidates)]

    def _powers(self, pairs: Sequence[tuple[Server, Candidate]], near: Sequence[int | None]) -> list[int | None]:
        """The highest power of `STEP` by which the rates of each can grow."""

        def try_all(asked: list[tuple[int, int]]) -> list[bool]:
            tasks = [
                Task(server, Trial(candidate.config, self.num_adapters(server), factor=STEP**power, verdict_only=True))
                for (server, candidate), power in ((pairs[i], power) for i, power in asked)
            ]
            return [result.works for result in self.simulate(tasks, "margins")]

        return run_all([self._margin_of(*pair, at) for pair, at in zip(pairs, near, strict=True)], try_all)

    def _margin_of(self, server: Server, candidate: Candidate, near: int | None) -> Search:
        """The search for a server's margin: one that works bears the headroom."""
        works, headroom = self.works(candidate), self.settings[server.kind].headroom
        good = power_below(1 + headroom) if works and headroom else None
        return margin_search(works or candidate.keeps_up(self.oracle.slo), good, near=near)

    def _margin(self, server: Server, candidate: Candidate, power: int | None) -> float:
        """From a power of `STEP`, and from what is known of the headroom."""
        margin = 0.0 if power is None else STEP**power
        return max(margin, 1 + self.settings[server.kind].headroom) if self.works(candidate) else margin

    def with_chance(self, server: Server, candidate: Candidate) -> Candidate:
        """The chance that a real run keeps up, whether or not one was asked for."""
        finder = self.finder(server)
        (judged,) = finder.with_chance([candidate])
        return judged if self.settings[server.kind].confidence else replace(judged, is_likely=True)

    def simulate(self, tasks: Sequence[Task], what: str) -> list[Result]:
        """The results, in the order of the tasks."""
        new = [task for task in dict.fromkeys(tasks) if self._find(task) is None]
        before, total = self.num_simulated, self.num_simulated + len(new)
        self.progress(before, total, what)
        results = self.workers.map(new, lambda done: self.progress(before + done, total, what))
        self._known.update(zip(new, results, strict=True))
        self.num_simulated = total
        known = [self._find(task) for task in tasks]
        return [result for result in known if result is not None]

    def _find(self, task: Task) -> Result | None:
        """What is known of a task; one with all figures answers for the verdict as well."""
        return self._known.get(task) or self._known.get(Task(task.server, task.trial._replace(verdict_only=False)))


def _few_first(servers: Sequence[Server]) -> list[list[int]]:
    """Numbers of the servers: of each kind the first, one in the middle and the last; then all others."""
    few: set[int] = set()
    for kind in {server.kind for server in servers}:
        own = [i for i, server in enumerate(servers) if server.kind == kind]
        few |= {own[0], own[len(own) // 2], own[-1]}
    return [sorted(few), [i for i in range(len(servers)) if i not in few]]


def _middle(powers: Sequence[int | None]) -> int | None:
    """The median of what was found; None: nothing was."""
    known = sorted(power for power in powers if power is not None)
    return known[len(known) // 2] if known else None


def _never_asked(candidate: Candidate) -> bool:
    """Whether no seed has a request for it: then no percentile is known, and none misses an SLO."""
    return candidate.mean("arrived") == 0
