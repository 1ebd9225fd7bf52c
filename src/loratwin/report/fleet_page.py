"""The page of a plan of a fleet: who lives where, what each server carries, who waits longest, what breaks it."""

from __future__ import annotations

from collections.abc import Callable
from math import isnan
from pathlib import Path

import numpy as np

from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.plan_text import verdict_lines
from loratwin.formatting import number
from loratwin.plan.sentences import margin_text
from loratwin.records import write_atomically
from loratwin.report.charts import Chart, ChartSeries, Panel
from loratwin.report.fleet_tables import fleet_tables
from loratwin.report.page import HeadlineFigure, environment, milliseconds
from loratwin.report.tables import write_csv
from loratwin.version import __version__

NAMED = 16
"""Servers up to which each has its name under its bar."""


def fleet_page(plan: FleetPlan) -> str:
    """One self-contained HTML file as text; the same plan gives the same bytes."""
    title, *others = verdict_lines(plan)
    return (
        environment()
        .get_template("fleet.html.j2")
        .render(
            plan=plan,
            title=title,
            lines=others,
            cards=_cards(plan),
            figure=server_chart(plan).svg(),
            tables={table.name: table for table in fleet_tables(plan)},
            seeds=", ".join(map(str, plan.seeds)),
            version=__version__,
        )
    )


def write_fleet_page(plan: FleetPlan, path: Path) -> Path:
    """Write the page.

    Raises
    ------
    InputError
        The folder cannot be written.
    """
    return write_atomically(path, fleet_page(plan))


def write_fleet_tables(plan: FleetPlan, folder: Path) -> list[Path]:
    """Write every table of the page as CSV.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    return write_csv(fleet_tables(plan), folder)


def _cards(plan: FleetPlan) -> list[HeadlineFigure]:
    worst, least = plan.worst[0], plan.tightest
    cards = [
        HeadlineFigure("Servers", str(plan.num_servers), f"at least {plan.bound.gpus} by {plan.bound.name}", "to set"),
        HeadlineFigure("Fullest / mean", ratio(plan.fullest_to_mean), "by tokens", "simulated"),
        HeadlineFigure("Margin", margin_text(least.candidate.margin), f"the least, of {least.name}", "simulated"),
        HeadlineFigure("First token", milliseconds(worst.ttft_p99_ms), f"p99 of {worst.name}, the worst", "simulated"),
        HeadlineFigure("Split", str(len(plan.split)), f"of {len(plan.adapters):,} adapters", "to set"),
    ]
    if plan.price_per_h is not None:
        cards.append(HeadlineFigure("Price", number(plan.price_per_h), "an hour, all servers", "assumed"))
    if plan.moves is not None:
        cards.append(HeadlineFigure("Moves", str(plan.moves), "adapters, from the present placement", "to set"))
    return cards


def ratio(value: float) -> str:
    """A ratio with two decimals; a dash where it is unknown."""
    return "-" if isnan(value) else f"{value:.2f}"


def server_chart(plan: FleetPlan) -> Chart:
    """Load, number of adapters, slots and margin of each server."""
    few = plan.num_servers <= NAMED
    names = [server.name for server in plan.servers] if few else []
    x = list(range(plan.num_servers))

    def panel(title: str, y: str, values: Callable[[int], float]) -> Panel:
        found = [values(j) for j in x]
        return Panel(title, "server", y, [ChartSeries(y, x, found, "bars" if few else "points")], names)

    servers = plan.servers
    panels = [
        panel("Load", "tokens/s", lambda j: servers[j].tokens_per_s),
        panel("Adapters held", "adapters", lambda j: float(servers[j].adapters)),
        panel("Margin", "growth, %", lambda j: 100 * float(np.nan_to_num(servers[j].candidate.margin - 1))),
    ]
    return Chart("servers-by-number", "What each server carries", panels)
