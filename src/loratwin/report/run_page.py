"""The report of runs, measured or simulated, alone or side by side: one HTML file that needs nothing else."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any

from loratwin.errors import InputError
from loratwin.formatting import UNKNOWN, change, number, seconds
from loratwin.metrics import (
    ComparedRow,
    Comparison,
    Slo,
    compare,
    config_differences,
    starvation,
    workload_differences,
)
from loratwin.records import Run
from loratwin.report.looks import Look, looks
from loratwin.report.page import NBSP, HeadlineFigure, environment, figure
from loratwin.report.run_distributions import distributions, lag, scatter
from loratwin.report.run_samples import gpu_series, server_series
from loratwin.report.run_tables import adapters_table, failures_table, figures_table, too_few
from loratwin.report.run_timeline import steps, timeline
from loratwin.version import __version__


@dataclass(frozen=True)
class ComparedCell:
    """A figure of one run in the table, and how it differs from the reference; `verdict` of an SLO: met, missed."""

    value: str
    difference: str
    verdict: str = ""


def run_report(runs: Mapping[str, Run], slo: Slo | None = None) -> str:
    """The page as text. The same runs give the same bytes.

    Parameters
    ----------
    runs
        By the name that each is shown under. Figures are against the first that is measured, else the first.
    slo
        Limits to check; None: none.

    Raises
    ------
    InputError
        There is no run.
    """
    if not runs:
        raise InputError("a report needs at least one run")
    return environment().get_template("run.html.j2").render(**_content(runs, slo))


def _content(runs: Mapping[str, Run], slo: Slo | None) -> dict[str, Any]:
    shown, comparison = looks(runs), compare(runs, slo)
    reference = shown[comparison.reference]
    others = [look for look in shown if look is not reference]
    return {
        "looks": shown,
        "measured": [look for look in shown if look.run.kind == "measured"],
        "logged": [look for look in shown if look.run.steps is not None],
        "reference": reference,
        "title": _title(shown),
        "invalid": [(look, look.run.invalid) for look in shown if look.run.invalid],
        "notes": _notes(shown),
        "cards": _cards(comparison, reference, others),
        "timeline": timeline(shown),
        "distributions": distributions(shown),
        "lag": lag(shown),
        "sections": _sections(comparison),
        "verdicts": [starvation(look.run) for look in shown],
        "scatter": scatter(reference, others[0]) if others and len(reference.run.adapters) > 1 else [],
        "csv": figures_table(comparison),
        "adapters": [(look, adapters_table(look, slo)) for look in (reference, *others)],
        "too_few": [text for look in shown if (text := too_few(look))],
        "failures": failures_table(shown),
        "server": server_series(shown),
        "gpu": gpu_series(shown),
        "steps": steps(shown),
        "facts": _facts(shown),
        "version": __version__,
    }


def _title(shown: Sequence[Look]) -> str:
    if len(shown) > 1:
        return " beside ".join(f"{look.name} ({look.run.kind})" for look in shown)
    run = shown[0].run
    rate = number(len(run.requests) / run.window_s)
    return f"{run.kind.capitalize()}: {len(run.adapters):,} adapters, {rate} requests/s, {run.window_s:g} s"


def _notes(shown: Sequence[Look]) -> list[str]:
    runs = {look.name: look.run for look in shown}
    differing = (("The workloads differ", workload_differences(runs)), ("The servers differ", config_differences(runs)))
    notes = [f"{what}: {'; '.join(differences)}." for what, differences in differing if differences]
    return notes + [f"{look.name}: {note}" for look in shown for note in look.run.provenance.notes]


# --- figures


_CARDS = (
    ("Finished", "finished", "requests"),
    ("Throughput", "total_throughput", "tokens/s of finished requests"),
    ("First token", "ttft_mean_ms", "mean; p99 {ttft_p99_ms}"),
    ("Per token", "tpot_mean_ms", "mean; p99 {tpot_p99_ms}"),
    ("Gaps", "itl_p99_ms", "p99; mean {itl_mean_ms}"),
    ("In flight", "in_flight_max", "at most; mean {in_flight_mean}"),
)


def _cards(comparison: Comparison, reference: Look, others: Sequence[Look]) -> list[HeadlineFigure]:
    rows = {row.figure.key: row for row in comparison.rows}
    texts = {name: shown_figure(row, comparison.reference) for name, row in rows.items()}
    cards = []
    for label, key, detail in _CARDS:
        if key in rows:
            words = detail.format_map(defaultdict(lambda: UNKNOWN, texts))  # where no run knows the figure
            beside = [_beside(rows[key], comparison, look, named=len(others) > 1) for look in others[:2]]
            value = shown_figure(rows[key], comparison.reference)
            cards.append(HeadlineFigure(label, value, "; ".join([words, *beside]), reference.run.kind))
    return cards


def _beside(row: ComparedRow, comparison: Comparison, look: Look, named: bool) -> str:
    index = comparison.names.index(look.name)
    who = f"{look.name} ({look.run.kind})" if named else str(look.run.kind)
    return f"{who}: {shown_figure(row, index)} {_difference(row, index, comparison.reference)}".rstrip()


def shown_figure(row: ComparedRow, index: int) -> str:
    """A figure with its unit where the unit is not in the title; a dash where it is unknown."""
    unit = row.figure.unit
    return figure(row.values[index], unit if unit in ("ms", "share") else "")


def _difference(row: ComparedRow, index: int, reference: int) -> str:
    relative = row.difference(index, reference)
    return "" if isnan(relative) else f"({change(relative).replace(' ', NBSP)})"


def _sections(comparison: Comparison) -> list[tuple[str, list[tuple[str, list[ComparedCell]]]]]:
    """The rows of the table under the names of their sections."""
    sections: dict[str, list[tuple[str, list[ComparedCell]]]] = {}
    for row in comparison.rows:
        unit = {"/s": ", per second", "tokens/s": ", per second"}.get(row.figure.unit, "")
        cells = [_cell(row, i, comparison) for i in range(len(comparison.names))]
        sections.setdefault(row.figure.section, []).append((row.figure.title + unit, cells))
    return list(sections.items())


def _cell(row: ComparedRow, index: int, comparison: Comparison) -> ComparedCell:
    difference = "" if index == comparison.reference else _difference(row, index, comparison.reference).strip("()")
    verdict = "" if isnan(row.limit) else "met" if row.values[index] <= row.limit else "missed"
    return ComparedCell(shown_figure(row, index), difference, verdict)


# --- evidence


def _facts(shown: Sequence[Look]) -> list[tuple[str, list[str]]]:
    """Where each run comes from: a row for each fact that one of them knows."""
    columns = [_facts_of(look.run) for look in shown]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = [(name, [column.get(name, "") for column in columns]) for name in names]
    return [(name, cells) for name, cells in rows if any(cells)]


def _facts_of(run: Run) -> dict[str, str]:
    source, config = run.provenance, run.config.model_dump()
    return {
        "kind": run.kind,
        "made by": f"{source.created_by} {source.loratwin_version}".strip(),
        "engine": source.engine_version,
        "LLM": source.llm,
        "GPU": source.gpu,
        "profile": " ".join(part for part in (source.profile, source.profile_hash) if part),
        "server arguments": " ".join(source.server_args),
        **{name: "" if value is None else str(value) for name, value in config.items()},
        "KV tokens": "" if run.kv_tokens is None else number(run.kv_tokens),
        "window": f"{run.window_s:g} s",
        "workload": source.workload_hash or "",
        "seed": "" if source.seed is None else str(source.seed),
        "client's constant on top of the engine": seconds(run.client_overhead_s) if run.client_overhead_s else "",
    }
