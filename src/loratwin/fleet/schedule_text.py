"""A schedule of placements in words and as plain data."""

from __future__ import annotations

from math import isnan, nan
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
    first = schedule.periods[0].plan
    hours = sum(each.hours for each in schedule.periods)
    counts = [each.plan.num_servers for each in schedule.periods]
    lines = [
        f"{len(first.adapters):,} adapters on {min(counts)} to {max(counts)} servers in {len(counts)} periods: "
        f"{number(schedule.server_hours)} server-hours (always the most: {number(max(counts) * hours)}).",
        f"Adapters moved: {schedule.moves}; at most {_of_all(schedule.moves_a_day, len(first.adapters))} in 24 hours"
        + (f" ({schedule.most_moves_a_day} may)." if schedule.most_moves_a_day is not None else "."),
    ]
    if schedule.ahead:
        lines.append("Each placement also carries the next period's traffic; loads are of the higher rates of both.")
    return [*lines, "", *aligned([_HEADER, *map(_row, schedule.periods)]).split("\n")]


def _of_all(moves: int, adapters: int) -> str:
    return f"{moves} ({100 * moves / adapters:.0f} %)"


def _row(period: Period) -> tuple[str, ...]:
    plan = period.plan
    mean = float(plan.loads.mean())
    tails = [server.candidate.mean("ttft_p99_ms") for server in plan.servers]
    return (
        period.text,
        "" if isnan(period.drift) else f"{period.drift:.2f}",
        str(plan.num_servers),
        str(period.moves),
        f"{plan.loads.max() / mean:.2f}" if mean > 0 else "",
        milliseconds(max((tail for tail in tails if not isnan(tail)), default=nan)),
        margin_text(min(server.candidate.margin for server in plan.servers)),
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
