"""The answer for one GPU: what to run, for how many of the adapters, and why not for all of them or in another way."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import isnan
from typing import Literal, get_args

from loratwin import notebook
from loratwin.errors import InputError, UnknownNameError
from loratwin.learn import Advice, predict
from loratwin.metrics import Slo, SloFor, SloRows, check_slo_for, parse_slo, slo_rows
from loratwin.perf import Profile
from loratwin.plan.choice import Candidate, Choice, Objective, check_objective, choose, closest, smallest
from loratwin.plan.grid import spread_order
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.margin import BiggestCustomer, MarginInterval
from loratwin.plan.search import Finder, Progress, Settings
from loratwin.plan.sentences import explanation, verdict
from loratwin.plan.trial import Bench, Result, Trial, longest_request
from loratwin.records import Run
from loratwin.simulate import Forecast, Outcome, forecast, try_config
from loratwin.simulate.workers import Workers
from loratwin.workload import BusiestHour, Workload, WorkloadSpec, busiest_hour, draw, part_of, varies

Hours = Literal["busiest", "all"]
"""Which hours of a longer window are planned."""

SEEDS = (0, 1, 2)

HEADROOM = 0.2
"""By how much all rates can be higher, unless told: enough for an hour that is busier than the one described."""

MOST_HEADROOM = STEP**FARTHEST - 1
"""Rates are not tried beyond this growth."""


@dataclass(frozen=True)
class Shortfall:
    """Why one GPU does not serve all adapters.

    Parameters
    ----------
    candidates
        What was tried for all adapters.
    closest
        Of these, the one that comes closest to working; None: no server starts.
    without_memory_limit
        The best that any slots would do if KV memory were free; None: not simulated, since the SLO (or the start) fails
        and not the throughput.
    """

    candidates: tuple[Candidate, ...]
    closest: Candidate | None
    without_memory_limit: Result | None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What to run on one GPU. All figures are simulated unless they say otherwise.

    Parameters
    ----------
    adapters, ranks
        All adapters of the workload, as listed.
    served
        Indices of those that this GPU serves; empty: none.
    choice
        The configuration to run and what is as good; its `best` is None when nothing works.
    alternatives
        Everything tried for the served adapters (for all, when none can be served), by slots and `max_num_seqs`.
    shortfall
        Why not all adapters; None: all are served.
    run
        The chosen configuration with the first seed.
    headroom
        Part by which all rates can be higher before the chosen configuration fails: a constraint, as the SLO is.
    confidence
        Least probability that a real run keeps up, as asked for; 0: none.
    slo_for
        Of whom the limits are asked: `all` (the server as a whole), `groups` or `adapters`.
    customers
        The SLO of every adapter for itself under the chosen configuration (first seed), whoever it is asked of; None:
        there is no SLO, or nothing works.
    margin_interval
        How well the margin of the chosen configuration is known; None: nothing works.
    biggest
        How far the biggest customer can grow by itself; None: nothing works.
    forecast
        Where a real run's figures will lie; None: nothing works, or the workload was drawn already.
    predicted
        What the learned model said beforehand; None: it was not asked.
    hour
        The busiest hour, which was planned; None: the whole window was.
    whole
        What the chosen configuration does with the whole window (first seed), where only its busiest hour was planned.
    notes
        What a reader must know of the chosen configuration, as leaving the profile's domain.
    """

    workload: str
    profile: Profile
    objective: Objective
    slo: Slo | None
    seeds: tuple[int, ...]
    window_s: float
    longest_request: int  # prompt and output tokens, of all adapters
    adapters: tuple[str, ...]
    ranks: tuple[int, ...]
    served: tuple[int, ...]
    choice: Choice
    alternatives: tuple[Candidate, ...]
    shortfall: Shortfall | None
    run: Run | None
    num_simulated: int
    headroom: float = 0.0
    confidence: float = 0.0
    slo_for: SloFor = "all"
    customers: SloRows | None = None
    margin_interval: MarginInterval | None = None
    biggest: BiggestCustomer | None = None
    forecast: Forecast | None = None
    predicted: Advice | None = None
    hour: BusiestHour | None = None
    whole: Outcome | None = None

    def __repr__(self) -> str:
        return f"<Plan: {verdict(self)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, what stands behind it, and the alternatives."""
        from loratwin.plan.text import alternatives  # it stands above, and holds plans

        header, *rows = alternatives(self)
        return notebook.view(verdict(self), notebook.lines(explanation(self)), notebook.table(rows, header))

    @property
    def best(self) -> Candidate | None:
        """The configuration to run; None: nothing works."""
        return self.choice.best

    @property
    def serves_all(self) -> bool:
        """Whether one GPU serves all adapters."""
        return self.shortfall is None

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names of the adapters that this GPU serves, as listed."""
        return tuple(self.adapters[i] for i in self.served)

    @property
    def shown(self) -> Candidate | None:
        """The configuration that figures are shown of: the best, else the one that comes closest to working."""
        return self.best or closest(self.alternatives, self.slo)

    @property
    def table(self) -> tuple[Candidate, ...]:
        """The alternatives with the `max_num_seqs` of the best one (of the closest one, when nothing works)."""
        if self.shown is None:
            return self.alternatives
        sequences = self.shown.config.max_num_seqs
        return tuple(candidate for candidate in self.alternatives if candidate.config.max_num_seqs == sequences)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the best configuration (on the closest one, when nothing works)."""
        return self.shown.notes if self.shown is not None else ()


