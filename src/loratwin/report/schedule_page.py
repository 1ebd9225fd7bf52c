"""The page of a schedule of placements: what each server carries over time, who moves when, and where it is tight."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan
from pathlib import Path

import numpy as np

from loratwin.fleet.schedule import FleetSchedule, Period
from loratwin.fleet.schedule_text import num_servers_text, schedule_verdict_lines
from loratwin.formatting import number
from loratwin.plan.sentences import margin_text
from loratwin.records import write_atomically
from loratwin.report.charts import Chart, ChartSeries, Look, Panel
from loratwin.report.fleet_page import ratio
from loratwin.report.page import HeadlineFigure, environment, milliseconds
from loratwin.report.schedule_tables import schedule_tables
from loratwin.report.tables import write_csv
from loratwin.version import __version__
from loratwin.workload.hours import HOUR_S, clock

NAMED_PERIODS = 12
"""Periods up to which each has its beginning under its place."""

NAMED_SERVERS = 9
"""Servers up to which each has a line of its own: there are so many colours."""


def schedule_page(schedule: FleetSchedule) -> str:
    """One self-contained HTML file as text; the same schedule gives the same bytes."""
    title, *others = schedule_verdict_lines(schedule)
    first = schedule.periods[0].plan
    return (
        environment()
        .get_template("schedule.html.j2")
        .render(
            schedule=schedule,
            title=title,
            lines=others,
            notes=list(dict.fromkeys(note for each in schedule.periods for note in each.plan.notes)),
            cards=_cards(schedule),
            figure=schedule_chart(schedule).svg(),
            tables={table.name: table for table in schedule_tables(schedule)},
            seeds=", ".join(map(str, first.seeds)),
            version=__version__,
        )
    )


def write_schedule_page(schedule: FleetSchedule, path: Path) -> Path:
    """Write the page.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    return write_atomically(path, schedule_page(schedule))


def write_schedule_tables(schedule: FleetSchedule, folder: Path) -> list[Path]:
    """Write every table of the page as CSV.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    return write_csv(schedule_tables(schedule), folder)


def _cards(schedule: FleetSchedule) -> list[HeadlineFigure]:
    counts = [period.plan.num_servers for period in schedule.periods]
    least = min(schedule.periods, key=lambda period: period.plan.tightest.candidate.margin)
    slowest = max(schedule.periods, key=lambda period: float(np.nan_to_num(period.plan.ttft_p99_ms, nan=-1.0)))
    unevenest = max(schedule.periods, key=lambda period: float(np.nan_to_num(period.plan.fullest_to_mean, nan=-1.0)))
    server = least.plan.tightest
    cards = [
        HeadlineFigure("Servers", num_servers_text(counts), f"in {len(counts)} periods", "to set"),
        HeadlineFigure("Server-hours", number(schedule.server_hours), "of all periods", "to set"),
        HeadlineFigure("Moves", str(schedule.moves), f"adapters; {schedule.moves_a_day} at most in 24 hours", "to set"),
        HeadlineFigure(
            "Fullest / mean", ratio(unevenest.plan.fullest_to_mean), f"at most, from {unevenest.text}", "simulated"
        ),
        HeadlineFigure(
            "Margin", margin_text(server.candidate.margin), f"the least: {server.name}, {least.text}", "simulated"
        ),
        HeadlineFigure(
            "First token", milliseconds(slowest.plan.ttft_p99_ms), f"p99 of the slowest server, {slowest.text}",
            "simulated",
        ),
    ]  # fmt: skip
    if schedule.price is not None:
        cards.append(HeadlineFigure("Price", number(schedule.price), "all periods", "assumed"))
    return cards


def schedule_chart(schedule: FleetSchedule) -> Chart:
    """Load of each server, servers, moves, evenness, margin and time to first token, over the periods."""
    periods = schedule.periods
    few = len(periods) <= NAMED_PERIODS
    x = [float(i) if few else each.start_s / HOUR_S for i, each in enumerate(periods)]
    ticks = [clock(each.start_s) for each in periods] if few else []
    title = "beginning of the period" if few else "hours from the window's start"

    def panel(name: str, y: str, series: Sequence[ChartSeries], from_zero: bool = True) -> Panel:
        return Panel(name, title, y, series, ticks, from_zero=from_zero)

    def over_time(value: Callable[[Period], float], look: Look = "simulated") -> list[ChartSeries]:
        return [ChartSeries("", x, [value(each) for each in periods], look)]

    def margin(period: Period) -> float:
        value = 100 * (period.plan.tightest.candidate.margin - 1)
        return float(value) if np.isfinite(value) else nan

    panels = [
        panel("Load", "tokens/s", _loads(periods, x)),
        panel("Servers", "servers", over_time(lambda each: float(each.plan.num_servers), "bars")),
        panel("Adapters moved", "adapters", over_time(lambda each: float(each.moves), "bars")),
        panel("Fullest / mean", "by tokens", over_time(lambda each: each.plan.fullest_to_mean)),
        panel("Least margin", "growth, %", over_time(margin), from_zero=False),
        panel("TTFT p99, slowest server", "ms", over_time(lambda each: each.plan.ttft_p99_ms)),
    ]
    return Chart("servers-over-time", "What the servers carry over time", panels)


def _loads(periods: Sequence[Period], x: Sequence[float]) -> list[ChartSeries]:
    """A line for each server; of many a point for each, and the mean."""
    most = max(each.plan.num_servers for each in periods)
    if most <= NAMED_SERVERS:
        return [_load_of(periods, x, j) for j in range(most)]
    points = [(at, float(load)) for at, each in zip(x, periods, strict=True) for load in each.plan.loads]
    mean = ChartSeries("mean", x, [float(each.plan.loads.mean()) for each in periods], "line", 1)
    return [ChartSeries("each server", [at for at, _ in points], [load for _, load in points], "points", 0), mean]


def _load_of(periods: Sequence[Period], x: Sequence[float], j: int) -> ChartSeries:
    there = [(at, each.plan.servers[j]) for at, each in zip(x, periods, strict=True) if j < each.plan.num_servers]
    return ChartSeries(there[0][1].name, [at for at, _ in there], [server.tokens_per_s for _, server in there])
