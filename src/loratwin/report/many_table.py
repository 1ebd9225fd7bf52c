"""Answers for many workloads as one table for a terminal, and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratwin.formatting import aligned, milliseconds, number, share
from loratwin.plan.sentences import margin_text
from loratwin.simulate.many import TABLE, Answers

HEADER = ("workload", "adapters", "slots", "seqs", "", "tokens/s", "served", "TTFT", "TTFT p99", "TPOT", "margin")

_FIGURES = (
    ("total_throughput_tokens_per_s", number), ("served_share", share), ("ttft_mean_ms", milliseconds),
    ("ttft_p99_ms", milliseconds), ("tpot_mean_ms", milliseconds), ("margin", margin_text),
)  # fmt: skip


def answers_text(answers: Answers) -> str:
    """A line for each row of the table, then the workloads without a result, and where all of it lies."""
    lines = [HEADER, *(_line(row) for row in answers.rows)]
    shown = [i for i in range(len(HEADER)) if i < 1 or any(line[i] for line in lines[1:])]
    table = aligned([[line[i] for i in shown] for line in lines])
    why = [f"{row['workload']}: {row['error']}" for row in answers.rows if "error" in row]
    new = f"{answers.num_new} of {len(answers.results)} workloads are new"
    return "\n".join([table, *why, f"{new}; all figures: {answers.folder / TABLE}"])


def answers_data(answers: Answers) -> list[dict[str, Any]]:
    """What the command says of each workload, in order."""
    return list(answers.results.values())


def _line(row: Mapping[str, Any]) -> tuple[str, ...]:
    head = [_text(row.get(name)) for name in ("workload", "adapters", "max_loras", "max_num_seqs")]
    return (*head, _status(row), *(form(row[name]) if row.get(name) is not None else "" for name, form in _FIGURES))


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _status(row: Mapping[str, Any]) -> str:
    """What is wrong, in a word; nothing where all is well."""
    if "error" in row:
        return "does not start" if row.get("starts") is False else "error"
    if row.get("starved_runs"):
        return "starved"
    if row.get("serves_all") is False:
        return f"serves {row.get('served_adapters', 0)}"
    return "" if row.get("slo_met", True) else "misses the SLO"
