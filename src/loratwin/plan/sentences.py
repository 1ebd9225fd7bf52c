"""A plan in words: the verdict in one sentence, then what stands behind it. Plain text, no markup."""

from __future__ import annotations

from math import ceil, isnan, nan

from loratwin.formatting import REAL_RUN, chance_text, first_of, milliseconds, seconds, share, span
from loratwin.metrics import SLOW_TTFT_MS, Slo, SloRows, is_slow, summarize
from loratwin.plan.choice import NOISE, Candidate, excess, smallest
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.margin import CustomerCase
from loratwin.plan.result import Plan, Shortfall
from loratwin.plan.trial import BURST_LENGTH, KV_MEMORY, SEQUENCES, SLOTS, TOKEN_BUDGET

MOST_NAMED = 5
"""Adapters that a sentence lists."""

LONG_WAIT_S = 10.0
"""Mean time to first token from which a server that keeps up is said to make its users wait."""


NOT_SLOW = f"not slow (TTFT p99 below {milliseconds(SLOW_TTFT_MS)})"


def verdict(plan: Plan) -> str:
    """One sentence: what one GPU can do, or the GPUs that share the LLM."""
    total = len(plan.adapters)
    if plan.best is None:
        what = "adapter" if total == 1 else f"of the {total} adapters"
        return f"None works: {server(plan)} cannot serve even one {what}{_within_slo(plan)}."
    run = f"with {_slots(plan.best.slots)} of rank {plan.best.config.max_lora_rank}"
    served = "the one adapter" if total == 1 else f"all {total} adapters"
    if not plan.serves_all:
        served = f"{len(plan.served)} of the {total} adapters,"
    how = f"{_within_slo(plan)}{_with_headroom(plan)}{_queue(plan.best)}{_chance(plan)}{_beyond(plan.best)}"
    return f"{_begin(serves(plan))} {served} {run}{how}."


def _chance(plan: Plan) -> str:
    """How likely that is, from the profile's own errors."""
    if plan.best is None or isnan(plan.best.chance):
        return ""
    return f"; the chance that this holds is {chance_text(plan.best.chance)}"


def _beyond(best: Candidate) -> str:
    """That the figures stand on no measurement of such a server."""
    left = [note.split("domain: ", 1)[1] for note in best.notes if "domain: " in note]
    named = [note for note in left if note.startswith(("max_loras ", "max_num_seqs "))]
    return f" (extrapolated: {', '.join(named)})" if named else ""


def server(plan: Plan) -> str:
    """What the profile is of."""
    memory = plan.profile.memory
    if memory.tensor_parallel > 1:
        return f"{memory.tensor_parallel} GPUs together"
    return "one GPU" if memory.kv_gib is None else "one server"


def servers(plan: Plan) -> str:
    """Several of what the profile is of."""
    return "GPUs" if server(plan) == "one GPU" else "servers"


def serves(plan: Plan) -> str:
    """`one GPU serves`, `4 GPUs together serve`."""
    what = server(plan)
    return f"{what} serve{'s' if what.startswith('one') else ''}"


def _begin(sentence: str) -> str:
    return sentence[0].upper() + sentence[1:]


def explanation(plan: Plan) -> list[str]:
    """Further sentences, the most important first."""
    lines = []
    if plan.shortfall is not None:
        lines.append(f"{'Why' if plan.best is None else 'Why not all'}: {why_not_all(plan, plan.shortfall)}")
    if plan.best is not None:
        if not plan.serves_all:
            lines.append(_replicas(plan))
        lines += [*hour_sentence(plan), *cache_sentence(plan), *_warnings(plan.best)]
        lines += [*real_sentence(plan), *customers_sentences(plan)]
        lines += [*chance_sentence(plan), *forecast_sentence(plan), margin_sentence(plan.best, plan.targets.are_any)]
        lines += [*margin_known(plan), *breaks_first(plan), _near(plan)]
        lines += either_side(plan, plan.best)
    return [*lines, *_default_tokens(plan), *_shorter_context(plan)]


def _default_tokens(plan: Plan) -> list[str]:
    """Which limit was taken from the engine, not searched and not given."""
    taken = plan.best.config.max_num_batched_tokens if plan.best is not None else 0
    if taken != plan.profile.limits.max_num_batched_tokens:
        return []
    return [
        f"Steps have at most {taken} tokens (max_num_batched_tokens), which {plan.profile.engine} takes unless told."
    ]


