"""Which configuration to run, given what each of them does: a pure function on a list of evaluated candidates.

Nothing is simulated here, so the same rule decides for a plan, for a grid of measured points, and in tests.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isnan, nan
from typing import Literal, get_args

from loratwin.errors import UnknownNameError
from loratwin.metrics import Interval, Limit, Slo, is_slow
from loratwin.records import EngineConfig

Objective = Literal["throughput", "latency"]

NOISE = 0.01
"""Two figures that differ by less are equal: the same measured run with another seed differs by about as much."""

TAIL_NOISE = 0.1
"""High percentiles differ by so much from seed to seed."""

MARGIN_NOISE = 0.105
"""Of how far the rates can grow: +89 % and +80 % are equal. Margins are found in steps of 5 % with one seed, and a
tenth counts as rounded."""


@dataclass(frozen=True)
class Candidate:
    """One configuration of one server for some adapters, and what the twin says of it.

    Parameters
    ----------
    kv_tokens
        Tokens that the KV cache holds.
    starts, why_not
        Whether the server starts, and the reason when it does not; then all figures are missing.
    starved
        Starves with at least one of the seeds.
    starving_adapters
        Adapters that starve for themselves, the mean over the seeds; the server as a whole may keep up.
    figures
        The fields of `metrics.Summary` as means over the seeds; `total_throughput`, `ttft_mean_ms` and `tpot_mean_ms`
        are what decisions need.
    slo_s
        Seconds for each limit of the SLO, by its name (`ttft_p99`).
    real_slo_s
        The same in the middle of real runs, of those limits alone where that is not the twin's own figure: percentiles
        (`loratwin.simulate.verdict`). It is what the limit is held to.
    missing
        Groups or adapters that miss the SLO with most seeds, where it is asked of each of them.
    slo_asked
        Whether the limits of the server as a whole are asked of anybody; not where all requests are of groups that have
        limits of their own.
    output_tokens_mean
        Of all requests that arrive.
    waits
        Mean number of requests that wait, by the limit that they wait for: see `causes`.
    has_headroom
        Whether it still keeps up when all rates are higher by the headroom that was asked for.
    chance
        Probability that a real run keeps up (`loratwin.simulate.chance_kept`); NaN: not searched.
    is_likely
        Whether that is at least the confidence that was asked for.
    margin
        Factor by which all rates can grow before this configuration starves or misses the SLO; NaN: not searched.
    notes
        What a reader must know, as leaving the profile's domain.
    """

    config: EngineConfig
    served_adapters: int
    kv_tokens: int
    starts: bool = True
    why_not: str = ""
    starved: bool = False
    starving_adapters: float = nan
    figures: Mapping[str, Interval] = field(default_factory=dict)
    slo_s: Mapping[str, Interval] = field(default_factory=dict)
    real_slo_s: Mapping[str, Interval] = field(default_factory=dict)
    missing: tuple[str, ...] = ()
    slo_asked: bool = True
    output_tokens_mean: float = nan
    waits: Mapping[str, float] = field(default_factory=dict)
    has_headroom: bool = True
    chance: float = nan
    is_likely: bool = True
    margin: float = nan
    notes: tuple[str, ...] = ()

    @property
    def slots(self) -> int:
        """`max_loras`."""
        return self.config.max_loras

    @property
    def num_seeds(self) -> int:
        """Runs that the figures are means of; 0 when the server does not start."""
        return self.figures["total_throughput"].count if "total_throughput" in self.figures else 0

    def mean(self, name: str) -> float:
        """Mean over the seeds of a field of `metrics.Summary`; NaN where there is none."""
        return self.figures[name].mean if name in self.figures else nan

    @property
    def throughput(self) -> float:
        """Tokens per second, input and output."""
        return self.mean("total_throughput")

    @property
    def latency_ms(self) -> float:
        """Mean end-to-end latency: TTFT + TPOT x (mean output - 1)."""
        return self.mean("ttft_mean_ms") + self.mean("tpot_mean_ms") * (self.output_tokens_mean - 1)

    def missed(self, slo: Slo | None) -> tuple[Limit, ...]:
        """Limits that the mean over the seeds does not keep; an unknown figure does not keep its limit."""
        limits = slo.limits if slo is not None and self.slo_asked else ()
        return tuple(limit for limit in limits if not self.reached_s(limit) <= limit.limit_s)

    def misses_slo(self, slo: Slo | None) -> bool:
        """Whether a limit is not kept, by the server or by one of those of whom it is asked."""
        return bool(self.missing or self.missed(slo))

    def keeps_up(self, slo: Slo | None = None) -> bool:
        """Starts, does not starve and keeps the SLO, at the rates as they are."""
        return self.starts and not self.starved and not self.misses_slo(slo)

    def works(self, slo: Slo | None = None) -> bool:
        """Keeps up, likely enough, and still does when all rates are higher by the headroom that was asked for."""
        return self.has_headroom and self.is_likely and self.keeps_up(slo)

    def reached_s(self, limit: Limit) -> float:
        """What a limit is held to: a real run's percentile where known, else the twin's figure; NaN: unknown."""
        known = self.real_slo_s.get(limit.name) or self.slo_s.get(limit.name)
        return nan if known is None else known.mean


@dataclass(frozen=True)
class Choice:
    """What to run (None: no candidate works) and what is as good."""

    best: Candidate | None
    near: tuple[Candidate, ...]  # within the noise of the best by the objective alone, the best included

    @property
    def near_slots(self) -> tuple[int, ...]:
        """Slots that are as good, ascending."""
        return tuple(sorted({candidate.slots for candidate in self.near}))


def choose(
    candidates: Iterable[Candidate],
    objective: Objective = "throughput",
    slo: Slo | None = None,
    tolerance: float = NOISE,
) -> Choice:
    """The best of the candidates that start, do not starve, keep the SLO and have the headroom.

    `throughput`: the most tokens per second. `latency`: the least mean end-to-end latency. What differs by less than
    `tolerance` in that is equal, and of equal ones (in this order)

    1. those whose rates can grow most, to `MARGIN_NOISE`: a server at the brink fails with the first busy hour; one
       that is slow already (`metrics.is_slow`) sets no margin to be reached, and has a place only where all are;
    2. for throughput, those of the least mean end-to-end latency, to `tolerance`;
    3. those of the least TTFT in the 99th percentile, to `TAIL_NOISE`: just below enough slots the tail is long while
       the mean hardly shows it;
    4. the fewest slots: every slot takes KV memory and lengthens every step even when it is idle; then the fewest
       sequences.

    Margins and tails count where they are known.

    Raises
    ------
    UnknownNameError
        Another objective.
    """
    check_objective(objective)
    working = [candidate for candidate in candidates if candidate.works(slo)]
    if not working:
        return Choice(None, ())
    near = _within(working, _latency if objective == "latency" else _inverse_throughput, tolerance)
    roomy = _with_most_margin(near) if tolerance else near
    equal = roomy if objective == "latency" else _within(roomy, _latency, tolerance)
    finalists = _within(equal, _tail, TAIL_NOISE) if tolerance else equal
    return Choice(min(finalists, key=smallest), tuple(sorted(near, key=smallest)))


def frontier(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other one beats: it would have at most their latency, at least their throughput and margin, and be
    better in one of these. A margin that was not searched counts as none; what starves is not among them."""
    known = [(candidate, _merits(candidate)) for candidate in candidates if candidate.starts and not candidate.starved]
    return [candidate for candidate, merits in known if not any(_beats(other, merits) for _, other in known)]


