"""What is asked of a plan: its options checked, and the workload drawn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias, get_args

from loratwin.errors import InputError, UnknownNameError
from loratwin.lists import percent
from loratwin.metrics import Slo, check_slo_for, parse_slo
from loratwin.perf import Profile
from loratwin.plan.choice import Objective
from loratwin.plan.grid import spread_order
from loratwin.plan.limits import FARTHEST, STEP
from loratwin.plan.search import Settings
from loratwin.plan.targets import Targets
from loratwin.plan.trial import Bench
from loratwin.workload import BusiestHour, Workload, WorkloadSpec, busiest_hour, draw, varies

AnyWorkload: TypeAlias = WorkloadSpec | Workload | Sequence[Workload]
"""A specification, or what was drawn already, for each seed."""

Hours = Literal["busiest", "all"]
"""Which hours of a longer window are planned."""

SEEDS = (0, 1, 2)

HEADROOM = 0.2
"""By how much all rates can be higher, unless told: enough for an hour that is busier than the one described."""

MOST_HEADROOM = STEP**FARTHEST - 1
"""Rates are not tried beyond this growth."""


def hour_to_plan(workload: AnyWorkload, hours: str | None, seeds: Sequence[int]) -> BusiestHour | None:
    """The hour to plan; None: the whole window."""
    if hours not in (None, *get_args(Hours)):
        raise UnknownNameError("hours", str(hours), get_args(Hours))
    if not isinstance(workload, WorkloadSpec):
        if hours == "busiest":
            raise InputError("hours = 'busiest' needs a specification of the workload: this one was drawn already")
        return None
    wanted = hours == "busiest" or (hours is None and varies(workload))
    return busiest_hour(workload, next(iter(seeds), 0)) if wanted else None


def drawn_for(workload: AnyWorkload, seeds: Sequence[int]) -> tuple[Workload, ...]:
    """The requests, one draw for each seed."""
    if isinstance(workload, WorkloadSpec) and not seeds:
        raise InputError("seeds: at least one is needed")
    if isinstance(workload, WorkloadSpec):
        drawn: tuple[Workload, ...] = tuple(draw(workload, seed) for seed in seeds)
    else:
        drawn = (workload,) if isinstance(workload, Workload) else tuple(workload)
    for one in drawn:
        one.check_rated("a plan")
    return drawn


def targets(
    workload: AnyWorkload,
    slo: Slo | str | None,
    slo_for: str | None,
    group_slos: Mapping[str, Slo | str] | None = None,
    group_names: Sequence[str] = (),
) -> Targets:
    """Limits and of whom they are asked: as given, else as the workload says.

    Parameters
    ----------
    group_slos
        Limits of groups, each in place of the group's own in the workload.
    group_names
        Of a workload that was drawn already, by index; a specification tells its own.

    Raises
    ------
    InputError
        A limit that is none, or somebody is to keep limits and there are none.
    UnknownNameError
        Limits of a group that is not there.
    """
    groups, own = tuple(group_names), dict[str, Slo | str]()
    if isinstance(workload, WorkloadSpec):
        groups = tuple(group.name for group in workload.groups)
        own |= {group.name: group.slo for group in workload.groups if group.slo is not None}
        slo, slo_for = slo or workload.slo, slo_for or workload.slo_for
    limits = parse_slo(slo) if isinstance(slo, str) else slo
    reach = check_slo_for(slo_for or "all")
    own |= group_slos or {}
    if reach != "all" and limits is None and not own:
        raise InputError(f"an SLO for {reach} is asked for, but none is given: add one, as --slo ttft_p99=2s")
    return Targets(limits, reach, groups, {name: _own(name, each, groups) for name, each in own.items()})


def _own(name: str, slo: Slo | str, groups: Sequence[str]) -> Slo:
    """The limits of a group by itself."""
    if name not in groups:
        raise UnknownNameError("group", name, groups)
    try:
        return parse_slo(slo) if isinstance(slo, str) else slo
    except InputError as error:
        raise InputError(f"group {name}: {error}") from None


def bench_for(workloads: tuple[Workload, ...], profile: Profile, asked: Targets) -> Bench:
    """What all trials have in common; a workload of nothing is refused."""
    if not workloads or not len(workloads[0].adapters):
        raise InputError("the workload has no adapters; there is nothing to plan")
    if not all(workload.num_requests for workload in workloads):
        raise InputError("the workload has no requests in its window; there is nothing to plan")
    return Bench(workloads, spread_order(workloads[0].adapters), profile, asked)


def settings_for(
    profile: Profile,
    *,
    objective: Objective,
    slo: Slo | None,
    headroom: float,
    confidence: float | None,
    slots: Sequence[int] | None,
    advised: int | None,
    max_num_seqs: Sequence[int] | int | None,
    max_num_batched_tokens: int | None,
    max_model_len: int | None,
    gpu_memory_utilization: float | None,
    others: Mapping[str, Any],
    extrapolate: bool,
) -> Settings:
    """What the search must keep to: as given, else as the profile's engine takes it. `plan` has the meanings.

    Raises
    ------
    InputError
        An option is impossible.
    """
    taken = profile.limits.max_num_batched_tokens if max_num_batched_tokens is None else max_num_batched_tokens
    filled = profile.gpu_memory_utilization if gpu_memory_utilization is None else gpu_memory_utilization
    return Settings(
        objective=objective,
        slo=slo,
        headroom=_checked_headroom(headroom),
        confidence=_checked_confidence(confidence),
        slots=_given(slots, "slots"),
        advised=advised,
        sequences=_given([max_num_seqs] if isinstance(max_num_seqs, int) else max_num_seqs, "max_num_seqs"),
        max_num_batched_tokens=taken,
        max_model_len=max_model_len,
        gpu_memory_utilization=filled,
        measured_slots=None if extrapolate else profile.domain.max_loras,
        measured_sequences=None if extrapolate else profile.domain.max_num_seqs,
        others={name: value for name, value in others.items() if value is not None},
    )


def check_predicted_alone(fast: bool, files: Mapping[str, object | None]) -> None:
    """Refuse what `loratwin plan --no-check` cannot give.

    Parameters
    ----------
    fast
        Whether the learned model is asked.
    files
        Asked for, by option; None: not wanted.

    Raises
    ------
    InputError
        It is not, or a file of a plan is wanted.
    """
    if not fast:
        raise InputError("--no-check: goes with --fast; without it, all figures are the twin's")
    for option in (name for name, path in files.items() if path is not None):
        raise InputError(
            f"{option}: with --no-check there is no plan to write (loratwin learn predict --no-check --json FILE "
            "writes what the learned model says)"
        )


def parse_headroom(text: str) -> float:
    """Read `30%` or `30`: per cent by which all rates can be higher, as a part.

    Raises
    ------
    InputError
        It is no number.
    """
    return percent("headroom", text)


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