def forecast_sentence(plan: Plan) -> list[str]:
    """Where a real run will lie; nothing where the profile says nothing of its own errors."""
    if plan.forecast is None or plan.profile.uncertainty is None:
        return []
    figures = []
    for name, title in (("total_throughput", "{} tokens/s"), ("ttft_mean_ms", "TTFT {}"), ("itl_mean_ms", "ITL {}")):
        interval = plan.forecast.intervals.get(name)
        if interval is not None:
            figures.append(title.format(span(interval.low, interval.high, "ms" if name.endswith("_ms") else "")))
    level = share(plan.forecast.level)
    causes = "" if plan.best is not None and not isnan(plan.best.chance) else f"; {REAL_RUN}"  # said of the chance
    return [f"A real run will show, each {level} of the time: {', '.join(figures)} (means{causes})."] if figures else []


def real_sentence(plan: Plan) -> list[str]:
    """What stands for the limits on percentiles beside the twin's figures; nothing where there are none."""
    best, limits = plan.best, plan.slo.limits if plan.slo is not None else ()
    if best is None:
        return []
    named = [
        f"{limit.name} {seconds(best.reached_s(limit))} (simulated: {seconds(best.slo_s[limit.name].mean)})"
        for limit in limits
        if limit.name in best.real_slo_s
    ]
    return [f"Held to the limits, as real runs have it in the middle: {', '.join(named)}."] if named else []


def hour_sentence(plan: Plan) -> list[str]:
    """Which hour was planned, and what the whole window makes of the answer."""
    hour, whole = plan.hour, plan.whole
    if hour is None:
        return []
    planned = f"Planned for the busiest hour, {hour.text}, which asks for {hour.times_the_mean:.2g} times the mean"
    if whole is None or whole.summary is None:
        return [f"{planned}."]
    seen = whole.summary
    does = f"serves {share(seen.served_share)} of the tokens" if not seen.starved else "STARVES"
    times = f"TTFT {milliseconds(seen.ttft_mean_ms)} (p99 {milliseconds(seen.ttft_p99_ms)})"
    return [f"{planned}; over all {hour.window_s / 3600:.3g} hours it {does}, {times}."]


def cache_sentence(plan: Plan) -> list[str]:
    """What the prefix cache is worth; nothing where prompts share nothing."""
    without = plan.without_cache
    if without is None or plan.run is None or plan.run.prefix_cache is None:
        return []
    with_it = summarize(plan.run)
    times = f"TTFT {milliseconds(without.ttft_mean_ms)} instead of {milliseconds(with_it.ttft_mean_ms)}"
    served = f"{share(without.served_share)} of the tokens instead of {share(with_it.served_share)}"
    starves = ", and STARVES" if without.starved and not with_it.starved else ""
    return [
        f"The prefix cache has {share(plan.run.prefix_cache.hit_rate)} of the prompt tokens; without it "
        f"(--no-enable-prefix-caching) the same server serves {served}, {times}{starves} (first seed)."
    ]


def chance_sentence(plan: Plan) -> list[str]:
    """What the chance is made of; nothing where it was not searched."""
    if plan.best is None or isnan(plan.best.chance):
        return []
    known = plan.profile.uncertainty
    causes = REAL_RUN
    if known is None or not known.residual:
        causes = "other requests alone; the profile does not say how wrong it can be"
    return [f"The chance is that of one real run with these rates: {causes}."]


def customers_sentences(plan: Plan) -> list[str]:
    """How many adapters miss the SLO by themselves, which, and of how many nobody can tell."""
    lines = [] if plan.customers is None else _who_misses(plan, plan.customers, "")
    for each in plan.own_limits:
        lines.append(f"{each.name} is asked {_listed(each.slo)} of its own and reaches {_reached(each.whole)}.")
        lines += _who_misses(plan, each.customers, f" of {each.name}")
    return lines


def _who_misses(plan: Plan, rows: SloRows, of: str) -> list[str]:
    """Adapters that miss their limits, and those of which nobody can tell."""
    lines = []
    if rows.num_missing:
        hint = "" if plan.slo_for == "adapters" else "; --slo-for adapters asks it of each"
        total = sum(1 for requests in rows.requests if requests)
        miss = "misses" if rows.num_missing == 1 else "miss"
        who = first_of(rows.missing, MOST_NAMED)
        lines.append(f"{rows.num_missing} of {total} adapters{of} {miss} it by themselves: {who}{hint}.")
    if rows.num_undecided:
        have = f"adapter{of} has" if rows.num_undecided == 1 else f"adapters{of} have"
        finest = min(rows.limits, key=lambda limit: limit.allowed_late or 1.0).name  # asks for most requests
        lines.append(f"{rows.num_undecided} {have} too few requests in the window for {finest} to be told.")
    return lines