def _merits(candidate: Candidate) -> tuple[float, ...]:
    """The more, the better; what is not known is the worst."""
    values = (-candidate.latency_ms, candidate.throughput, candidate.margin)
    return tuple(-inf if isnan(value) else value for value in values)


def _beats(other: tuple[float, ...], merits: tuple[float, ...]) -> bool:
    return other != merits and all(theirs >= mine for theirs, mine in zip(other, merits, strict=True))


def check_objective(objective: str) -> None:
    """Refuse an unknown objective.

    Raises
    ------
    UnknownNameError
        It is not one of `Objective`.
    """
    if objective not in get_args(Objective):
        raise UnknownNameError("objective", objective, get_args(Objective))


def closest(candidates: Sequence[Candidate], slo: Slo | None = None) -> Candidate | None:
    """Of candidates none of which works, the one that comes closest: starts, serves most, misses the SLO by least,
    has the largest chance and margin."""
    started = [candidate for candidate in candidates if candidate.starts]
    return min(started, key=lambda candidate: _distance(candidate, slo), default=None)


def excess(candidate: Candidate, slo: Slo | None) -> dict[str, float]:
    """By how much each missed limit is missed: figure / limit; infinite where the figure is unknown."""
    ratios = {}
    for limit in candidate.missed(slo):
        value = candidate.reached_s(limit)
        ratios[limit.name] = inf if isnan(value) else value / limit.limit_s
    return ratios


def _distance(candidate: Candidate, slo: Slo | None) -> tuple[bool, float, float, float, float, float]:
    share = candidate.mean("served_share")
    worst = max(excess(candidate, slo).values(), default=0.0)
    if candidate.starved:
        return True, 1 - share if not isnan(share) else inf, worst, len(candidate.missing), 0.0, 0.0
    return (
        False,
        worst,
        len(candidate.missing),
        0.0 if candidate.is_likely or isnan(candidate.chance) else -candidate.chance,
        0.0 if isnan(candidate.margin) else -candidate.margin,
        _latency(candidate),
    )


def _with_most_margin(candidates: list[Candidate]) -> list[Candidate]:
    """Of those that are not slow, those whose rates can grow by the most, to `MARGIN_NOISE` of the growth; all where no
    margin is known."""
    if all(isnan(candidate.margin) for candidate in candidates):
        return candidates
    counted = [candidate for candidate in candidates if not is_slow(candidate.mean("ttft_p99_ms"))] or candidates
    most = max((candidate.margin for candidate in counted if not isnan(candidate.margin)), default=nan)
    return [candidate for candidate in counted if not candidate.margin - 1 < (1 - MARGIN_NOISE) * (most - 1)]


def _within(candidates: list[Candidate], cost: Callable[[Candidate], float], tolerance: float) -> list[Candidate]:
    """The candidates whose cost (positive, less is better) is within the tolerance of the least."""
    least = min(map(cost, candidates))
    return [candidate for candidate in candidates if cost(candidate) <= least * (1 + tolerance)]


def _inverse_throughput(candidate: Candidate) -> float:
    return 1 / candidate.throughput if candidate.throughput > 0 else inf


def _latency(candidate: Candidate) -> float:
    return inf if isnan(candidate.latency_ms) else candidate.latency_ms


def _tail(candidate: Candidate) -> float:
    tail = candidate.mean("ttft_p99_ms")
    return inf if isnan(tail) else tail


def smallest(candidate: Candidate) -> tuple[int, int]:
    """To sort by: slots, then sequences."""
    return candidate.slots, candidate.config.max_num_seqs
