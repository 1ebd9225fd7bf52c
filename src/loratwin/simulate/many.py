"""Many runs: one configuration with several seeds, or one workload on several configurations."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from loratwin.errors import InputError
from loratwin.metrics import Interval, Slo, Summary, confidence_interval, over_replications
from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.simulate.outcome import Outcome, each_once, try_config
from loratwin.simulate.workers import Workers
from loratwin.workload import Workload, WorkloadSpec, draw

LEVEL = 0.95
"""Confidence of the intervals."""

Progress = Callable[[int], None]
"""Is told how many runs are done."""


def _silent(done: int) -> None:
    pass


@dataclass(frozen=True)
class Replications:
    """One configuration on draws of the same workload that differ in their seed only."""

    outcomes: tuple[Outcome, ...]

    @property
    def config(self) -> EngineConfig:
        """What all runs have in common."""
        return self.outcomes[0].config

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.outcomes[0].kv_tokens

    @property
    def reason(self) -> str:
        """Why the server does not start; empty when it does."""
        return self.outcomes[0].reason

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """One seed for each run."""
        return tuple(each.seed for each in self.outcomes)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """One summary for each run; none when the server does not start."""
        return tuple(each.summary for each in self.outcomes if each.summary is not None)

    @property
    def num_starved(self) -> int:
        """Runs in which the server starves."""
        return sum(summary.starved for summary in self.summaries)

    @property
    def starving(self) -> dict[str, int]:
        """In how many runs each adapter starves, the most frequent first; only those that do."""
        counts: dict[str, int] = {}
        for name in (name for each in self.outcomes for name in each.starving):
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, each remark once."""
        return each_once(note for each in self.outcomes for note in each.notes)

    def figures(self, level: float = LEVEL) -> dict[str, Interval]:
        """Mean and confidence half-width of every figure of the summaries, by name."""
        return over_replications(self.summaries, level)

    def goodput(self, level: float = LEVEL) -> Interval:
        """Requests per second within every limit of the SLO."""
        return confidence_interval([each.goodput for each in self.outcomes], level)

    def slo_s(self, level: float = LEVEL) -> dict[str, Interval]:
        """The same of the figures that an SLO limits, by limit."""
        names = self.outcomes[0].slo_s
        return {name: confidence_interval([each.slo_s[name] for each in self.outcomes], level) for name in names}


@dataclass(frozen=True)
class _OfSeed:
    """Draw and try; what `replicate` sends to other processes."""

    spec: WorkloadSpec
    profile: Profile
    config: EngineConfig
    slo: Slo | None

    def __call__(self, seed: int) -> Outcome:
        return try_config(draw(self.spec, seed), self.profile, self.config, self.slo)


@dataclass(frozen=True)
class _OfConfig:
    """Try; what `sweep` sends to other processes."""

    workload: Workload
    profile: Profile
    slo: Slo | None
    percentiles: bool

    def __call__(self, config: EngineConfig) -> Outcome:
        return try_config(self.workload, self.profile, config, self.slo, self.percentiles)


def replicate(
    spec: WorkloadSpec,
    profile: Profile,
    config: EngineConfig,
    seeds: Iterable[int],
    processes: int = 1,
    slo: Slo | None = None,
    progress: Progress = _silent,
) -> Replications:
    """Simulate one configuration with several seeds.

    Parameters
    ----------
    seeds
        One run for each, in this order.
    processes
        Cores to use; the result does not depend on it.

    Raises
    ------
    InputError
        No seed, or as `simulate`.
    """
    tasks = tuple(seeds)
    if not tasks:
        raise InputError("no seed is given; at least one is needed")
    with Workers(_OfSeed(spec, profile, config, slo), processes) as workers:
        return Replications(tuple(workers.map(tasks, progress)))


def sweep(
    workload: Workload,
    profile: Profile,
    configs: Sequence[EngineConfig],
    processes: int = 1,
    progress: Progress = _silent,
    slo: Slo | None = None,
    percentiles: bool = True,
) -> list[Outcome]:
    """Simulate the same requests on several configurations; one outcome for each, in the same order.

    Parameters
    ----------
    processes
        Cores to use; the result does not depend on it.
    progress
        Is told how many configurations are done.
    percentiles
        False leaves the percentiles out (not the median of TTFT) and takes two thirds of the time.

    Raises
    ------
    InputError
        As `simulate`; a server that does not start is an outcome with its reason.
    """
    with Workers(_OfConfig(workload, profile, slo, percentiles), processes) as workers:
        return workers.map(configs, progress)
