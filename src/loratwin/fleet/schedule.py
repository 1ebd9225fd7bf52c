"""Traffic that drifts: a placement for each period of the window, with a budget of moves and a price for each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import floor
from typing import Any

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.planning import plan_fleet
from loratwin.fleet.wishes import Wishes, as_specified
from loratwin.plan.question import SEEDS, targets
from loratwin.plan.search import Progress
from loratwin.workload import Workload, WorkloadSpec, draw
from loratwin.workload.arrays import F8
from loratwin.workload.hours import HOUR_S, clock, part_of

DAY_S = 24 * HOUR_S

MOST_PERIODS = 1000


@dataclass(frozen=True)
class Period:
    """A part of the window and the placement in it.

    Parameters
    ----------
    plan
        Its servers; of a period without a request that of the one before.
    moves
        Adapters that are brought to a server when it begins.
    drift
        Half the total variation between the adapters' shares of the requests in this period and in the one before, 0
        to 1; NaN: there is none before, or nobody asks.
    """

    start_s: float
    end_s: float
    plan: FleetPlan
    moves: int
    drift: float

    @property
    def text(self) -> str:
        """When it is: `11:00 to 12:00`."""
        return f"{clock(self.start_s)} to {clock(self.end_s)}"

    @property
    def hours(self) -> float:
        """How long it is."""
        return (self.end_s - self.start_s) / HOUR_S


@dataclass(frozen=True, eq=False)
class FleetSchedule:
    """A placement for each period; all figures are simulated.

    Parameters
    ----------
    ahead
        Whether each placement also carries the traffic of the period after it.
    most_moves_a_day
        Adapters that may be moved in any 24 hours; None: any number.
    workload
        Its name, to be shown.
    """

    periods: tuple[Period, ...]
    ahead: bool
    most_moves_a_day: int | None
    move_price: float
    workload: str = "workload"

    @property
    def most_servers(self) -> int:
        """Of the period that needs most."""
        return max(each.plan.num_servers for each in self.periods)

    @property
    def server_hours(self) -> float:
        """Servers times hours, of all periods."""
        return sum(each.plan.num_servers * each.hours for each in self.periods)

    @property
    def price(self) -> float | None:
        """Of all these hours; None: a price is not known."""
        prices = [each.plan.price_per_h for each in self.periods]
        if None in prices:
            return None
        return sum((price or 0.0) * each.hours for price, each in zip(prices, self.periods, strict=True))

    @property
    def moves(self) -> int:
        """Adapters brought to a server, of all periods; the first placement counts none."""
        return sum(each.moves for each in self.periods)

    @property
    def moves_a_day(self) -> int:
        """The most in any 24 hours."""
        return max(moved_lately(self.periods, each.start_s) for each in self.periods)


def plan_schedule(
    workload: WorkloadSpec,
    gpus: Sequence[Gpus],
    *,
    every_s: float = HOUR_S,
    moves_a_day: int | None = None,
    ahead: bool = True,
    wishes: Wishes | None = None,
    seeds: Sequence[int] = SEEDS,
    progress: Progress | None = None,
    name: str = "workload",
    **options: Any,
) -> FleetSchedule:
    """Plan a fleet for each period of a workload whose rates change.

    The first placement is free, unless there is a present one; later ones change the one before. Each is planned for
    the traffic of its own period, and with `ahead` carries that of the next one too, since moves take their time and
    the next hour comes before they are done.

    Parameters
    ----------
    workload
        With rates that change: a trace, clients with rates, a curve.
    every_s
        Length of a period in seconds; the last may be shorter.
    moves_a_day
        Adapters that may be brought to a server that does not hold them, in any 24 hours; None: any number.
    wishes
        As `plan_fleet` has them, on top of those of the workload; `move_price` makes a period keep what it can of the
        placement before.
    seeds
        Draws of each period. The next period's traffic is drawn with the first of them.
    progress
        As `plan_fleet` has it, of the period that is named with it.
    options
        As `plan_fleet` has them.

    Raises
    ------
    InputError
        A period has no plan, or asks for more moves than are allowed; it is named.
    """
    wishes = as_specified(wishes or Wishes(), workload)
    _check(workload, every_s, moves_a_day, wishes, seeds)
    spans = list(_spans(workload.window_s, every_s))
    drawn = [_drawn(workload, begin, end, seeds) for begin, end in spans]
    if not any(one.num_requests for draws in drawn for one in draws):
        raise InputError("the workload has no requests in its window; there is nothing to plan")
    limits = targets(workload, *(options.pop(key, None) for key in ("slo", "slo_for", "group_slos")))
    given: dict[str, Any] = {
        "slo": limits.slo, "slo_for": limits.slo_for, "group_slos": limits.own, "group_names": limits.groups, **options
    }  # fmt: skip
    periods: list[Period] = []
    for i, (begin, end) in enumerate(spans):
        asked = _asked(drawn, i, ahead)
        if asked is None:
            if periods:
                periods.append(Period(begin, end, periods[-1].plan, 0, float("nan")))
            continue
        when, now = f"{clock(begin)} to {clock(end)}", _wishes(wishes, periods, begin, moves_a_day)
        told = None if progress is None else _during(when, progress)
        try:
            plan = plan_fleet(asked, gpus, wishes=now, progress=told, name=f"{name}, {when}", **given)
        except InputError as error:
            raise InputError(f"{when}: {error}") from None
        periods.append(Period(begin, end, plan, plan.moves or 0, _drift(drawn, i)))
    return FleetSchedule(tuple(periods), ahead, moves_a_day, wishes.move_price, name)


def parse_moves(text: str, num_adapters: int) -> int:
    """Read `10` adapters, or `10%` of them.

    Raises
    ------
    InputError
        It is neither.
    """
    number, percent = text.strip().removesuffix("%"), text.strip().endswith("%")
    try:
        value = float(number)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (percent and value > 100) or (not percent and value != floor(value)):
        raise InputError(f"--moves {text!r}: write a number of adapters, as 10, or a part of them, as 10%")
    return floor(value * num_adapters / 100 + 1e-9) if percent else int(value)


def moved_lately(periods: Sequence[Period], now_s: float) -> int:
    """Adapters moved in the 24 hours up to a time, by the beginnings of the periods."""
    return sum(each.moves for each in periods if now_s - DAY_S < each.start_s <= now_s)


def _check(
    workload: WorkloadSpec, every_s: float, moves_a_day: int | None, wishes: Wishes, seeds: Sequence[int]
) -> None:
    if not isinstance(workload, WorkloadSpec):
        raise InputError("a schedule needs a specification of the workload: this one was drawn already")
    if not 60 <= every_s < workload.window_s:
        raise InputError(
            f"every = {every_s:g} s: a period has 60 s at least, and less than the window of {workload.window_s:g} s"
        )
    if workload.window_s / every_s > MOST_PERIODS:
        raise InputError(f"every = {every_s:g} s: these are more than {MOST_PERIODS} periods; take longer ones")
    if moves_a_day is not None and moves_a_day < 0:
        raise InputError(f"moves = {moves_a_day}: it must be 0 or more")
    if wishes.most_moves is not None:
        raise InputError("a schedule has moves_a_day; most_moves is of a single plan")
    if not seeds:
        raise InputError("seeds: at least one is needed")


def _spans(window_s: float, every_s: float) -> Iterator[tuple[float, float]]:
    begin = np.arange(0.0, window_s - 1e-6, every_s)
    return pairwise([*begin.tolist(), window_s])


def _drawn(workload: WorkloadSpec, begin: float, end: float, seeds: Sequence[int]) -> tuple[Workload, ...]:
    part = part_of(workload, begin, end - begin)
    found = tuple(draw(part, seed) for seed in seeds)
    for one in found:
        one.check_rated("a schedule")
    return found


def _asked(drawn: Sequence[tuple[Workload, ...]], i: int, ahead: bool) -> tuple[Workload, ...] | None:
    """The draws that a period's servers are verified with; None: nobody asks anything.

    With the next period among them, adapters are dealt out by the higher of their two rates.
    """
    following = drawn[i + 1][:1] if ahead and i + 1 < len(drawn) else ()
    found = [one for one in (*drawn[i], *following) if one.num_requests]
    if not found:
        return None
    if following:
        rates = np.maximum(drawn[i][0].adapters.rate_per_s, following[0].adapters.rate_per_s)
        base = max(drawn[i][0].base_rate_per_s, following[0].base_rate_per_s)
        adapters = replace(found[0].adapters, rate_per_s=rates)
        found[0] = replace(found[0], adapters=adapters, base_rate_per_s=base)
    return tuple(found)


def _wishes(wishes: Wishes, periods: Sequence[Period], now_s: float, moves_a_day: int | None) -> Wishes:
    """Those of the next period: the placement before it, and what is left of the day's moves."""
    if not periods:
        return replace(wishes, most_moves=None if wishes.present is None else moves_a_day)
    left = None if moves_a_day is None else max(0, moves_a_day - moved_lately(periods, now_s))
    return replace(wishes, present=periods[-1].plan.placement, most_moves=left)


def _during(when: str, progress: Progress) -> Progress:
    return lambda done, total, what: progress(done, total, f"{when}: {what}")


def _drift(drawn: Sequence[tuple[Workload, ...]], i: int) -> float:
    if not i:
        return float("nan")
    return half_variation(*(_shares(draws[0]) for draws in (drawn[i - 1], drawn[i])))


def _shares(workload: Workload) -> F8:
    counts: F8 = np.bincount(workload.adapter + 1, minlength=len(workload.adapters) + 1).astype(np.float64)
    return counts


def half_variation(before: F8, after: F8) -> float:
    """Half the sum of the differences between two shares of a whole, 0 to 1; NaN: one of them is of nothing."""
    if not before.sum() > 0 or not after.sum() > 0:
        return float("nan")
    return float(np.abs(after / after.sum() - before / before.sum()).sum() / 2)
