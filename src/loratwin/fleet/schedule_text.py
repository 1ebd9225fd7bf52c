"""A schedule of placements in words and as plain data."""

from __future__ import annotations

from collections.abc import Sequence
from math import isnan
from typing import Any

from loratwin.fleet.plan_text import fleet_plan_json
from loratwin.fleet.schedule import FleetSchedule, Period
from loratwin.formatting import aligned, milliseconds, number
from loratwin.plan.sentences import margin_text
from loratwin.records.plain import as_plain
from loratwin.version import __version__

_HEADER = ("period", "drift", "servers", "moves", "fullest/mean", "TTFT p99", "margin")


def fleet_schedule_lines(schedule: FleetSchedule) -> list[str]:
    """What it comes to, and a row for each period."""
    return [*schedule_verdict_lines(schedule), "", *aligned([_HEADER, *map(_row, schedule.periods)]).split("\n")]


def schedule_verdict_lines(schedule: FleetSchedule) -> list[str]:
    """What it comes to; the first is the answer."""
    first = schedule.periods[0].plan
    hours = sum(each.hours for each in schedule.periods)
    counts = [each.plan.num_servers for each in schedule.periods]
    lines = [
        f"{len(first.adapters):,} adapters on {num_servers_text(counts)} server{'s' * (max(counts) > 1)} in "
        f"{len(counts)} period{'s' * (len(counts) > 1)}: "
        f"{number(schedule.server_hours)} server-hours (always the most: {number(max(counts) * hours)}).",
        f"Adapters moved: {schedule.moves}; at most {_of_all(schedule.moves_a_day, len(first.adapters))} in 24 hours"
        + (f" ({schedule.most_moves_a_day} may)." if schedule.most_moves_a_day is not None else "."),
    ]
    if schedule.ahead:
        lines.append("Each placement also carries the next period's traffic; loads are of the higher rates of both.")
    return lines


def num_servers_text(counts: Sequence[int]) -> str:
    """The least and the most of the periods: `2 to 4`, or `3` where all have so many."""
    least, most = min(counts), max(counts)
    return str(most) if least == most else f"{least} to {most}"


def _of_all(moves: int, adapters: int) -> str:
    return f"{moves} ({100 * moves / adapters:.0f} %)"


def _row(period: Period) -> tuple[str, ...]:
    plan = period.plan
    return (
        period.text,
        "" if isnan(period.drift) else f"{period.drift:.2f}",
        str(plan.num_servers),
        str(period.moves),
        "" if isnan(plan.fullest_to_mean) else f"{plan.fullest_to_mean:.2f}",
        milliseconds(plan.ttft_p99_ms),
        margin_text(plan.tightest.candidate.margin),
    )


def fleet_schedule_json(schedule: FleetSchedule) -> dict[str, Any]:
    """All periods, each with its plan; `placement` in it is what `load_placement` reads."""
    return as_plain(
        {
            "format": 1,
            "kind": "fleet schedule",
            "loratwin_version": __version__,
            "ahead": schedule.ahead,
            "most_moves_a_day": schedule.most_moves_a_day,
            "move_price": schedule.move_price,
            "most_servers": schedule.most_servers,
            "server_hours": schedule.server_hours,
            "moves": schedule.moves,
            "moves_a_day": schedule.moves_a_day,
            "periods": [
                {
                    "start_s": each.start_s,
                    "end_s": each.end_s,
                    "moves": each.moves,
                    "drift": each.drift,
                    "plan": fleet_plan_json(each.plan),
                }
                for each in schedule.periods
            ],
        }
    )
