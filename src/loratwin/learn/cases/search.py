"""Which servers are simulated for a workload: the edge of starvation and what lies around it, or a whole grid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, nan

import numpy as np

from loratwin.errors import UnknownNameError
from loratwin.learn.cases.case import Case, mix_of
from loratwin.learn.cases.physics import kv_tokens, steady
from loratwin.metrics import STARVED_RATIO, summarize
from loratwin.perf import Profile
from loratwin.simulate import simulate
from loratwin.simulate.observe import observe
from loratwin.workload import Workload, draw

PUBLISHED_GRID = (16, 32, 64, 96, 128, 160, 192, 256, 320, 384)
"""Served adapters and slots of the published design."""

SLOTS = (4, 8, 16, 32, 48, 64, 96, 128, 160, 192, 256, 320, 384, 512)
"""Slots tried by the adaptive search, up to one for each adapter."""

MAX_ADAPTERS = 8192
"""No workload of the designs can serve so many: the search is not cut off."""

RESOLUTION = 0.03
"""The edge of starvation is bracketed to this share of the adapters, then interpolated."""

COMPARED_AT = {0.2: 3, 0.5: 2, 0.75: 2, 0.9: 1, 1.3: 3}
"""Shares of the most adapters at which slots are compared as well: every so-manieth of `SLOTS`."""

LATENCY_FROM = 0.8
"""Served share from which latencies are worth knowing (they cost half of a run's time)."""

SLOTS_AT = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
"""Shares of the estimated edge at which the search `slots` compares all slots."""

SEARCHES = ("edge", "slots", "grid")


@dataclass(frozen=True)
class SimulatedHour:
    """One hour of one server; a server that does not start has `kv_tokens` 0 and no figures."""

    adapters: int
    slots: int
    kv_tokens: int
    offered: float = nan  # tokens/s that arrived
    throughput: float = nan  # tokens/s of requests finished in the window
    share: float = nan
    queue_grows: bool = False
    ttft_mean_ms: float = nan  # at the client, as `observe`; NaN below LATENCY_FROM
    tpot_mean_ms: float = nan
    itl_mean_ms: float = nan
    running_mean: float = nan
    waiting_mean: float = nan
    swap_ins_per_s: float = nan
    preemptions: int = 0


class Probe:
    """Simulates servers of one workload; what was simulated once is kept."""

    def __init__(self, case: Case, profile: Profile, seed: int = 0) -> None:
        self.case, self.profile, self.seed = case, profile, seed
        self.rows: dict[tuple[int, int], SimulatedHour] = {}
        self._drawn: tuple[int, Workload] | None = None

    def slots(self, num_adapters: int, among: Sequence[int] = SLOTS) -> list[int]:
        """Slots that start, up to one for each adapter, and these: busy adapters need a slot each."""
        options = sorted({min(slots, num_adapters) for slots in among})
        return [slots for slots in options if kv_tokens(self.profile, slots, self.case.max_lora_rank)]

    def __call__(self, num_adapters: int, slots: int) -> SimulatedHour:
        """The row of one server."""
        key = (num_adapters, slots)
        if key not in self.rows:
            self.rows[key] = self._simulate(num_adapters, slots)
        return self.rows[key]

    def _workload(self, num_adapters: int) -> Workload:
        if self._drawn is None or self._drawn[0] != num_adapters:
            self._drawn = (num_adapters, draw(self.case.spec(num_adapters), self.seed))
        return self._drawn[1]

    def _simulate(self, num_adapters: int, slots: int) -> SimulatedHour:
        tokens = kv_tokens(self.profile, slots, self.case.max_lora_rank)
        if not tokens:
            return SimulatedHour(num_adapters, slots, 0)
        run = simulate(self._workload(num_adapters), self.profile, self.case.config(slots, num_adapters))
        seen = summarize(run, percentiles=False)
        row = SimulatedHour(
            adapters=num_adapters,
            slots=slots,
            kv_tokens=tokens,
            offered=seen.offered_throughput,
            throughput=seen.total_throughput,
            share=seen.served_share,
            queue_grows=seen.starved and not seen.starved_by_throughput,
            running_mean=seen.running_mean,
            waiting_mean=seen.waiting_mean,
            swap_ins_per_s=(seen.swap_ins or 0) / run.window_s,
            preemptions=seen.preemptions,
        )
        if not row.share > LATENCY_FROM:
            return row
        client = observe(run, self.profile.frontend)
        latencies = {
            "ttft_mean_ms": client.ttft_mean_s * 1e3,
            "tpot_mean_ms": client.tpot_mean_s * 1e3,
            "itl_mean_ms": client.itl_mean_s * 1e3,
        }
        return SimulatedHour(**{**vars(row), **latencies})


def explore(case: Case, profile: Profile, search: str = "edge", seed: int = 0) -> list[SimulatedHour]:
    """Simulate what a search asks for; rows by adapters and slots.

    Parameters
    ----------
    search
        `edge`: finds the most adapters served without starvation, and compares slots there and around (about 35 runs).
        `slots`: all slots at loads below the edge, where they decide on latency (about 45 runs).
        `grid`: all of the published grid of adapters x slots (55 runs, less those that do not start).

    Raises
    ------
    UnknownNameError
        Another search.
    """
    if search not in SEARCHES:
        raise UnknownNameError("search", search, SEARCHES)
    probe = Probe(case, profile, seed)
    {"edge": _edge_and_around, "slots": _slots_below, "grid": _whole_grid}[search](probe)
    return [probe.rows[key] for key in sorted(probe.rows)]


def _whole_grid(probe: Probe) -> None:
    for num_adapters in PUBLISHED_GRID:
        for slots in PUBLISHED_GRID:
            if slots <= num_adapters:
                probe(num_adapters, slots)


def _edge_and_around(probe: Probe) -> None:
    most = find_edge(probe)
    for fraction, every in COMPARED_AT.items():
        num_adapters = max(1, round(fraction * most))
        for slots in probe.slots(num_adapters)[::-every]:
            probe(num_adapters, slots)


def _slots_below(probe: Probe) -> None:
    most = guess(probe)
    for fraction in SLOTS_AT:
        num_adapters = max(1, round(fraction * most))
        for slots in probe.slots(num_adapters):
            probe(num_adapters, slots)


def find_edge(probe: Probe) -> float:
    """Most adapters that some slots serve without starving; between two whole numbers where the share says so.

    Secant steps on the logarithms of adapters and of the best served share, kept inside a bracket.
    """
    good: tuple[int, float] | None = None  # adapters, best share
    bad: tuple[int, float] | None = None
    num_adapters, near = guess(probe), 0
    while True:
        share, near = _best_share(probe, num_adapters, near)
        if share > STARVED_RATIO:
            good = (num_adapters, share)
        else:
            bad = (num_adapters, share)
        following = _next(good, bad)
        if following is None or following == num_adapters:
            return _interpolated(good, bad)
        num_adapters = following


def guess(probe: Probe) -> int:
    """The most adapters by the estimate alone."""
    mix, profile = mix_of(probe.case), probe.profile
    low, high = 0.0, log(MAX_ADAPTERS)
    while high - low > 0.02:
        middle = (low + high) / 2
        num_adapters = max(1, int(exp(middle)))
        slots = np.array(probe.slots(num_adapters) or [1])
        best = steady(mix, profile, np.full(len(slots), num_adapters), slots, loading=False).utilization.min()
        low, high = (middle, high) if best < 1.0 else (low, middle)
    return max(1, int(exp(low)))


def _best_share(probe: Probe, num_adapters: int, near: int) -> tuple[float, int]:
    """The best served share of any slots, and these slots: coarse at first, then around what was best before."""
    options = probe.slots(num_adapters)
    if not options:
        return 0.0, 0
    tried = _around(options, min(options, key=lambda slots: abs(log(slots / near)))) if near else options[::-3]
    best = max(tried, key=lambda slots: probe(num_adapters, slots).share)
    best = max(_around(options, best), key=lambda slots: probe(num_adapters, slots).share)
    return probe(num_adapters, best).share, best


def _around(options: list[int], slots: int) -> list[int]:
    at = options.index(slots)
    return options[max(0, at - 1) : at + 2]


def _next(good: tuple[int, float] | None, bad: tuple[int, float] | None) -> int | None:
    """Adapters to try next; None: the edge is known closely enough."""
    if good is None:
        assert bad is not None
        if bad[0] == 1:
            return None
        return max(1, min(bad[0] - 1, int(bad[0] * max(0.3, bad[1] / STARVED_RATIO) * 0.99)))
    if bad is None:
        if good[0] >= MAX_ADAPTERS:
            return None
        return min(MAX_ADAPTERS, max(good[0] + 1, int(good[0] * (1.2 if good[1] > 0.98 else 1.06))))
    if bad[0] - good[0] <= max(1, RESOLUTION * good[0]):
        return None
    middle = _interpolated(good, bad)
    room = 0.15 * (bad[0] - good[0])
    return int(min(max(middle, good[0] + max(1.0, room)), bad[0] - max(1.0, room)))


def _interpolated(good: tuple[int, float] | None, bad: tuple[int, float] | None) -> float:
    if good is None:
        return 0.0
    if bad is None or not bad[1] > 0:
        return float(good[0])
    slope = log(good[1] / bad[1])
    step = log(good[1] / STARVED_RATIO) / slope if slope > 0 else 0.0
    return float(good[0] * (bad[0] / good[0]) ** min(1.0, max(0.0, step)))
