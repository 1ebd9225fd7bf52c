"""The busiest hour of a longer window: found, and cut out as a workload of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from loratwin.errors import InputError
from loratwin.workload.arrays import Workload
from loratwin.workload.arrivals import AtOnce, ClientRates, Closed, Diurnal, Replay
from loratwin.workload.draw import draw
from loratwin.workload.spec import AdapterGroup, BaseTraffic, WorkloadSpec

HOUR_S = 3600.0

_STEP_S = 300.0
"""Hours begin at multiples of five minutes."""


@dataclass(frozen=True)
class BusiestHour:
    """Which hour it is, and how busy."""

    start_s: float
    window_s: float  # of the whole workload
    times_the_mean: float  # tokens per second in it, over those of the window

    @property
    def text(self) -> str:
        """When it is: `11:35 to 12:35`; hours go on after 24 where the window is longer than a day."""
        return f"{clock(self.start_s)} to {clock(self.start_s + HOUR_S)}"


def clock(seconds: float) -> str:
    """Hours and minutes from the window's start: `11:35`."""
    minutes = round(seconds / 60)
    return f"{minutes // 60}:{minutes % 60:02d}"


def varies(spec: WorkloadSpec) -> bool:
    """Whether its traffic is known to change with time, in a window of more than an hour."""
    return spec.window_s > HOUR_S and any(
        isinstance(arrivals, Diurnal | Replay | ClientRates) for arrivals in _arrivals(spec)
    )


def _arrivals(spec: WorkloadSpec) -> tuple[object, ...]:
    """How the requests of each source arrive."""
    of_groups = tuple(group.arrivals for group in spec.groups)
    return of_groups if spec.base is None else (*of_groups, spec.base.arrivals)


def busiest_hour(spec: WorkloadSpec, seed: int = 0) -> BusiestHour:
    """The hour of the most tokens (prompt and output) that one draw has.

    Raises
    ------
    InputError
        The window is no longer than an hour, or clients wait for answers (they are as busy as the server lets them).
    """
    if spec.window_s <= HOUR_S:
        raise InputError(f"hours: the window has {spec.window_s:g} s; the busiest hour needs more than one")
    if any(isinstance(arrivals, Closed | AtOnce) for arrivals in _arrivals(spec)):
        raise InputError("hours: closed loops and batches have no busiest hour; they ask for what they are served")
    return _busiest(draw(spec, seed))


def _busiest(workload: Workload) -> BusiestHour:
    tokens = workload.prompt_tokens.astype(np.float64) + workload.output_tokens
    starts_s = np.arange(0.0, workload.window_s - HOUR_S + _STEP_S / 2, _STEP_S)
    total = np.concatenate([[0.0], np.cumsum(tokens)])
    first, last = (np.searchsorted(workload.arrival_s, ends) for ends in (starts_s, starts_s + HOUR_S))
    inside = total[last] - total[first]
    at = int(inside.argmax())
    mean = total[-1] * HOUR_S / workload.window_s
    return BusiestHour(float(starts_s[at]), workload.window_s, float(inside[at] / mean) if mean else 1.0)


def part_of(spec: WorkloadSpec, start_s: float, length_s: float = HOUR_S) -> WorkloadSpec:
    """The traffic of a part of the window as a workload: its part of curves and traces; what is steady goes on."""
    groups = tuple(_part(group, start_s, length_s, spec.window_s) for group in spec.groups)
    base = None if spec.base is None else _part(spec.base, start_s, length_s, spec.window_s)
    return spec.model_copy(update={"window_s": length_s, "groups": groups, "base": base})


Source = TypeVar("Source", AdapterGroup, BaseTraffic)


def _part(source: Source, start_s: float, length_s: float, window_s: float) -> Source:
    arrivals = source.arrivals
    if isinstance(arrivals, Replay):
        return source.model_copy(update={"arrivals": _later(arrivals, start_s)})
    if isinstance(arrivals, ClientRates):
        later = arrivals.model_copy(update={"start_s": arrivals.start_s + start_s})
        return source.model_copy(update={"arrivals": later})
    if isinstance(arrivals, Diurnal):
        curve, factor = arrivals.part(start_s, length_s, window_s)
        return source.model_copy(update={"arrivals": curve, **_rates(source, factor)})
    return source


def _later(replay: Replay, start_s: float) -> Replay:
    """The trace from a later moment on; one that is repeated, from where it then is."""
    trace_s = replay.arrival_s()
    inside = trace_s if replay.end_s is None else trace_s[trace_s < replay.end_s]
    length_s = float(inside.max(initial=replay.start_s)) - replay.start_s
    ahead_s = start_s * replay.speed
    if replay.repeat and length_s > 0:
        ahead_s %= length_s
    return replay.model_copy(update={"start_s": replay.start_s + ahead_s})


def _rates(source: AdapterGroup | BaseTraffic, factor: float) -> dict[str, object]:
    """The rates of a source, whichever way they are given, times a factor."""
    if isinstance(source, BaseTraffic):
        return {"rate": (source.rate or 0.0) * factor}
    if source.rates is not None:
        return {"rates": tuple(rate * factor for rate in source.rate_per_s(1.0).tolist())}
    key = "rate" if source.rate is not None else "total_rate"
    return {key: (getattr(source, key) or 0.0) * factor}
