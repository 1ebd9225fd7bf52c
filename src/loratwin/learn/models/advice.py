"""Advice for a workload by the learned model alone: how many adapters, which slots, what to expect."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import isfinite, sqrt
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.formatting import figure, milliseconds, share, span
from loratwin.learn.cases.case import F8, MAX_NUM_SEQS, Mix
from loratwin.learn.cases.labels import nearest_slots
from loratwin.learn.cases.physics import kv_tokens
from loratwin.learn.cases.search import SLOTS
from loratwin.learn.models.model import LearnedModel, PredictedFigures, load_model
from loratwin.metrics import STARVED_RATIO
from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold
from loratwin.records.plain import as_plain
from loratwin.workload import Workload, WorkloadSpec, draw

if TYPE_CHECKING:
    from loratwin.simulate import Outcome

OBJECTIVES = ("throughput", "latency")

SHARE_ERROR = 0.02
"""Standard error of a predicted served share near saturation, from cross-validation."""

LATENCY_SLACK = 0.05
"""Predicted latencies that differ by less are taken as equal: TTFT jumps where slots run out, and is learned worst."""

MAX_RATES = 64
"""Rates that a workload is reduced to: half are the most popular adapters, half means of equal parts of the others."""


@dataclass(frozen=True)
class Estimate:
    """A prediction and the interval that holds in 90 % of cases like those learned from.

    Parameters
    ----------
    value, low, high
        In the unit of the figure.
    """

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Advice:
    """What the learned model says of a workload on one GPU.

    Parameters
    ----------
    adapters
        Of the workload.
    most_adapters
        Of such adapters that one GPU can serve, whatever number the workload has.
    slots
        Advised; None: the workload starves with any.
    near_slots
        Within 1 % of the best throughput.
    config
        The server with the advised slots; None where there are none.
    throughput, share, ttft_ms, tpot_ms, itl_ms
        With the advised slots; missing where there are none. Share is of the offered tokens.
    notes
        What lies outside what was learned.
    slots_to_check
        Those advised; where the workload starves, those for as many adapters as can be served.
    twin
        One run of the twin with the advised slots; None: not asked for, or there are none.
    """

    adapters: int
    most_adapters: Estimate
    slots: int | None
    near_slots: tuple[int, ...]
    config: EngineConfig | None
    throughput: Estimate | None
    share: Estimate | None
    ttft_ms: Estimate | None
    tpot_ms: Estimate | None
    itl_ms: Estimate | None
    notes: tuple[str, ...]
    slots_to_check: int = 0
    twin: Outcome | None = None

    def as_json(self) -> dict[str, Any]:
        """As plain data, without what the twin says."""
        names = [field.name for field in fields(self) if field.name not in ("slots_to_check", "twin")]
        plain: dict[str, Any] = {name: as_plain(getattr(self, name)) for name in names}
        return {**plain, "config": self.config and self.config.model_dump()}


def mix_of_workload(workload: Workload) -> Mix:
    """A drawn workload as the learned model sees it: nominal rates, drawn lengths, burstiness of the arrivals.

    Raises
    ------
    InputError
        It has no adapters or no requests, or also asks for the LLM without an adapter.
    """
    rates = np.sort(workload.adapters.rate_per_s)
    if not len(rates) or not workload.num_requests or not rates[-1] > 0:
        raise InputError("the workload has no adapters or no requests; there is nothing to predict")
    if workload.base_rate_per_s > 0:
        raise InputError("the workload also uses the LLM without adapter, which was not learned; `loratwin plan` can")
    prompt, output = workload.prompt_tokens.astype(float), workload.output_tokens.astype(float)
    ranks = workload.adapters.rank
    values, weight = _reduced(rates)
    return Mix(
        rate_per_s=values,
        weight=weight,
        rank_mean=float(ranks.mean()),
        rank_std=float(ranks.std()),
        rank_min=int(ranks.min()),
        rank_max=int(ranks.max()),
        max_lora_rank=ranks_that_hold(int(ranks.max()))[0],
        prompt_mean=float(prompt.mean()),
        output_mean=float(output.mean()),
        context_mean=float((output * (prompt + output / 2)).sum() / output.sum()),
        arrivals_cv=burstiness(workload),
    )


def _reduced(rates: F8) -> tuple[F8, F8]:
    """Distinct rates and their shares; where there are many, as `MAX_RATES` says."""
    values, counts = np.unique(rates, return_counts=True)
    if len(values) <= MAX_RATES:
        return values, counts / counts.sum()
    half = MAX_RATES // 2
    parts = [*np.array_split(rates[:-half], half), *rates[-half:, None]]
    sizes = np.array([len(part) for part in parts], dtype=float)
    return np.array([part.mean() for part in parts]), sizes / sizes.sum()


def burstiness(workload: Workload) -> float:
    """Std / mean of the gaps between an adapter's requests, to 1: the mean over adapters, by their requests.

    Adapters with fewer than 10 requests say nothing. Chance alone gives 1 +- 0.1, which counts as Poisson.
    """
    order = np.argsort(workload.adapter, kind="stable")
    who, when = workload.adapter[order], workload.arrival_s[order]
    total, squares = 0.0, 0.0
    starts = np.flatnonzero(np.diff(who, prepend=who[0] - 1))
    for part in np.split(when, starts[1:]):
        gaps = np.diff(part)
        if len(gaps) >= 10 and gaps.mean() > 0:
            total += len(gaps)
            squares += len(gaps) * float(gaps.var() / gaps.mean() ** 2)
    cv = sqrt(squares / total) if total else 1.0
    return 1.0 if abs(cv - 1) < 0.1 else cv


def predict(
    workload: WorkloadSpec | Workload,
    profile: Profile,
    model: LearnedModel | None = None,
    objective: str = "throughput",
    slots: Sequence[int] | None = None,
    seed: int = 0,
    check: bool = False,
) -> Advice:
    """Advise slots for a workload in milliseconds, by what was learned from the twin: `loratwin learn predict`.

    Parameters
    ----------
    workload
        A specification, or what was drawn already; then `seed` is ignored.
    profile
        Coefficients of the GPU, engine and LLM.
    model
        None: the one that is shipped.
    objective
        `throughput`, or `latency` (mean end to end).
    slots
        The only values to choose from; None: those of `SLOTS` up to one for each adapter.
    seed
        Of the draw: which adapters are how popular, and the lengths.
    check
        Run the twin once with the advised slots.

    Returns
    -------
    Advice
        Figures with intervals that hold in 90 % of cases like those learned from (errors: docs/findings/learn.md).

    Raises
    ------
    UnknownNameError
        Another objective.
    InputError
        The workload cannot be predicted (see `mix_of_workload`), or has prompts that the LLM does not take.
    """
    if objective not in OBJECTIVES:
        raise UnknownNameError("objective", objective, OBJECTIVES)
    drawn = workload if isinstance(workload, Workload) else draw(workload, seed)
    model = load_model() if model is None else model
    mix = mix_of_workload(drawn)
    advice = _advice(drawn, mix, profile, model, objective, slots)
    wanted = advice.slots or nearest_slots(model.workload_figure("slots", mix, profile), slots or SLOTS)
    twin = _tried(drawn, profile, advice) if check else None
    return replace(advice, slots_to_check=wanted, twin=twin)


def _tried(workload: Workload, profile: Profile, advice: Advice) -> Outcome | None:
    from loratwin.simulate import try_config  # it compiles the kernel, which the answer itself does without

    return None if advice.config is None else try_config(workload, profile, advice.config)


def _advice(
    workload: Workload, mix: Mix, profile: Profile, model: LearnedModel, objective: str, slots: Sequence[int] | None
) -> Advice:
    _check_prompts(workload, profile)
    adapters = len(workload.adapters)
    most = _interval(model.workload_figure("served", mix, profile), model.header.interval_factor["served"])
    notes = model.outside(mix, profile)
    tried = _options(adapters, slots)
    options = [count for count in tried if kv_tokens(profile, count, mix.max_lora_rank)]
    if len(options) < len(tried):
        least = min(set(tried) - set(options))
        notes = (*notes, f"a server with {least} or more slots of rank {mix.max_lora_rank} does not start")
    nothing = Advice(adapters, most, None, (), None, None, None, None, None, None, notes)
    if not options:
        return nothing
    seen = model.figures(mix, profile, [adapters] * len(options), options)
    at, near = _choice(seen, mix, objective)
    if at is None:
        return nothing
    chosen = replace(nothing, slots=options[at], near_slots=tuple(options[i] for i in near))
    return _with_figures(chosen, seen, at, mix, model.header.interval_factor)


def _check_prompts(workload: Workload, profile: Profile) -> None:
    longest, limit = int(workload.prompt_tokens.max()), profile.llm.max_model_len
    if longest >= limit:
        raise InputError(f"a prompt of {longest} tokens does not fit max_model_len = {limit}")


def _choice(seen: PredictedFigures, mix: Mix, objective: str) -> tuple[int | None, list[int]]:
    """The best configuration, and those within 1 % of it; None: all more likely starve than not.

    As for the twin's decisions, a value counts times the chance that it does not starve. Where throughput is the same,
    the most slots within `LATENCY_SLACK` of the least latency are taken: too few cost far more than too many.
    """
    chance = np.array([NormalDist(STARVED_RATIO, SHARE_ERROR).cdf(share) for share in seen.share])
    latency = seen.ttft_ms + seen.tpot_ms * (mix.output_mean - 1)
    value = np.where(chance >= 0.5, chance * (1 / latency if objective == "latency" else seen.share), 0.0)
    if not value.any():
        return None, []
    near = [i for i in range(len(value)) if value[i] >= 0.99 * value.max()]
    if objective == "latency":
        return int(value.argmax()), near
    least = min(latency[i] for i in near)
    return max(i for i in near if latency[i] <= least * (1 + LATENCY_SLACK)), near


def _with_figures(chosen: Advice, seen: PredictedFigures, at: int, mix: Mix, factor: Mapping[str, float]) -> Advice:
    assert chosen.slots is not None
    offered = mix.mean_rate * chosen.adapters * (mix.prompt_mean + mix.output_mean)
    share = float(seen.share[at])
    config = EngineConfig(
        max_loras=chosen.slots,
        max_cpu_loras=max(chosen.slots, chosen.adapters),
        max_lora_rank=mix.max_lora_rank,
        max_num_seqs=MAX_NUM_SEQS,
    )
    return replace(
        chosen,
        config=config,
        throughput=_interval(offered * share, factor["share"], most=offered),
        share=_interval(share, factor["share"], most=1.0),
        ttft_ms=_interval(float(seen.ttft_ms[at]), factor["ttft"]),
        tpot_ms=_interval(float(seen.tpot_ms[at]), factor["tpot"]),
        itl_ms=_interval(float(seen.itl_ms[at]), factor["itl"]),
    )


def _options(adapters: int, slots: Sequence[int] | None) -> list[int]:
    asked = SLOTS if slots is None else slots
    return sorted({min(each, adapters) for each in asked})


def _interval(value: float, factor: float, most: float = float("inf")) -> Estimate:
    low = value / factor if isfinite(factor) else 0.0
    return Estimate(min(value, most), min(low, most), min(value * factor, most))


def advice_text(advice: Advice) -> str:
    """An advice for a terminal, and what the twin says of it where it was asked.

    Parameters
    ----------
    """
    most = advice.most_adapters
    first = f"One GPU serves about {most.value:,.0f} such adapters ({most.low:,.0f} to {most.high:,.0f})"
    lines = [f"{first}; the workload has {advice.adapters:,}."]
    if advice.config is None:
        lines.append(_starves(advice))
    else:
        near = ", ".join(map(str, advice.near_slots))
        lines.append(f"Slots: {advice.slots} (as good to 1 %: {near}); max_lora_rank {advice.config.max_lora_rank}.")
        lines += _figure_lines(advice)
    lines += [f"  {note}" for note in advice.notes]
    return "\n".join([*lines, *(["", _by_the_twin(advice.twin)] if advice.twin is not None else [])])


def _starves(advice: Advice) -> str:
    """The figures of a workload and of a server are learned apart; at the edge they may disagree."""
    says = "It starves with any slots, says the learned model."
    if round(advice.most_adapters.value) < advice.adapters:
        return says
    return f"{says[:-1]} of servers: the two disagree so near the edge, ask `loratwin plan`."


def _figure_lines(advice: Advice) -> list[str]:
    figures: tuple[tuple[str, Estimate | None, str, str], ...] = (
        ("throughput", advice.throughput, "tokens/s", ""),
        ("served", advice.share, "share", " of the offered tokens"),
        ("mean TTFT", advice.ttft_ms, "ms", ""),
        ("mean TPOT", advice.tpot_ms, "ms", ""),
        ("mean ITL", advice.itl_ms, "ms", ""),
    )
    return [
        f"  predicted {name}: {figure(known.value, unit)}{of} ({span(known.low, known.high, unit)})"
        for name, known, unit, of in figures
        if known is not None
    ]


def _by_the_twin(outcome: Outcome) -> str:
    if outcome.summary is None:
        return f"The twin: the server does not start: {outcome.reason}"
    seen = outcome.summary
    verdict = f"it starves ({seen.starved_reason})" if seen.starved else "it keeps up"
    figures = [f"{figure(seen.total_throughput, 'tokens/s')}, {share(seen.served_share)} served"]
    times = {"TTFT": seen.ttft_mean_ms, "TPOT": seen.tpot_mean_ms}  # outputs of one token have no TPOT
    figures += [f"mean {name} {milliseconds(value)}" for name, value in times.items() if isfinite(value)]
    return f"The twin, one run: {verdict}; {', '.join(figures)}."