def _reached(whole: SloRows) -> str:
    """What a group has of each limit; the figures are the twin's."""
    values = [float(value) for value in whole.value_s[:, 0]]
    figures = ", ".join(f"{limit.name} {seconds(value)}" for limit, value in zip(whole.limits, values, strict=True))
    return f"{figures} (simulated)"


def asked_of(plan: Plan) -> str:
    """Whom limits are asked of besides the server, in the plural."""
    if not plan.group_slos:
        return plan.slo_for
    return "groups and adapters" if plan.slo_for == "adapters" else "groups"


def margin_known(plan: Plan) -> list[str]:
    """How well the margin is known; nothing where it was not searched."""
    known = plan.margin_interval
    if known is None:
        return []
    lies = (
        f"With other requests and the profile's own errors it lies from {_growth(known.low)} to {_growth(known.high)}"
    )
    minutes = f"{known.shorter_window_s / 60:.3g} of the window's {plan.window_s / 60:.3g} minutes"
    return [
        f"{lies} ({100 * known.level:.0f} %); looked at for {minutes} it would be {_growth(known.in_shorter_window)}."
    ]


def breaks_first(plan: Plan) -> list[str]:
    """What the biggest customer can do to all others."""
    biggest = plan.biggest
    if biggest is None:
        return []
    end = "it starves or misses the SLO" if plan.targets.are_any else "it starves"
    who = f"the biggest customer, {biggest.name} ({biggest.rate_per_s:.3g} requests/s),"
    if biggest.growth >= STEP**FARTHEST * 0.999:
        grows = f"can ask for {STEP**FARTHEST:.1f} times as much and more"
    elif biggest.growth > 1:
        grows = f"can ask for {biggest.growth:.2g} times as much before {end}"
    else:
        grows = f"cannot grow by {100 * (STEP - 1):.0f} % before {end}"
    burst = "borne" if biggest.bears_burst else "too much"
    minutes = f"{BURST_LENGTH * plan.window_s / 60:.3g} minutes"
    return [f"What breaks first: {who} {grows}; all its requests within {minutes} would be {burst}."]


def case_text(case: CustomerCase, plan: Plan) -> str:
    """What the biggest customer does in one of the cases that every plan has."""
    if case.is_burst:
        return f"all its requests within {BURST_LENGTH * plan.window_s / 60:.3g} minutes"
    return "as it is" if case.factor == 1 else f"{case.factor:g} times as many requests"


def _growth(margin: float) -> str:
    return f"{100 * (margin - 1):+.0f} %"


def _with_headroom(plan: Plan) -> str:
    return f", with {100 * plan.headroom:.4g} % headroom" if plan.headroom else ""


def _queue(best: Candidate) -> str:
    """Not starving is not the same as fast."""
    return ", but behind a long queue" if _ttft_s(best) >= LONG_WAIT_S else ""


def _warnings(best: Candidate) -> list[str]:
    lines = []
    if _ttft_s(best) >= LONG_WAIT_S:
        lines.append(
            f"The server keeps up, but the first token takes {milliseconds(best.mean('ttft_mean_ms'))} on average. "
            "An SLO, as ttft_p99=2s, finds what answers sooner."
        )
    if best.starving_adapters >= 0.5:
        lines.append(
            f"About {best.starving_adapters:.0f} adapters starve for themselves, though the server as a whole does not:"
            " at most 90 % of their tokens are served."
        )
    return lines


def _ttft_s(candidate: Candidate) -> float:
    return candidate.mean("ttft_mean_ms") / 1e3


def either_side(plan: Plan, best: Candidate) -> list[str]:
    """What about half as many and about twice as many slots would change."""
    others = [other for other in plan.table if other.slots != best.slots]
    fewer = min(
        (other for other in others if other.slots < best.slots),
        key=lambda other: abs(other.slots - best.slots / 2),
        default=None,
    )
    more = min(
        (other for other in others if other.slots > best.slots),
        key=lambda other: abs(other.slots - best.slots * 2),
        default=None,
    )
    return [
        f"With {_slots(other.slots)}: {changes(best, other, plan.slo)}." for other in (fewer, more) if other is not None
    ]


