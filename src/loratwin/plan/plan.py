"""The answer for one GPU: what to run, for how many of the adapters, and why not for all of them or in another way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any

from loratwin.learn import predict
from loratwin.metrics import Slo, SloFor, Summary, summarize
from loratwin.perf import Profile
from loratwin.plan.choice import Candidate, Choice, Objective, check_objective, choose, closest, smallest
from loratwin.plan.question import (
    HEADROOM,
    SEEDS,
    AnyWorkload,
    Hours,
    bench_for,
    drawn_for,
    hour_to_plan,
    settings_for,
    targets,
)
from loratwin.plan.result import Plan, Shortfall
from loratwin.plan.search import Finder, Progress
from loratwin.plan.targets import customers, own_limits
from loratwin.plan.trial import Bench, Result, Trial, longest_request
from loratwin.simulate import Outcome, forecast, try_config
from loratwin.simulate.workers import Workers
from loratwin.workload import BusiestHour, WorkloadSpec, draw, part_of


def plan(
    workload: AnyWorkload,
    profile: Profile,
    *,
    objective: Objective = "throughput",
    slo: Slo | str | None = None,
    slo_for: SloFor | None = None,
    group_slos: Mapping[str, Slo | str] | None = None,
    headroom: float = HEADROOM,
    confidence: float | None = None,
    seeds: Sequence[int] = SEEDS,
    slots: Sequence[int] | None = None,
    max_num_seqs: Sequence[int] | int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    settings: Mapping[str, Any] | None = None,
    extrapolate: bool = False,
    fast: bool = False,
    hours: Hours | None = None,
    processes: int = 1,
    progress: Progress | None = None,
    name: str = "workload",
    group_names: Sequence[str] = (),
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
    group_slos
        Limits of groups by name, each in place of `slo` for that group's requests and of what the workload says of it.
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
    settings
        Other fields of `EngineConfig` that every configuration has, as `kv_cache_dtype`; those that are None, as usual.
    extrapolate
        Search slots and `max_num_seqs` beyond what the profile was measured at, too. What is given is always tried.
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
    group_names
        Of a workload that was drawn already, by index; a specification tells its own.

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
    hour = hour_to_plan(workload, hours, seeds)
    planned = _part(workload, hour)
    limits = targets(planned, slo, slo_for, group_slos, group_names)
    bench = bench_for(drawn_for(planned, seeds[:1] if fast else seeds), profile, limits)
    predicted = predict(bench.workloads[0], profile, objective=objective, slots=slots) if fast else None
    asked = settings_for(
        profile,
        objective=objective,
        slo=limits.slo,
        headroom=headroom,
        confidence=confidence,
        slots=slots,
        advised=predicted.slots_to_check if predicted is not None else None,
        max_num_seqs=max_num_seqs,
        max_num_batched_tokens=max_num_batched_tokens,
        max_model_len=max_model_len,
        gpu_memory_utilization=gpu_memory_utilization,
        others=settings or {},
        extrapolate=extrapolate,
    )
    with Workers[Trial, Result](bench.measure, processes) as workers:
        answer = replace(_plan(Finder(bench, asked, workers, progress), name), predicted=predicted)
    return _with_outlook(answer, workload, planned, hour)


def _part(workload: AnyWorkload, hour: BusiestHour | None) -> AnyWorkload:
    """The hour alone, where one is planned."""
    if hour is None:
        return workload
    assert isinstance(workload, WorkloadSpec)
    return part_of(workload, hour.start_s)


def _with_outlook(answer: Plan, whole: AnyWorkload, planned: AnyWorkload, hour: BusiestHour | None) -> Plan:
    """The same, with what the answer does over the whole window and where a real run will lie."""
    if hour is not None:
        assert isinstance(whole, WorkloadSpec)
        answer = replace(answer, hour=hour, whole=_whole_window(answer, whole))
    return _with_forecast(answer, planned) if isinstance(planned, WorkloadSpec) else answer


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
    group = bench.workload(num_adapters).adapters.group
    cached = choice.best is not None and run is not None and run.prefix_cache is not None
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
        slo_for=bench.targets.slo_for,
        groups=bench.targets.groups,
        group_slos=bench.targets.own,
        customers=None if run is None else customers(bench.targets, run, group, bench.profile.uncertainty),
        own_limits=() if run is None else own_limits(bench.targets, run, group, bench.profile.uncertainty),
        margin_interval=finder.margin_interval(choice.best) if choice.best else None,
        biggest=finder.biggest_customer(choice.best) if choice.best else None,
        without_cache=_without_cache(bench, choice, num_adapters) if cached else None,
        num_simulated=finder.num_simulated,
    )


def _without_cache(bench: Bench, choice: Choice, num_adapters: int) -> Summary:
    """What the chosen configuration does where every prompt is computed whole."""
    assert choice.best is not None
    config = choice.best.config.replace(enable_prefix_caching=False)
    return summarize(bench.simulate(Trial(config, num_adapters)))


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
