"""What is known of fleets as tables of a page, and as CSV."""

from __future__ import annotations

from math import nan

from loratwin.fleet.comparing import Compared
from loratwin.fleet.contenders import Baseline
from loratwin.fleet.plan_result import FleetPlan, PlannedServer
from loratwin.plan.sentences import margin_text
from loratwin.report.tables import Cell, Column, Row, Table, numeric, word


def placements_table(found: Compared) -> Table:
    """Ways of placing side by side, ours first."""
    columns = (
        Column("method", "method", is_word=True),
        Column("num_servers", "servers"),
        Column("fullest_to_mean", "fullest / mean"),
        Column("num_held", "held"),
        Column("margin", "margin"),
        Column("worst_adapter", "worst adapter", is_word=True),
        Column("worst_ttft_p99_ms", "TTFT p99"),
    )
    return Table("placements", "Ways of placing", columns, [_placing(row) for row in found.methods], in_order=True)


def _placing(row: Baseline) -> Row:
    found = row.servers is not None
    return Row(
        [
            word(row.name),
            numeric(float(row.servers or nan)) if found else Cell("none", None),
            numeric(row.fullest_to_mean),
            numeric(float(row.replicas) if found else nan),
            Cell(margin_text(row.margin) if found else "", row.margin),
            word(row.worst_adapter),
            numeric(row.worst_ttft_p99_ms, "ms"),
        ]
    )


def fleet_tables(plan: FleetPlan) -> list[Table]:
    """Servers, adapters, who waits longest, what if."""
    return [_servers(plan), _adapters(plan), _worst(plan), _what_if(plan)]


def _servers(plan: FleetPlan) -> Table:
    columns = (
        Column("server", "server", is_word=True),
        Column("profile", "kind", is_word=True),
        Column("num_adapters", "adapters"),
        Column("tokens_per_s", "tokens/s"),
        Column("slots", "slots"),
        Column("max_lora_rank", "rank"),
        Column("max_num_seqs", "seqs"),
        Column("ttft_p99_ms", "TTFT p99"),
        Column("margin", "margin"),
    )
    rows = [_server(plan, server) for server in plan.servers]
    return Table("servers", "Servers", columns, rows, find="server")


def _server(plan: FleetPlan, server: PlannedServer) -> Row:
    config, fullest = server.candidate.config, float(plan.loads.max())
    return Row(
        [
            word(server.name),
            word(plan.gpus[server.kind].name),
            numeric(float(server.adapters)),
            numeric(server.tokens_per_s, bar=100 * server.tokens_per_s / fullest if fullest > 0 else None),
            numeric(float(config.max_loras)),
            numeric(float(config.max_lora_rank)),
            numeric(float(config.max_num_seqs)),
            numeric(server.candidate.mean("ttft_p99_ms"), "ms"),
            Cell(margin_text(server.candidate.margin), server.candidate.margin),
        ]
    )


def _adapters(plan: FleetPlan) -> Table:
    """Hottest first, each with its servers."""
    columns = (
        Column("adapter", "adapter", is_word=True),
        Column("rank", "rank"),
        Column("tokens_per_s", "tokens/s"),
        Column("num_servers", "on"),
        Column("servers", "servers", is_word=True),
    )
    where, names = plan.placement, [server.name for server in plan.placement.servers]
    rows = []
    for a in sorted(range(len(plan.adapters)), key=lambda a: (-plan.load[a], a)):
        entries = where.entries_for(a)
        homes = zip(where.server[entries].tolist(), where.fraction[entries].tolist(), strict=True)
        said = ", ".join(names[j] if part >= 1 else f"{names[j]} {100 * part:.0f} %" for j, part in homes)
        cells = [word(plan.adapters[a]), numeric(float(plan.ranks[a])), numeric(float(plan.load[a]))]
        rows.append(Row([*cells, numeric(float(entries.stop - entries.start)), word(said)]))
    return Table("adapters", "Who lives where", columns, rows, find="adapter")


def _worst(plan: FleetPlan) -> Table:
    columns = (
        Column("adapter", "adapter", is_word=True),
        Column("server", "server", is_word=True),
        Column("requests", "requests"),
        Column("ttft_mean_ms", "TTFT mean"),
        Column("ttft_p99_ms", "TTFT p99"),
    )
    rows = [
        Row(
            [word(each.name), word(each.server), numeric(float(each.requests)), numeric(each.ttft_mean_ms, "ms"),
             numeric(each.ttft_p99_ms, "ms")]
        )
        for each in plan.worst
    ]  # fmt: skip
    return Table("worst", "Adapters that wait longest", columns, rows, in_order=True)


def _what_if(plan: FleetPlan) -> Table:
    columns = (Column("case", "case", is_word=True), Column("failing", "servers that fail", is_word=True))
    rows = [
        Row([word(case.name), word(", ".join(case.failing) or "none", "bad" if case.failing else "")])
        for case in plan.stress
    ]
    return Table("what-if", "What if", columns, rows, in_order=True)