def changes(best: Candidate, other: Candidate, slo: Slo | None = None) -> str:
    """The figures of another configuration beside those of the best."""
    if not other.starts:
        return f"the server does not start ({other.why_not})"
    parts = ["it starves"] if other.starved else ["it misses the SLO"] if other.misses_slo(slo) else []
    for name, label in (("ttft_mean_ms", "mean TTFT"), ("tpot_mean_ms", "mean TPOT")):
        before, after = best.mean(name), other.mean(name)
        same = abs(after - before) <= NOISE * before
        parts.append(
            f"{label} the same" if same else f"{label} {milliseconds(after)} instead of {milliseconds(before)}"
        )
    parts.append(f"throughput {_change(best.throughput, other.throughput)}")
    return ", ".join([*parts, f"KV tokens {_change(best.kv_tokens, other.kv_tokens)}"])


def _change(before: float, after: float) -> str:
    ratio = after / before if before else nan
    if isnan(ratio):
        return "unknown"
    return "the same" if abs(ratio - 1) < NOISE else f"{100 * (ratio - 1):+.0f} %"


def _shorter_context(plan: Plan) -> list[str]:
    """vLLM refuses to start unless one request of the longest context fits; few workloads come near it."""
    tried = (*plan.alternatives, *(plan.shortfall.candidates if plan.shortfall else ()))
    refused = [
        candidate.slots
        for candidate in tried
        if not candidate.starts and candidate.kv_tokens >= 2 * plan.longest_request
    ]
    if not refused:
        return []
    return [
        f"{_slots(min(refused)).capitalize()} and more do not start, only because a request of max_model_len must fit. "
        f"The longest here has {plan.longest_request} tokens: a lower --max-model-len makes room."
    ]


def why_not_all(plan: Plan, shortfall: Shortfall) -> str:
    """The reason in words, from the simulated figures."""
    if shortfall.closest is None:
        return f"no server starts: {_distinct_reasons(shortfall)}."
    nearest = shortfall.closest
    if nearest.keeps_up(plan.slo):
        return _no_headroom(plan, nearest) if nearest.is_likely else _not_likely(plan, nearest)
    if not nearest.starved:
        misses = [f"{name} is {_times(ratio)} its limit" for name, ratio in excess(nearest, plan.slo).items()]
        if nearest.missing:
            who = f"{len(nearest.missing)} {asked_of(plan)} miss it ({first_of(nearest.missing, MOST_NAMED)})"
            misses.append(who if len(nearest.missing) > 1 else f"{nearest.missing[0]} misses it")
        return f"the SLO is missed with any configuration. With {_slots(nearest.slots)}, the closest, {_and(misses)}."
    return (
        f"they starve with any slots. {_slots(nearest.slots).capitalize()} come closest and serve "
        f"{100 * nearest.mean('served_share'):.0f} % of the tokens; there {binding(nearest)}. "
        f"{_compute(plan, shortfall)}"
    )


def _no_headroom(plan: Plan, nearest: Candidate) -> str:
    """All are served as it is, but not if the rates were higher."""
    least = f"with rates {100 * plan.headroom:.4g} % higher no configuration works for all of them"
    best = f"the best there is has {_slots(nearest.slots)} and a margin of {margin_text(nearest.margin)}"
    if nearest.margin >= 1 + plan.headroom:  # with the first seed, and another one fails
        return f"{least}; {best} with one draw of the workload, and less with another: ask for less."
    return f"{least}; {best} (--headroom {max(0, int(100 * (nearest.margin - 1)))}%)."


def _not_likely(plan: Plan, nearest: Candidate) -> str:
    """All are served as it is, but not as surely as was asked for."""
    least = f"no configuration that was tried holds for all of them with a chance of {100 * plan.confidence:.4g} %"
    best = f"the best there is has {_slots(nearest.slots)} and a chance of {chance_text(nearest.chance)}"
    return f"{least}; {best} (--confidence {max(1, int(100 * nearest.chance)) / 100:g})."


def binding(candidate: Candidate) -> str:
    """What the waiting requests wait for, as a clause."""
    total = sum(candidate.waits.values())
    if total < 1:
        return "hardly any request waits"
    name, most = max(candidate.waits.items(), key=lambda item: item[1])
    return f"{100 * most / total:.0f} % of the waiting is for {CAUSES[name]}"


CAUSES = {
    SLOTS: "a slot (all are taken by other adapters)",
    SEQUENCES: "a place among max_num_seqs",
    KV_MEMORY: "KV memory",
    TOKEN_BUDGET: "a share of max_num_batched_tokens (prefill)",
}


