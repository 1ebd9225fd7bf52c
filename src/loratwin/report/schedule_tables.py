"""What is known of a schedule of placements as tables of a page, and as CSV."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from loratwin.fleet.plan_result import FleetPlan
from loratwin.fleet.schedule import FleetSchedule, Period
from loratwin.plan.sentences import margin_text
from loratwin.report.tables import Cell, Column, Row, Table, numeric, word
from loratwin.workload.hours import clock

Homes = tuple[str, ...]
"""Servers that hold an adapter, in their order."""


def schedule_tables(schedule: FleetSchedule) -> list[Table]:
    """Periods, servers in each of them, where each adapter lives from when on, what if."""
    return [_periods(schedule), _servers(schedule), _homes(schedule), _what_if(schedule)]


def _periods(schedule: FleetSchedule) -> Table:
    columns = (
        Column("period", "period", is_word=True),
        Column("start_s", "from", "s"),
        Column("drift", "drift"),
        Column("num_servers", "servers"),
        Column("bound", "at least"),
        Column("moves", "moves"),
        Column("fullest_to_mean", "fullest / mean"),
        Column("ttft_p99_ms", "TTFT p99"),
        Column("margin", "margin"),
        Column("worst_adapter", "waits longest", is_word=True),
    )
    return Table("periods", "Periods", columns, [_period(each) for each in schedule.periods], in_order=True)


def _period(period: Period) -> Row:
    plan, margin = period.plan, period.plan.tightest.candidate.margin
    return Row(
        [
            word(period.text),
            numeric(period.start_s),
            numeric(period.drift),
            numeric(float(plan.num_servers)),
            numeric(float(plan.bound.gpus)),
            numeric(float(period.moves)),
            numeric(plan.fullest_to_mean),
            numeric(plan.ttft_p99_ms, "ms"),
            Cell(margin_text(margin), margin),
            word(plan.worst[0].name if plan.worst else ""),
        ]
    )


def _servers(schedule: FleetSchedule) -> Table:
    columns = (
        Column("server", "server", is_word=True),
        Column("period", "period", is_word=True),
        Column("profile", "kind", is_word=True),
        Column("num_adapters", "adapters"),
        Column("tokens_per_s", "tokens/s"),
        Column("slots", "slots"),
        Column("max_num_seqs", "seqs"),
        Column("ttft_p99_ms", "TTFT p99"),
        Column("margin", "margin"),
    )
    most = max(float(each.plan.loads.max()) for each in schedule.periods)
    rows = [row for each in schedule.periods for row in _servers_of(each, most)]
    return Table("servers", "Servers over time", columns, rows, find="server")


def _servers_of(period: Period, most: float) -> Iterator[Row]:
    for server in period.plan.servers:
        config = server.candidate.config
        yield Row(
            [
                word(server.name),
                word(period.text),
                word(period.plan.gpus[server.kind].name),
                numeric(float(server.adapters)),
                numeric(server.tokens_per_s, bar=100 * server.tokens_per_s / most if most > 0 else None),
                numeric(float(config.max_loras)),
                numeric(float(config.max_num_seqs)),
                numeric(server.candidate.mean("ttft_p99_ms"), "ms"),
                Cell(margin_text(server.candidate.margin), server.candidate.margin),
            ]
        )


def _homes(schedule: FleetSchedule) -> Table:
    """A row for each adapter and each period in which it begins to live on other servers; the hottest first."""
    columns = (
        Column("adapter", "adapter", is_word=True),
        Column("rank", "rank"),
        Column("start_s", "from", "s"),
        Column("since", "since", is_word=True),
        Column("num_servers", "on"),
        Column("servers", "servers", is_word=True),
    )
    changes = _changes(schedule)
    load = np.sum([each.plan.load * each.hours for each in schedule.periods], axis=0)
    first = schedule.periods[0].plan
    rows = [
        Row(
            [
                word(first.adapters[a]),
                numeric(float(first.ranks[a])),
                numeric(begin_s),
                word(clock(begin_s)),
                numeric(float(len(homes))),
                word(", ".join(homes)),
            ]
        )
        for a in sorted(range(len(first.adapters)), key=lambda a: (-load[a], a))
        for begin_s, homes in changes[a]
    ]
    return Table("adapters", "Who lives where, and since when", columns, rows, find="adapter")


def _changes(schedule: FleetSchedule) -> list[list[tuple[float, Homes]]]:
    """For each adapter the beginnings of the periods in which its servers change, and those servers."""
    changes: list[list[tuple[float, Homes]]] = [[] for _ in schedule.periods[0].plan.adapters]
    for period in schedule.periods:
        for a, homes in enumerate(_homes_in(period.plan)):
            if not changes[a] or changes[a][-1][1] != homes:
                changes[a].append((period.start_s, homes))
    return changes


def _homes_in(plan: FleetPlan) -> list[Homes]:
    """The servers of each adapter."""
    names = [server.name for server in plan.placement.servers]
    held: list[list[int]] = [[] for _ in plan.adapters]
    for a, j in zip(plan.placement.adapter.tolist(), plan.placement.server.tolist(), strict=True):
        if a >= 0:
            held[a].append(j)
    return [tuple(names[j] for j in sorted(servers)) for servers in held]


def _what_if(schedule: FleetSchedule) -> Table:
    columns = (
        Column("period", "period", is_word=True),
        Column("case", "case", is_word=True),
        Column("failing", "servers that fail", is_word=True),
    )
    rows = [
        Row([word(each.text), word(case.name), word(", ".join(case.failing) or "none", "bad" if case.failing else "")])
        for each in schedule.periods
        for case in each.plan.stress
    ]
    return Table("what-if", "What if", columns, rows, in_order=True)
