"""What if: the chosen configuration under other traffic, and what to run where it no longer holds.

A case is a change of the workload: some adapters ask for more (or less), or further adapters come. The configuration of
the plan serves it as it stands; where it fails, the case gets a plan of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.formatting import chance_text, milliseconds, number, share
from loratwin.perf import Profile
from loratwin.plan.choice import Candidate
from loratwin.plan.export import candidate_json, plan_json
from loratwin.plan.plan import plan as find_plan
from loratwin.plan.result import Plan
from loratwin.plan.search import Finder, Progress, Settings
from loratwin.plan.sentences import margin_text, num_replicas, server, servers, status
from loratwin.plan.trial import Bench, Result, Trial
from loratwin.records.config import SWITCHES, ranks_that_hold
from loratwin.simulate.workers import Workers
from loratwin.workload import AdapterGroup, Workload, WorkloadSpec, draw, grown, part_of

AS_IS = "as is"

MOST_NAMED = 20
"""Adapters that an error lists."""

_ADDED = re.compile(r"(?P<count>\d+) adapters? at (?P<rate>[0-9.eE+-]+)\s*/s(?:,? rank (?P<rank>\d+))?")
_ADD_EXAMPLE = "write it as '24 adapters at 0.1/s, rank 16'"


@dataclass(frozen=True)
class Change:
    """What is other than in the workload: factors by name of adapter or group (or `all`), or adapters that come."""

    name: str
    factors: tuple[tuple[str, float], ...] = ()
    added: AdapterGroup | None = None


@dataclass(frozen=True, eq=False)
class WhatIf:
    """One change, what the plan's configuration does with it, and a plan of its own where that fails.

    Parameters
    ----------
    candidate
        The plan's configuration (with room for further adapters in host memory, and for their rank) and its margin.
    instead
        What to run; None: the configuration still works.
    """

    name: str
    num_adapters: int
    candidate: Candidate
    works: bool
    instead: Plan | None


def parse_scale(text: str) -> Change:
    """Read `NAME=3`, or several with commas between them: adapters, groups, or `all`.

    Raises
    ------
    InputError
        One line with what is wrong.
    """
    factors = []
    for part in text.split(","):
        name, equals, value = (piece.strip() for piece in part.rpartition("="))
        try:
            factor = float(value) if equals and name else np.nan
        except ValueError:
            factor = np.nan
        if not 0 <= factor < np.inf:
            raise InputError(f"--scale {text!r}: a name and a factor of 0 or more are expected, as big-customer=3")
        factors.append((name, factor))
    return Change(", ".join(f"{name} x {factor:g}" for name, factor in factors), tuple(factors))


def parse_added(text: str) -> Change:
    """Read `24 adapters at 0.1/s, rank 16`; without a rank it is 8.

    Raises
    ------
    InputError
        One line with what is wrong.
    """
    parts = _ADDED.fullmatch(text.strip())
    if parts is None:
        raise InputError(f"--add {text!r}: {_ADD_EXAMPLE}")
    try:
        group = AdapterGroup(
            name="added", count=int(parts["count"]), rate=float(parts["rate"]), ranks=int(parts["rank"] or 8)
        )
    except (ValueError, InputError):  # a number that is none, or one that a group cannot have
        raise InputError(f"--add {text!r}: no such adapters can be; {_ADD_EXAMPLE}") from None
    return Change(f"+ {text.strip()}", added=group)


def check_names(changes: Sequence[Change], workload: WorkloadSpec) -> None:
    """Refuse, before long work, changes that name nobody, or bring adapters whose names are taken.

    Raises
    ------
    UnknownNameError
        A name is neither an adapter nor a group, nor `all`.
    InputError
        Adapters come whose group, or one of them, has the name of another; or who shall ask for more has no traffic.
    """
    for change in changes:
        if change.added is not None:
            _refuse_taken(change.added, workload)
    _refuse_unknown(changes, workload)
    _refuse_silent(changes, workload)


def _refuse_unknown(changes: Sequence[Change], workload: WorkloadSpec) -> None:
    groups = [group.name for group in workload.groups]
    adapters = [name for group in workload.groups for name in group.adapter_names()]
    known = {"all", *groups, *adapters}
    for name, _ in (factor for change in changes for factor in change.factors):
        if name not in known:
            near = get_close_matches(name, adapters, n=3)
            raise UnknownNameError(
                "adapter or group (--scale)", name, [*groups, *(near or adapters[:MOST_NAMED]), "all"]
            )


def _refuse_silent(changes: Sequence[Change], workload: WorkloadSpec) -> None:
    """Nothing times three is nothing."""
    rates_per_s: dict[str, float] = {}
    for group in workload.groups:
        of_each = group.rate_per_s(workload.window_s)
        rates_per_s |= dict(zip(group.adapter_names(), of_each.tolist(), strict=True))
        rates_per_s[group.name] = float(of_each.sum())
    for name, _ in (factor for change in changes for factor in change.factors):
        if rates_per_s.get(name) == 0:
            raise InputError(
                f"--scale: {name} has no traffic, so there is nothing to multiply; give it a rate in the workload, or "
                "--add adapters that have one"
            )


def _refuse_taken(added: AdapterGroup, workload: WorkloadSpec) -> None:
    if added.name in (group.name for group in workload.groups):
        raise InputError(
            f"--add: the workload has a group {added.name!r}, as those that come are called; give it another name"
        )
    taken = {name for group in workload.groups for name in group.adapter_names()}
    if both := sorted(taken.intersection(added.adapter_names())):
        raise InputError(
            f"--add: the workload has an adapter {both[0]!r}, as one of those that come is called; give it another name"
        )


def plan_and_cases(
    workload: WorkloadSpec,
    profile: Profile,
    changes: Sequence[Change],
    *,
    processes: int = 1,
    progress: Progress | None = None,
    **options: Any,
) -> tuple[Plan, tuple[WhatIf, ...]]:
    """A plan, and its configuration under each change; all that `loratwin plan` asks for.

    Parameters
    ----------
    options
        The others of `plan`.

    Raises
    ------
    InputError
        As `plan` and `what_if`.
    """
    base = find_plan(workload, profile, processes=processes, progress=progress, **options)
    cases = what_if(base, workload, changes, processes=processes, progress=progress) if changes else ()
    return base, cases


def what_if(
    plan: Plan,
    workload: WorkloadSpec,
    changes: Sequence[Change],
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[WhatIf, ...]:
    """The plan's configuration as is, then under each change.

    Parameters
    ----------
    plan, workload
        A plan, and the specification that it is of (of all hours, where the busiest was planned).
    processes, progress
        As for `plan`.

    Raises
    ------
    InputError
        Nothing works as it is, a name is neither an adapter that the plan serves nor a group, or as `check_names`.
    """
    if plan.best is None:
        raise InputError("what if: nothing works as it is, so there is nothing to compare with")
    check_names(changes, workload)
    if plan.hour is not None:
        workload = part_of(workload, plan.hour.start_s)
    return tuple(_case(plan, workload, change, processes, progress) for change in (Change(AS_IS), *changes))


def _case(plan: Plan, spec: WorkloadSpec, change: Change, processes: int, progress: Progress | None) -> WhatIf:
    workloads = tuple(_changed(plan, spec, change, seed) for seed in plan.seeds)
    groups = (*(group.name for group in spec.groups), *(["added"] if change.added else []))
    candidate = _served(plan, workloads, groups, processes, progress)
    works = candidate.works(plan.slo)
    instead = None if works else _instead(plan, workloads, groups, processes, progress, change)
    return WhatIf(change.name, len(workloads[0].adapters), candidate, works, instead)


def _changed(plan: Plan, spec: WorkloadSpec, change: Change, seed: int) -> Workload:
    """The adapters that the plan serves, and what the change makes of their traffic."""
    if change.added is not None:
        spec = spec.model_copy(update={"groups": (*spec.groups, change.added)})
    drawn = draw(spec, seed)
    served = [*plan.served, *range(len(plan.adapters), len(drawn.adapters))]
    workload = drawn if len(served) == len(drawn.adapters) else drawn.take_adapters(served)
    for name, factor in change.factors:
        workload = grown(workload, _named(workload, spec, name), factor)
    return workload


def _named(workload: Workload, spec: WorkloadSpec, name: str) -> list[int]:
    """Indices of an adapter, of a group's, or of all."""
    adapters, groups = workload.adapters, [group.name for group in spec.groups]
    if name == "all":
        return list(range(len(adapters)))
    if name in adapters.name:
        return [adapters.name.index(name)]
    if name in groups:
        return [int(i) for i in np.flatnonzero(adapters.group == groups.index(name))]
    raise InputError(f"what if: {name!r} is not among the {len(adapters)} adapters that the plan serves")