def plan(
    workload: WorkloadSpec | Workload | Sequence[Workload],
    profile: Profile,
    *,
    objective: Objective = "throughput",
    slo: Slo | str | None = None,
    slo_for: SloFor | None = None,
    headroom: float = HEADROOM,
    confidence: float | None = None,
    seeds: Sequence[int] = SEEDS,
    slots: Sequence[int] | None = None,
    max_num_seqs: Sequence[int] | int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    fast: bool = False,
    hours: Hours | None = None,
    processes: int = 1,
    progress: Progress | None = None,
    name: str = "workload",
) -> Plan:
    """Find what to run on one GPU for a workload.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already, then `seeds` is ignored.
    profile
        Coefficients of the GPU, engine and LLM.
    objective
        `throughput` (the most tokens per second, then the least latency) or `latency` (the least mean end to end).
    slo
        Limits that a configuration must keep, as `ttft_p99=2s,tpot_p99=100ms` or `ttft<2s:99%`; None: those that the
        workload names, if any.
    slo_for
        Of whom they are asked: `all` (the server as a whole), `groups` or `adapters` (each of them, too); None: as the
        workload says, else `all`.
    headroom
        Part by which all rates can be higher before a configuration starves or misses the SLO: 0.2 for 20 %.
    confidence
        Least probability that a real run keeps up, from the profile's errors and the seeds: 0.9 for 90 %; None: it is
        only said how large that of the chosen configuration is.
    seeds
        Draws of the workload that each figure is the mean of.
    slots, max_num_seqs
        The only values to try; None: search.
    max_num_batched_tokens, max_model_len, gpu_memory_utilization
        None: what the profile's vLLM takes on its GPU; what the LLM allows; what that vLLM fills.
    fast
        Begin with the slots of the learned model (`loratwin.learn.predict`), half and twice as many, with the first
        seed; search only where none of them works. The rule that chooses is the same.
    hours
        Of a window of more than an hour plan `all` or the `busiest` one alone, which then serves the whole window once;
        None: the busiest where a specification has a daily curve or a trace.
    processes
        More than 1 starts further Python processes: a script then needs `if __name__ == "__main__":`. The result is the
        same for any number.
    progress
        Called with the number of simulations done, the number known to be needed so far, and what they are for.
    name
        Of the workload, to be shown.

    Returns
    -------
    Plan
        What to run, alternatives, margin, and why not all adapters where that is so; `plan_text` says it in words.
        docs/reference/plan.md has the rule that chooses.

    Raises
    ------
    InputError
        The workload has no adapters or no requests, or an option is impossible.
    """
    check_objective(objective)
    whole, hour = workload, _hour(workload, hours, seeds)
    if hour is not None:
        assert isinstance(workload, WorkloadSpec)
        workload = part_of(workload, hour.start_s)
    limits, reach, groups = _targets(workload, slo, slo_for)
    workloads = _drawn(workload, seeds[:1] if fast else seeds)
    bench = _bench(workloads, profile, limits, reach, groups)
    predicted = predict(workloads[0], profile, objective=objective, slots=slots) if fast else None
    settings = Settings(
        objective=objective,
        slo=limits,
        headroom=_checked_headroom(headroom),
        confidence=_checked_confidence(confidence),
        slots=_given(slots, "slots"),
        advised=predicted.slots_to_check if predicted is not None else None,
        sequences=_given([max_num_seqs] if isinstance(max_num_seqs, int) else max_num_seqs, "max_num_seqs"),
        max_num_batched_tokens=(
            profile.limits.max_num_batched_tokens if max_num_batched_tokens is None else max_num_batched_tokens
        ),
        max_model_len=max_model_len,
        gpu_memory_utilization=(
            profile.gpu_memory_utilization if gpu_memory_utilization is None else gpu_memory_utilization
        ),
    )
    with Workers[Trial, Result](bench.measure, processes) as workers:
        answer = replace(_plan(Finder(bench, settings, workers, progress), name), predicted=predicted)
    if hour is not None:
        assert isinstance(whole, WorkloadSpec)
        answer = replace(answer, hour=hour, whole=_whole_window(answer, whole))
    return _with_forecast(answer, workload) if isinstance(workload, WorkloadSpec) else answer


