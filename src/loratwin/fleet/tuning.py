"""Weights of a router's scorers, chosen in the twin: a search over a stated grid, then evidence from other seeds.

Every weighting meets the same requests, the same ties and the same scrapes. The best of many has been lucky, too, so
what is said of it against the router's own weights comes from seeds that had no part in the choice.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import inf, isnan
from typing import Literal, NamedTuple, get_args

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet.placement import Placement
from loratwin.fleet.routers import WEIGHTS, find_router
from loratwin.fleet.simulation import SCRAPE_S, simulate_fleet
from loratwin.kernel.routing import NO_AFFINITY, SCORERS
from loratwin.lists import names_by_name
from loratwin.metrics import Interval, confidence_interval, summarize
from loratwin.perf import Profile, load_profile
from loratwin.simulate.workers import Workers
from loratwin.workload import Workload, WorkloadSpec, draw

TuneObjective = Literal["worst_adapter", "ttft_p99", "ttft_mean"]
"""What is to be small: the mean TTFT of the adapter that waits longest; the 99th percentile, or mean, of all TTFTs."""

GRID: Mapping[str, tuple[float, ...]] = {
    "queue": (0.0, 1.0, 2.0, 4.0),
    "kv": (0.0, 2.0),
    "lora": (0.0, 1.0, 2.0, 4.0, 8.0),
}
"""Weights that are tried unless others are named; only their proportions count."""

TUNE_SEEDS = (0, 1, 2)
CHECK_SEEDS = tuple(range(3, 11))
"""Draws for the choice, and others for the evidence."""

MOST_TRIED = 2000


class Figures(NamedTuple):
    """Of one weighting with one seed."""

    starved: int  # adapters
    worst_adapter: float  # ms
    ttft_p99: float
    ttft_mean: float
    throughput: float  # tokens per second


@dataclass(frozen=True)
class Tried:
    """A weighting and its means over the seeds of the choice."""

    weights: Mapping[str, float]
    figures: Figures
    starved_most: int
    """Starved adapters with the seed that has most of them."""


@dataclass(frozen=True)
class Tuned:
    """What a search for weights came to.

    Parameters
    ----------
    tried
        All weightings, the best first.
    usual
        The router's own weights.
    difference, relative
        Objective with the best weights minus with the usual ones, in ms and over the usual ones' mean, on the seeds of
        the check, each with its 95 % interval (Student's t over pairs of the same seed).
    starved
        Starved adapters with the usual and with the best weights, summed over those seeds.
    """

    router: str
    objective: TuneObjective
    grid: Mapping[str, tuple[float, ...]]
    seeds: tuple[int, ...]
    check_seeds: tuple[int, ...]
    tried: tuple[Tried, ...]
    usual: Tried
    difference: Interval
    relative: Interval
    starved: tuple[int, int]

    @property
    def best(self) -> Tried:
        """Of the seeds of the choice."""
        return self.tried[0]

    @property
    def is_better(self) -> bool:
        """Whether the best weights are shown to be better than the usual: the whole interval, and no more starve."""
        return self.difference.high < 0 and self.starved[1] <= self.starved[0]

    @property
    def weights(self) -> Mapping[str, float]:
        """What to take: the best, where they are shown to be better; else the router's own."""
        return self.best.weights if self.is_better else self.usual.weights


def tune_router(
    placement: Placement,
    workload: WorkloadSpec,
    router: str = "llm-d-lora",
    *,
    grid: Mapping[str, Sequence[float]] | None = None,
    objective: TuneObjective = "worst_adapter",
    seeds: Sequence[int] = TUNE_SEEDS,
    check_seeds: Sequence[int] = CHECK_SEEDS,
    scrape_s: float = SCRAPE_S,
    profiles: Mapping[str, Profile] | None = None,
    processes: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> Tuned:
    """Choose the weights of a router's scorers for a placement and its traffic.

    Parameters
    ----------
    router
        One with scorers; its usual weights are tried, too.
    grid
        Weights to try of each scorer; those that are not named keep the usual. None: `GRID`.
    objective
        What is to be small. Weights with which fewer adapters starve come first.
    seeds, check_seeds
        Draws of the workload for the choice, and for the evidence; none in both.
    scrape_s, profiles
        As `simulate_fleet` has them.
    processes
        More than 1 starts further Python processes; the result is the same for any number.
    progress
        Called with what is simulated, how many of these simulations are done, and how many there are.

    Raises
    ------
    InputError
        The router has no scorers, a scorer or weight is none, or the seeds do not suffice.
    """
    tried_weights = weightings(router, GRID if grid is None else grid)
    usual = usual_weights(router)
    _check(objective, seeds, check_seeds)
    runs = _Runs(placement, workload, router, objective, scrape_s, dict(profiles or {}))
    with Workers[tuple[tuple[float, ...], int], Figures](runs.figures, processes) as workers:
        tasks = [(_tuple(weights), seed) for weights in (usual, *tried_weights) for seed in seeds]
        found = workers.map(tasks, lambda done: progress("weights", done, len(tasks)))
        rows = [
            _tried(weights, found[i * len(seeds) : (i + 1) * len(seeds)])
            for i, weights in enumerate((usual, *tried_weights))
        ]
        ordered = sorted(rows, key=lambda row: (row.starved_most, _small(getattr(row.figures, objective))))
        pairs = [(_tuple(weights), seed) for seed in check_seeds for weights in (usual, ordered[0].weights)]
        checked = workers.map(pairs, lambda done: progress("evidence", done, len(pairs)))
    before, after = checked[::2], checked[1::2]
    old, new = ([getattr(each, objective) for each in side] for side in (before, after))
    differences = [b - a for a, b in zip(old, new, strict=True)]
    mean = float(np.nanmean(old))
    return Tuned(
        router=router,
        objective=objective,
        grid={name: tuple(map(float, values)) for name, values in (GRID if grid is None else grid).items()},
        seeds=tuple(seeds),
        check_seeds=tuple(check_seeds),
        tried=tuple(ordered),
        usual=rows[0],
        difference=confidence_interval(differences),
        relative=confidence_interval([each / mean for each in differences]),
        starved=(sum(each.starved for each in before), sum(each.starved for each in after)),
    )


def parse_grid(texts: Sequence[str] | None) -> dict[str, tuple[float, ...]] | None:
    """Read `queue=0,1,2`, several of these; None where nothing is given.

    Raises
    ------
    InputError
        One is not NAME=NUMBER,..., or a name is given twice.
    """
    if not texts:
        return None
    found = {}
    for name, values in names_by_name("--grid", texts, "lora=0,1,2").items():
        try:
            found[name] = tuple(float(value) for value in values)
        except ValueError:
            raise InputError(f"--grid {name}={','.join(values)}: expected numbers, as lora=0,1,2") from None
    return found


def usual_weights(router: str) -> dict[str, float]:
    """The weights that a router has by itself.

    Raises
    ------
    InputError
        It has no scorers.
    """
    rule = find_router(router).rule
    if rule is None or rule.kind != SCORERS:
        find_router(router, {"queue": 1.0})  # says which have
        raise AssertionError("a router without scorers takes no weights")
    return {name: float(getattr(rule, name)) for name in WEIGHTS if name != "lora" or rule.affinity != NO_AFFINITY}


def weightings(router: str, grid: Mapping[str, Sequence[float]]) -> list[dict[str, float]]:
    """All weightings of a grid but the usual one, each proportion once, in the grid's order."""
    usual = usual_weights(router)
    named = {name: values for name, values in grid.items() if name in usual or grid is not GRID}
    for name, values in named.items():
        if name not in usual:
            raise UnknownNameError("scorer", name, usual)
        if not len(values):
            raise InputError(f"grid: {name}: no weight to try")
        if not all(0 <= value < inf for value in values):
            raise InputError(f"grid: {name}: a weight is 0 or more, not {min(values):g}")
    seen = {_proportions(usual)}
    found = []
    for values in product(*named.values()):
        weights = {**usual, **dict(zip(named, map(float, values), strict=True))}
        if any(weights.values()) and _proportions(weights) not in seen:
            seen.add(_proportions(weights))
            found.append(weights)
    if not found:
        raise InputError("grid: no weights to try but the usual ones, or none but 0")
    if len(found) > MOST_TRIED:
        raise InputError(f"grid: {len(found):,} weightings; at most {MOST_TRIED:,} are tried: name fewer weights")
    return found


def _proportions(weights: Mapping[str, float]) -> tuple[float, ...]:
    total = sum(weights.values())
    return tuple(round(value / total, 9) for value in weights.values())


def _check(objective: str, seeds: Sequence[int], check_seeds: Sequence[int]) -> None:
    if objective not in get_args(TuneObjective):
        raise UnknownNameError("objective", objective, get_args(TuneObjective))
    if not seeds or len(set(check_seeds)) < 2:
        raise InputError("seeds: the choice needs one at least, and the evidence two")
    if set(seeds) & set(check_seeds):
        raise InputError("seeds: those of the evidence must have had no part in the choice")


def _tuple(weights: Mapping[str, float]) -> tuple[float, ...]:
    """One for each of `WEIGHTS`; -1: the router has no such scorer."""
    return tuple(weights.get(name, -1.0) for name in WEIGHTS)


def _tried(weights: Mapping[str, float], rows: Sequence[Figures]) -> Tried:
    means = [float(np.mean([row[i] for row in rows])) for i in range(1, len(Figures._fields))]
    return Tried(weights, Figures(sum(row.starved for row in rows), *means), max(row.starved for row in rows))


def _small(value: float) -> float:
    return inf if isnan(value) else value


@dataclass(frozen=True)
class _Runs:
    """What all simulations have in common; sent once to each process."""

    placement: Placement
    workload: WorkloadSpec
    router: str
    objective: TuneObjective
    scrape_s: float
    profiles: dict[str, Profile]
    _drawn: dict[int, Workload] = field(default_factory=dict, repr=False, compare=False)

    def figures(self, task: tuple[tuple[float, ...], int]) -> Figures:
        """Simulate one weighting with one seed."""
        values, seed = task
        if seed not in self._drawn:
            self._drawn[seed] = draw(self.workload, seed)
        weights = {name: value for name, value in zip(WEIGHTS, values, strict=True) if value >= 0}
        for name in {server.profile for server in self.placement.servers} - self.profiles.keys():
            self.profiles[name] = load_profile(name)
        done = simulate_fleet(
            self.placement, self._drawn[seed], self.router,
            weights=weights, scrape_s=self.scrape_s, profiles=self.profiles,
        )  # fmt: skip
        adapters, summary = done.adapters(), summarize(done.run)
        slowest = adapters.ttft_mean_ms[~np.isnan(adapters.ttft_mean_ms)]
        return Figures(
            len(adapters.starving),
            float(slowest.max()) if len(slowest) else float("nan"),
            summary.ttft_p99_ms,
            summary.ttft_mean_ms,
            summary.total_throughput,
        )
