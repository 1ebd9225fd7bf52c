"""What a plan of a fleet is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isnan, nan
from typing import Literal

import numpy as np

from loratwin.fleet.gpus import Gpus
from loratwin.fleet.placement import Placement
from loratwin.metrics import Slo, SloFor
from loratwin.plan.choice import Candidate
from loratwin.workload.arrays import F8, I4

Target = Literal["fewest", "cheapest", "latency"]
"""The fewest GPUs; the least price; the least TTFT of the worst adapter on the GPUs given."""


@dataclass(frozen=True)
class Bound:
    """A number of GPUs below which nothing was found to be possible, and why."""

    gpus: int
    name: str
    """How it was found, as `even share`: it begins the sentence that explains it."""
    why: str


@dataclass(frozen=True)
class PlannedServer:
    """One server of the plan, as the twin sees it.

    Parameters
    ----------
    name
        As in the placement.
    kind
        Index of its kind of GPU.
    adapters
        That it holds, those in reserve included.
    tokens_per_s
        Prompt and output, that it is asked for.
    candidate
        What it is started with, and the figures of that.
    """

    name: str
    kind: int
    adapters: int
    tokens_per_s: float
    candidate: Candidate


@dataclass(frozen=True)
class WorstAdapter:
    """An adapter and how it fares, on the server where it fares worst."""

    name: str
    server: str
    ttft_p99_ms: float  # NaN: nothing finished
    ttft_mean_ms: float
    requests: int


@dataclass(frozen=True)
class Stress:
    """A case that the plan was tried with, and the servers that fail in it."""

    name: str
    failing: tuple[str, ...]

    @property
    def works(self) -> bool:
        """Whether no server fails."""
        return not self.failing


@dataclass(frozen=True, eq=False, repr=False)
class FleetPlan:
    """Which adapters on which servers, how many of these, and what each is started with. All figures are simulated.

    Parameters
    ----------
    gpus
        Kinds that the plan could choose from.
    placement
        Servers with their limits, adapters with their fractions.
    servers
        The same servers with their figures.
    bound
        Fewest GPUs that could do.
    adapters, load
        Names, and tokens per second that each asks for; shape (num_adapters,).
    slo, slo_for, group_slos
        Limits that every server keeps, of whom they are asked, and limits of single groups in place of the common ones.
    moves
        Adapters that must be brought to a server that did not hold them; None: nothing was present.
    worst
        Adapters of the highest TTFT in the 99th percentile, worst first.
    stress
        What if: rates grow, an adapter triples, a server is lost.
    chance
        Probability that a real run of the fullest server keeps up.
    """

    workload: str
    gpus: tuple[Gpus, ...]
    target: Target
    slo: Slo | None
    slo_for: SloFor
    headroom: float
    confidence: float
    failures: int
    seeds: tuple[int, ...]
    window_s: float
    placement: Placement
    servers: tuple[PlannedServer, ...]
    bound: Bound
    adapters: tuple[str, ...]
    ranks: I4
    load: F8
    num_simulated: int
    group_slos: Mapping[str, Slo] = field(default_factory=dict)
    moves: int | None = None
    worst: tuple[WorstAdapter, ...] = ()
    stress: tuple[Stress, ...] = ()
    chance: float = float("nan")
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<FleetPlan: {len(self.adapters)} adapters on {len(self.servers)} servers>"

    @property
    def num_servers(self) -> int:
        """Servers."""
        return len(self.servers)

    @property
    def price_per_h(self) -> float | None:
        """Of all servers; None: a price is not known."""
        return self.placement.price_per_h

    @property
    def loads(self) -> F8:
        """Tokens per second that each server is asked for, shape (num_servers,)."""
        return np.array([server.tokens_per_s for server in self.servers])

    @property
    def fullest_to_mean(self) -> float:
        """Load of the fullest server over the mean, by tokens; NaN: nobody asks."""
        mean = float(self.loads.mean())
        return float(self.loads.max()) / mean if mean > 0 else nan

    @property
    def tightest(self) -> PlannedServer:
        """The server of the least margin."""
        return min(self.servers, key=lambda each: each.candidate.margin)

    @property
    def ttft_p99_ms(self) -> float:
        """Time to first token in the 99th percentile, of the server where it is longest; NaN: none answers."""
        tails = [server.candidate.mean("ttft_p99_ms") for server in self.servers]
        return max((tail for tail in tails if not isnan(tail)), default=nan)

    @property
    def split(self) -> tuple[str, ...]:
        """Names of the adapters that are asked for on more than one server, the hottest first."""
        used = self.placement.adapter[(self.placement.fraction > 0) & (self.placement.adapter >= 0)]
        several = np.flatnonzero(np.bincount(used, minlength=len(self.adapters)) > 1)
        return tuple(self.adapters[i] for i in sorted(several.tolist(), key=lambda i: (-self.load[i], i)))
