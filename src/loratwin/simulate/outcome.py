"""What one configuration does with one workload: the few figures that remain of a run."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from loratwin.errors import CapacityError
from loratwin.metrics import Interval, Slo, Summary, confidence_interval, goodput, starving_adapters, summarize
from loratwin.perf import Profile, Uncertainty
from loratwin.records import EngineConfig, Run
from loratwin.simulate.engine import served_capacity, simulate
from loratwin.simulate.verdict import real_slo_s
from loratwin.workload import Workload


@dataclass(frozen=True)
class Outcome:
    """Small enough to keep for thousands of configurations, and to send between processes."""

    config: EngineConfig
    seed: int | None
    kv_tokens: int  # what the KV cache holds, also where that is too little to start
    reason: str  # why the server does not start; empty when it does
    summary: Summary | None  # None: it does not start
    starving: tuple[str, ...] = ()  # names of the adapters that starve
    slo_s: Mapping[str, float] = field(default_factory=dict)  # by limit, as "ttft_p99": the figure reached
    real_slo_s: Mapping[str, float] = field(default_factory=dict)  # ... and what a real run will, where that differs
    goodput: float = float("nan")  # requests per second within every limit of the SLO; NaN without one
    notes: tuple[str, ...] = ()
    ended_share: float = 1.0  # of a run that was over with its last answer: how much of it was not for a backlog

    @property
    def starts(self) -> bool:
        """Whether there is a server at all."""
        return self.summary is not None


LEVEL = 0.95
"""Confidence of the intervals of means."""

_NUMBER = re.compile(r"\d[\d,.e+-]*")


def each_once(notes: Iterable[str]) -> tuple[str, ...]:
    """Notes without repetition; of those that differ in their numbers only, as those of several seeds do, the first."""
    first: dict[str, str] = {}
    for note in notes:
        first.setdefault(_NUMBER.sub("#", note), note)
    return tuple(first.values())


def outcome(
    run: Run,
    slo: Slo | None = None,
    uncertainty: Uncertainty | None = None,
    percentiles: bool = True,
    of: Run | None = None,
) -> Outcome:
    """What remains of a run.

    Parameters
    ----------
    uncertainty
        Of the profile: what a real run will reach of the SLO's limits.
    of
        The run with only the requests that the SLO is asked of; None: all.
    """
    assert run.kv_tokens is not None, "a simulated run knows its KV cache"
    summary, asked = summarize(run, percentiles), run if of is None else of
    slo_s = {limit.name: limit.value_s(asked) for limit in slo.limits} if slo else {}
    return Outcome(
        config=run.config,
        seed=run.provenance.seed,
        kv_tokens=run.kv_tokens,
        reason="",
        summary=summary,
        starving=starving_adapters(run),
        slo_s=slo_s,
        real_slo_s=real_slo_s(slo, slo_s, summary.served_share, uncertainty) if slo else {},
        goodput=goodput(asked, slo.per_request_s()) if slo else float("nan"),
        notes=run.provenance.notes,
    )


def slo_over_seeds(outcomes: Sequence[Outcome], level: float = LEVEL) -> dict[str, Interval]:
    """Means of the figures that an SLO limits, by limit; the outcomes are of servers that start."""
    return _over([outcome.slo_s for outcome in outcomes], outcomes[0].slo_s, level)


def real_slo_over_seeds(outcomes: Sequence[Outcome], level: float = LEVEL) -> dict[str, Interval]:
    """The same of what a real run will reach, of those limits alone where that is not the twin's own figure."""
    differing = dict.fromkeys(name for outcome in outcomes for name in outcome.real_slo_s)
    return _over([{**outcome.slo_s, **outcome.real_slo_s} for outcome in outcomes], differing, level)


def _over(rows: Sequence[Mapping[str, float]], names: Iterable[str], level: float) -> dict[str, Interval]:
    return {name: confidence_interval([row[name] for row in rows], level) for name in names}


def try_config(
    workload: Workload,
    profile: Profile,
    config: EngineConfig,
    slo: Slo | None = None,
    percentiles: bool = True,
    keep: Callable[[Run], None] = lambda run: None,
) -> Outcome:
    """Simulate one configuration; a server that does not start is an outcome, with its reason.

    Parameters
    ----------
    keep
        Is given the run, where there is one.

    Raises
    ------
    InputError
        As `simulate`, but for servers that do not start.
    """
    try:
        run = simulate(workload, profile, config)
    except CapacityError as error:
        return Outcome(config, workload.seed, served_capacity(profile, config).tokens, str(error), None)
    keep(run)
    judged = outcome(run, slo, profile.uncertainty, percentiles)
    return replace(judged, ended_share=_ended_share(workload, run, judged.summary)) if judged.summary else judged


def _ended_share(workload: Workload, run: Run, summary: Summary) -> float:
    """Of a run that is over when all are answered: last arrival and a request's time, as a part of it; else 1."""
    if not workload.pattern.until_answered or workload.pattern.in_flight or not workload.num_requests:
        return 1.0
    return float(min(1.0, (workload.arrival_s[-1] + summary.e2e_mean_ms / 1e3) / run.window_s))