def _hour(
    workload: WorkloadSpec | Workload | Sequence[Workload], hours: str | None, seeds: Sequence[int]
) -> BusiestHour | None:
    """The hour to plan; None: the whole window."""
    if hours not in (None, *get_args(Hours)):
        raise UnknownNameError("hours", str(hours), get_args(Hours))
    if not isinstance(workload, WorkloadSpec):
        if hours == "busiest":
            raise InputError("hours = 'busiest' needs a specification of the workload: this one was drawn already")
        return None
    wanted = hours == "busiest" or (hours is None and varies(workload))
    return busiest_hour(workload, next(iter(seeds), 0)) if wanted else None


def _whole_window(answer: Plan, spec: WorkloadSpec) -> Outcome | None:
    if answer.best is None:
        return None
    drawn = draw(spec, answer.seeds[0])
    if not answer.serves_all:
        drawn = drawn.take_adapters(answer.served)
    return try_config(drawn, answer.profile, answer.best.config, answer.slo)


def _with_forecast(answer: Plan, spec: WorkloadSpec) -> Plan:
    if answer.best is None:
        return answer
    return replace(answer, forecast=forecast(spec, answer.profile, answer.best.config, served=answer.served))


def _plan(finder: Finder, name: str) -> Plan:
    bench, settings = finder.bench, finder.settings
    num_adapters = len(bench.order)
    alternatives, shortfall = finder.alternatives(num_adapters), None
    choice = choose(alternatives, settings.objective, settings.slo)
    if choice.best is None:
        shortfall = _shortfall(finder, alternatives)
        num_adapters, for_fewer = _for_fewer(finder)
        alternatives = for_fewer or alternatives
        choice = choose(alternatives, settings.objective, settings.slo)
    alternatives, choice = _with_chance(finder, alternatives, choice)
    adapters = bench.workloads[0].adapters
    run = bench.simulate(Trial(choice.best.config, num_adapters)) if choice.best else None
    return Plan(
        workload=name,
        profile=bench.profile,
        objective=settings.objective,
        slo=settings.slo,
        seeds=tuple(workload.seed for workload in bench.workloads),
        window_s=bench.workloads[0].window_s,
        longest_request=max(longest_request(workload) for workload in bench.workloads),
        adapters=adapters.name,
        ranks=tuple(adapters.rank.tolist()),
        served=tuple(bench.taken(num_adapters)),
        choice=choice,
        alternatives=tuple(sorted(alternatives, key=smallest)),
        shortfall=shortfall,
        run=run,
        headroom=settings.headroom,
        confidence=settings.confidence,
        slo_for=bench.slo_for,
        customers=slo_rows(run, bench.slo) if run is not None and bench.slo is not None else None,
        margin_interval=finder.margin_interval(choice.best) if choice.best else None,
        biggest=finder.biggest_customer(choice.best) if choice.best else None,
        num_simulated=finder.num_simulated,
    )


def _with_chance(finder: Finder, alternatives: list[Candidate], choice: Choice) -> tuple[list[Candidate], Choice]:
    """The same, and the chance of the chosen one where it is not known yet."""
    best = choice.best
    if best is None or not isnan(best.chance):
        return alternatives, choice
    (judged,) = finder.with_chance([best])
    near = tuple(judged if candidate is best else candidate for candidate in choice.near)
    return [judged if candidate is best else candidate for candidate in alternatives], Choice(judged, near)


