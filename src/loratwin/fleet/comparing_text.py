"""Ways of placing side by side, in words and as plain data."""

from __future__ import annotations

from typing import Any

from loratwin.fleet.comparing import OURS, Compared
from loratwin.fleet.contenders import Baseline
from loratwin.formatting import aligned, milliseconds
from loratwin.plan.sentences import margin_text
from loratwin.records.plain import as_plain
from loratwin.version import __version__

HEADER = ("method", "servers", "fullest/mean", "held", "margin", "worst adapter", "TTFT p99")


def comparison_lines(found: Compared) -> list[str]:
    """The bound, a row for each method, and what was asked of all."""
    return [
        f"At least {found.bound.gpus} servers by {found.bound.name} ({found.bound.why}).",
        "",
        *aligned([HEADER, *map(_row, found.methods)]).split("\n"),
        "",
        "held: adapters, counted on each server that holds them. margin: of the server with the least.",
        "none: some server fails, whatever its slots and limits, with every number of servers that was tried.",
    ]


def _row(row: Baseline) -> tuple[str, ...]:
    if row.servers is None:
        return (row.name, "none", *[""] * (len(HEADER) - 2))
    return (
        row.name,
        str(row.servers),
        f"{row.fullest_to_mean:.2f}",
        f"{row.replicas:,}",
        margin_text(row.margin),
        row.worst_adapter,
        milliseconds(row.worst_ttft_p99_ms),
    )


def comparison_json(found: Compared, workload: str, profile: str) -> dict[str, Any]:
    """Everything of the table; ours is the method `fleet plan`."""
    return as_plain(
        {
            "format": 1,
            "kind": "fleet comparison",
            "loratwin_version": __version__,
            "workload": workload,
            "profile": profile,
            "ours": OURS,
            "bound": {"gpus": found.bound.gpus, "name": found.bound.name, "why": found.bound.why},
            "methods": [
                {
                    "name": row.name,
                    "num_servers": row.servers,
                    "fullest_to_mean": row.fullest_to_mean,
                    "num_held": row.replicas if row.servers else None,
                    "margin": row.margin,
                    "worst_adapter": row.worst_adapter or None,
                    "worst_ttft_p99_ms": row.worst_ttft_p99_ms,
                }
                for row in found.methods
            ],
        }
    )
