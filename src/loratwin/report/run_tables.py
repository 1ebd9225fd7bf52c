"""The tables of a report of runs: figures side by side, every adapter, failures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from loratwin.formatting import number, seconds
from loratwin.metrics import (
    ClientAdapterFigures,
    Comparison,
    Slo,
    SloRows,
    client_per_adapter,
    compare,
    few_for,
    slo_rows,
    starvation,
)
from loratwin.records import Run
from loratwin.report.looks import Look, looks
from loratwin.report.tables import Cell, Column, Row, Table, file_name, numeric, word

ADAPTERS_SHOWN = 1000
"""Of each run; a page of ten thousand rows helps nobody, and `--csv` and `--json` have them all."""

_P99 = 0.01
"""Part of the requests that a 99th percentile leaves above it."""


def run_tables(runs: Mapping[str, Run], slo: Slo | None = None) -> list[Table]:
    """All tables of the report, for CSV files."""
    shown = looks(runs)
    failures = failures_table(shown)
    adapters = [adapters_table(look, slo, most=None) for look in shown]
    return [figures_table(compare(runs, slo)), *adapters, *([failures] if failures.rows else [])]


def figures_table(comparison: Comparison) -> Table:
    """Every figure of every run, with its unit, and how far it is from the reference."""
    reference = comparison.reference
    others = [i for i in range(len(comparison.names)) if i != reference]
    columns = [
        Column("section", "section", is_word=True),
        Column("figure", "figure", is_word=True),
        Column("unit", "unit", is_word=True),
        *(Column(name, name) for name in comparison.names),
        *(Column(f"{comparison.names[i]} relative to {comparison.names[reference]}", "") for i in others),
    ]
    rows = [
        [
            word(row.figure.section),
            word(row.figure.title),
            word(row.figure.unit),
            *map(numeric, row.values),
            *(numeric(1 + row.difference(i, reference)) for i in others),
        ]
        for row in comparison.rows
    ]
    starved = [Cell(str(each.starved), each.starved) for each in map(starvation, comparison.runs.values())]
    first = [word(""), word("starved"), word(""), *starved, *[word("")] * len(others)]
    return Table("figures", "Figures", columns, [Row(first), *map(Row, rows)], in_order=True)


_ADAPTER_COLUMNS = (
    (Column("sent", "sent"), "sent", ""),
    (Column("finished", "finished"), "finished", ""),
    (Column("failed", "failed"), "failed", ""),
    (Column("refused", "refused"), "refused", ""),
    (Column("cut_off", "cut off"), "censored", ""),
    (Column("received_tokens", "tokens", "received"), "received_tokens", ""),
    (Column("throughput_tokens_per_s", "tokens/s"), "throughput", ""),
    (Column("served_share", "served"), "served_share", "share"),
    (Column("goodput_per_s", "goodput", "/s"), "goodput", ""),
    (Column("ttft_mean_ms", "TTFT", "mean"), "ttft_mean_ms", "ms"),
    (Column("ttft_p50_ms", "TTFT", "p50"), "ttft_p50_ms", "ms"),
    (Column("ttft_p99_ms", "TTFT", "p99"), "ttft_p99_ms", "ms"),
    (Column("tpot_mean_ms", "TPOT", "mean"), "tpot_mean_ms", "ms"),
    (Column("itl_mean_ms", "ITL", "mean"), "itl_mean_ms", "ms"),
    (Column("itl_p99_ms", "ITL", "p99"), "itl_p99_ms", "ms"),
    (Column("e2e_mean_ms", "end to end", "mean"), "e2e_mean_ms", "ms"),
    (Column("lag_p99_ms", "lag", "p99"), "lag_p99_ms", "ms"),
)
_ONLY_IF_ANY = ("failed", "refused")


LAST_ON_THEIR_WAY = "not starved: its last were on their way"
"""Of an adapter whose share is low, as of one with few requests, one of them still running at the end."""


def adapters_table(look: Look, slo: Slo | None = None, most: int | None = ADAPTERS_SHOWN) -> Table:
    """The adapters of a run, the worst first; a column that no adapter has a figure in is left out.

    Parameters
    ----------
    most
        Rows; None: all.
    """
    figures = client_per_adapter(look.run, slo)
    columns = [column for column in _ADAPTER_COLUMNS if _is_known(figures, column[1])]
    few = few_for(figures.finished, _P99)
    kept = slo_rows(look.run, slo) if slo is not None else None
    rows = []
    for i in figures.worst_first()[:most]:
        verdict = _verdict(figures, i, bool(few[i]), kept)
        cells = [
            numeric(
                float(getattr(figures, key)[i]), unit, "few" if few[i] and key in ("ttft_p99_ms", "lag_p99_ms") else ""
            )
            for _, key, unit in columns
        ]
        rows.append(Row([word(figures.name[i]), *cells, verdict], "starved" if figures.starved[i] else ""))
    head = [Column("adapter", "adapter", is_word=True), *(column for column, _, _ in columns)]
    title = f"Adapters of {look.name}, the worst first"
    name = f"adapters-of-{file_name(look.name)}"
    return Table(name, title, [*head, Column("verdict", "verdict", is_word=True)], rows, find="customer")


def _verdict(figures: ClientAdapterFigures, i: int, few: bool, kept: SloRows | None) -> Cell:
    misses = kept is not None and figures.name[i] in kept.missing
    bad = " and ".join(["starves"] * bool(figures.starved[i]) + ["misses the SLO"] * misses)
    if bad:
        return word(bad, "bad")
    said = [LAST_ON_THEIR_WAY] * bool(figures.only_unfinished[i]) + ["too few requests for a p99"] * few
    return word("; ".join(said))


def _is_known(figures: ClientAdapterFigures, key: str) -> bool:
    values = np.asarray(getattr(figures, key), dtype=np.float64)
    return bool(values.any()) if key in _ONLY_IF_ANY else not np.isnan(values).all()


def too_few(look: Look) -> str:
    """How many adapters of a run have too few requests for a percentile; empty: none."""
    figures = client_per_adapter(look.run)
    count = int(few_for(figures.finished, _P99).sum())
    if not count:
        return ""
    return (
        f"{look.name}: {number(count)} of {number(len(figures))} adapters have fewer than {round(1 / _P99)} finished "
        "requests, too few for a 99th percentile: theirs (in italics) is about their slowest request."
    )


def failures_table(shown: Sequence[Look]) -> Table:
    """Each kind of failure of each run, the most frequent first."""
    columns = [
        Column("run", "run", is_word=True),
        Column("what", "what", is_word=True),
        Column("requests", "requests"),
        Column("share", "share"),
        Column("adapters_hit", "adapters hit"),
        Column("first_at_s", "first at"),
    ]
    return Table("failures", "Failures", columns, [row for look in shown for row in _failures(look)])


def _failures(look: Look) -> list[Row]:
    table = look.run.requests
    if table.failure is None:
        return []
    rows = []
    for kind, name in enumerate(look.run.failures):
        which = np.flatnonzero(table.failure == kind)
        if len(which):
            first_s = float(table.arrival_s[which].min())
            cells = [
                word(look.name),
                word(name),
                numeric(len(which)),
                numeric(len(which) / len(table), "share"),
                numeric(len(np.unique(table.adapter[which]))),
                Cell(seconds(first_s), first_s),
            ]
            rows.append((len(which), Row(cells)))
    return [row for _, row in sorted(rows, key=lambda pair: -pair[0])]
