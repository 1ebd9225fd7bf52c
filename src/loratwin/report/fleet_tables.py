"""What is known of fleets as tables of a page, and as CSV."""

from __future__ import annotations

from math import nan

from loratwin.fleet.comparing import Compared
from loratwin.fleet.contenders import Baseline
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