def margin_text(margin: float) -> str:
    """The margin as a short text: `+25 %`, `-40 %`; empty when it was not searched."""
    if isnan(margin):
        return ""
    if margin >= STEP**FARTHEST * 0.999:
        return f"> +{100 * (margin - 1):.0f} %"
    if margin == 0:
        return f"< {100 * (STEP**-FARTHEST - 1):.0f} %"
    return "0 %" if margin == 1 else f"{100 * (margin - 1):+.0f} %"


def margin_sentence(candidate: Candidate, with_slo: bool) -> str:
    """How far the rates may grow."""
    end = "it starves or misses the SLO" if with_slo else "it starves"
    if isnan(candidate.margin):
        return f"The margin until {end} was not searched."
    if candidate.margin <= 1:
        return f"It is at the edge: with {100 * (STEP - 1):.0f} % more traffic {end}."
    grow = margin_text(candidate.margin).replace("> +", "more than ").lstrip("+")
    return f"Margin: all rates can grow by {grow} before {end}."


def _near(plan: Plan) -> str:
    figure = "throughput" if plan.objective == "throughput" else "latency"
    near = plan.choice.near_slots
    if len(near) == 1:
        return f"No other number of slots that was tried comes within 1 % of its {figure}."
    between = {candidate.slots for candidate in plan.table if near[0] <= candidate.slots <= near[-1]}
    listed = f"{near[0]} to {near[-1]}" if between == set(near) else _and([str(slots) for slots in near])
    chosen = plan.best.slots if plan.best else near[0]
    least = "the largest margin (to a tenth), then the least latency and a short tail"
    least = least if plan.objective == "throughput" else "the largest margin and a short tail"
    slow = any(is_slow(candidate.mean("ttft_p99_ms")) for candidate in plan.choice.near)
    these = f"those that are {NOT_SLOW}" if slow and not _is_slow(plan.best) else "these"
    return f"{listed} slots give the same {figure} to 1 %; {chosen} are the fewest of {these} with {least}."


def _is_slow(candidate: Candidate | None) -> bool:
    return candidate is None or is_slow(candidate.mean("ttft_p99_ms"))


def num_replicas(plan: Plan) -> int:
    """GPUs (or servers) for all adapters, when each serves as many as one does."""
    return ceil(len(plan.adapters) / len(plan.served))


def status(candidate: Candidate, slo: Slo | None) -> str:
    """Why a configuration does not work, in two words; empty where it does."""
    if candidate.starved:
        return "starves"
    if candidate.misses_slo(slo):
        return "misses SLO"
    if not candidate.has_headroom:
        return "no headroom"
    return "" if candidate.is_likely else "too unsure"


def works_or_not(candidate: Candidate, slo: Slo | None) -> str:
    """Whether a configuration works, in two or three words."""
    works = "works, but slow" if is_slow(candidate.mean("ttft_p99_ms")) else "works"
    return status(candidate, slo) or works


def _replicas(plan: Plan) -> str:
    replicas = num_replicas(plan)
    return (
        f"For all {len(plan.adapters)} about {replicas} such {servers(plan)} are needed "
        "(assumed: each gets the same mix). "
        f"The {len(plan.served)} are taken evenly from all groups, from rarely to often used ones."
    )


def _compute(plan: Plan, shortfall: Shortfall) -> str:
    relaxed = shortfall.without_memory_limit
    if relaxed is None:
        return ""
    if not relaxed.starved:
        return "With unlimited KV memory they would not starve: memory is what is short."
    served = f"{100 * relaxed.served_share:.0f} % served"
    slow = {"one GPU": "the GPU does", "one server": "the server does"}.get(server(plan), "the GPUs do")
    return f"Even with unlimited KV memory they starve ({served}): {slow} not compute fast enough."


def _distinct_reasons(shortfall: Shortfall) -> str:
    fewest = min(shortfall.candidates, key=smallest)
    return f"with {_slots(fewest.slots)}, the fewest tried, {fewest.why_not}"


def _within_slo(plan: Plan) -> str:
    whose = {"groups": " for every group", "adapters": " for every adapter"}.get(plan.slo_for, "")
    of_all = [] if plan.slo is None else [f"{_listed(plan.slo)}{whose}"]
    limits = [*of_all, *(f"{_listed(slo)} for {name}" for name, slo in plan.group_slos.items())]
    return f" within {_and(limits)}" if limits else ""


def _listed(slo: Slo) -> str:
    return str(slo).replace(",", ", ")


def _slots(count: int) -> str:
    return "1 slot" if count == 1 else f"{count} slots"


def _times(ratio: float) -> str:
    return f"{ratio:.1f} times" if ratio < 1e6 else "beyond"


def _and(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