def _shortfall(finder: Finder, candidates: Sequence[Candidate]) -> Shortfall:
    nearest = closest(candidates, finder.settings.slo)
    starved = nearest is not None and nearest.starved
    relaxed = finder.with_unlimited_memory(len(finder.bench.order)) if starved else None
    return Shortfall(tuple(candidates), nearest, relaxed)


def _for_fewer(finder: Finder) -> tuple[int, list[Candidate]]:
    """How many adapters work with all seeds, and the candidates for them; (0, []) when not even one does."""
    num_adapters = finder.most_adapters()
    while num_adapters:
        candidates = finder.alternatives(num_adapters)
        if any(candidate.works(finder.settings.slo) for candidate in candidates):
            return num_adapters, candidates
        num_adapters -= max(1, num_adapters // 64)  # the other seeds are a little less lucky
    return 0, []


def _drawn(workload: WorkloadSpec | Workload | Sequence[Workload], seeds: Sequence[int]) -> tuple[Workload, ...]:
    if isinstance(workload, WorkloadSpec) and not seeds:
        raise InputError("seeds: at least one is needed")
    if isinstance(workload, WorkloadSpec):
        drawn: tuple[Workload, ...] = tuple(draw(workload, seed) for seed in seeds)
    else:
        drawn = (workload,) if isinstance(workload, Workload) else tuple(workload)
    for one in drawn:
        one.check_rated("a plan")
    return drawn


def _targets(
    workload: WorkloadSpec | Workload | Sequence[Workload], slo: Slo | str | None, slo_for: str | None
) -> tuple[Slo | None, SloFor, tuple[str, ...]]:
    """Limits, of whom they are asked, and the names of the groups: as given, else as the workload says."""
    groups: tuple[str, ...] = ()
    if isinstance(workload, WorkloadSpec):
        groups = tuple(group.name for group in workload.groups)
        slo, slo_for = slo or workload.slo, slo_for or workload.slo_for
    limits = parse_slo(slo) if isinstance(slo, str) else slo
    reach = check_slo_for(slo_for or "all")
    if reach != "all" and limits is None:
        raise InputError(f"an SLO for {reach} is asked for, but none is given: add one, as --slo ttft_p99=2s")
    return limits, reach, groups


def _bench(
    workloads: tuple[Workload, ...], profile: Profile, slo: Slo | None, slo_for: SloFor, groups: tuple[str, ...]
) -> Bench:
    if not workloads or not len(workloads[0].adapters):
        raise InputError("the workload has no adapters; there is nothing to plan")
    if not all(workload.num_requests for workload in workloads):
        raise InputError("the workload has no requests in its window; there is nothing to plan")
    return Bench(workloads, spread_order(workloads[0].adapters), profile, slo, slo_for, groups)


def parse_headroom(text: str) -> float:
    """Read `30%` or `30`: per cent by which all rates can be higher, as a part.

    Raises
    ------
    InputError
        It is no number.
    """
    try:
        return float(text.strip().removesuffix("%")) / 100
    except ValueError:
        raise InputError(f"headroom {text!r} is not a number of per cent; write 30%") from None


def _checked_headroom(headroom: float) -> float:
    if not 0 <= headroom <= MOST_HEADROOM:
        raise InputError(
            f"headroom = {100 * headroom:g} %, but it must be from 0 to {100 * MOST_HEADROOM:.0f} %: rates are not "
            "tried beyond that"
        )
    return headroom


def _checked_confidence(confidence: float | None) -> float:
    if confidence is None:
        return 0.0
    if not 0 < confidence < 1:
        why = "nothing is certain" if confidence == 1 else "it is a probability"
        raise InputError(f"confidence = {confidence:g}, but it must be above 0 and below 1 ({why}); 0.9 asks for 90 %")
    return confidence


def _given(values: Sequence[int] | None, name: str) -> tuple[int, ...] | None:
    if values is None:
        return None
    for value in values:
        if value < 1:
            raise InputError(f"{name}: {value}, but it must be at least 1")
    if not values:
        raise InputError(f"{name}: the list is empty")
    return tuple(sorted(set(values)))