def _served(
    plan: Plan, workloads: tuple[Workload, ...], groups: tuple[str, ...], processes: int, progress: Progress | None
) -> Candidate:
    assert plan.best is not None
    config, num_adapters = plan.best.config, len(workloads[0].adapters)
    config = config.replace(
        max_cpu_loras=max(config.max_cpu_loras or 0, config.max_loras, num_adapters),
        max_lora_rank=max(config.max_lora_rank, ranks_that_hold(int(workloads[0].adapters.rank.max()))[0]),
    )
    asked = replace(plan.targets, groups=groups)
    bench = Bench(workloads, tuple(range(num_adapters)), plan.profile, asked)
    settings = Settings(plan.objective, plan.slo, headroom=plan.headroom, confidence=plan.confidence)
    with Workers[Trial, Result](bench.measure, processes) as workers:
        finder = Finder(bench, settings, workers, progress)
        (candidate,) = finder.with_margins(finder.evaluate(num_adapters, [config], len(workloads), "what if"))
        if candidate.starts:
            (candidate,) = finder.with_chance([candidate])
    return candidate


def _instead(
    plan: Plan,
    workloads: tuple[Workload, ...],
    groups: tuple[str, ...],
    processes: int,
    progress: Progress | None,
    change: Change,
) -> Plan:
    assert plan.best is not None
    config = plan.best.config
    return find_plan(
        workloads,
        plan.profile,
        objective=plan.objective,
        slo=plan.slo,
        slo_for=plan.slo_for,
        group_slos=plan.group_slos,
        group_names=groups,
        headroom=plan.headroom,
        confidence=plan.confidence or None,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_model_len=config.max_model_len,
        gpu_memory_utilization=config.gpu_memory_utilization,
        settings={name: getattr(config, name) for name in SWITCHES},
        processes=processes,
        progress=progress,
        name=change.name,
    )


HEADER = ("case", "adapters", "", "tokens/s", "served", "TTFT", "TTFT p99", "TPOT", "margin", "chance", "instead")


def what_if_rows(cases: Sequence[WhatIf], plan: Plan) -> list[tuple[str, ...]]:
    """The cases as cells of text, under `HEADER`."""
    return [HEADER, *(_row(case, plan) for case in cases)]


def _row(case: WhatIf, plan: Plan) -> tuple[str, ...]:
    candidate = case.candidate
    if not candidate.starts:
        return (case.name, str(case.num_adapters), "does not start", *[""] * 7, instead_text(case))
    times = (milliseconds(candidate.mean(name)) for name in ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms"))
    return (
        case.name,
        str(case.num_adapters),
        status(candidate, plan.slo),
        number(candidate.throughput),
        share(candidate.mean("served_share")),
        *times,
        margin_text(candidate.margin),
        chance_text(candidate.chance).replace("more than ", "> ").replace("less than ", "< "),
        instead_text(case),
    )


def instead_text(case: WhatIf) -> str:
    """What to run where the plan's configuration fails; empty where it works."""
    if case.instead is None:
        return ""
    best = case.instead.best
    if best is None:
        return "nothing works"
    run = f"{best.slots} slots, {best.config.max_num_seqs} sequences"
    if case.instead.serves_all:
        return run
    served, replicas = len(case.instead.served), num_replicas(case.instead)
    on, several = server(case.instead), servers(case.instead)
    return f"{served} of {case.num_adapters} on {on}, {replicas} such {several} (assumed even)"


def plan_and_cases_json(plan: Plan, cases: Sequence[WhatIf]) -> dict[str, Any]:
    """Both as plain data: what `loratwin plan --json` writes."""
    return plan_json(plan) | {"what_if": what_if_json(cases, plan)}


def what_if_json(cases: Sequence[WhatIf], plan: Plan) -> list[dict[str, Any]]:
    """The cases as plain data."""
    return [
        {
            "case": case.name,
            "adapters": case.num_adapters,
            "works": case.works,
            "configuration": candidate_json(case.candidate),
            "instead": None if case.instead is None else plan_json(case.instead),
        }
        for case in cases
    ]
