"""How far predictions of others' measurements are off: by figure, and by GPU, engine generation and kind of LLM."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median

from loratwin.engines.versions import generation_of
from loratwin.errors import LoratwinError
from loratwin.llms import find_llm
from loratwin.validate.cells import number
from loratwin.validate.public import PublicTable, Row

BY = ("all", "GPU", "engine", "LLM")
"""What errors are grouped by."""


@dataclass(frozen=True)
class PublicScore:
    """Errors of one figure over some rows, relative to what was measured.

    Parameters
    ----------
    table, figure
        File and column.
    by, group
        What rows are grouped by, and the group.
    rows
        Measured rows of the group.
    predicted
        Of these, how many were predicted; the others are refused, with a reason.
    mean, median, worst
        Of the absolute errors.
    bias
        Mean error.
    intervals, inside
        Rows with a stated interval of 90 %, and how many of them lie inside.
    half_width
        Mean half-width of the intervals, relative to the prediction; NaN: none is stated.
    """

    table: str
    figure: str
    by: str
    group: str
    rows: int
    predicted: int
    mean: float
    median: float
    worst: float
    bias: float
    intervals: int
    inside: int
    half_width: float


@dataclass(frozen=True)
class StartScore:
    """Servers that start, or die of memory, and what was said of them."""

    alive: int
    alive_refused: int
    died: int
    died_said_to_start: int
    no_verdict: int


def public_scores(tables: Iterable[PublicTable], by: str = "all") -> list[PublicScore]:
    """Errors of every measured figure, by group.

    Parameters
    ----------
    by
        One of `BY`.
    """
    return [
        _score(table, figure, by, group, rows)
        for table in tables
        for figure in table.figures
        if figure != "starts"
        for group, rows in sorted(_groups(table, figure, _GROUPING[by]).items())
    ]


def start_score(table: PublicTable) -> StartScore:
    """The verdicts on starting, of `kv_capacity.csv`."""
    said = [figures.get("starts") for figures in table.predictions]
    measured = [number(row, "starts") for row in table.rows]
    pairs = list(zip(measured, said, strict=True))
    return StartScore(
        alive=sum(there == 1 for there, _ in pairs),
        alive_refused=sum(there == 1 and claim == 0 for there, claim in pairs),
        died=sum(there == 0 for there, _ in pairs),
        died_said_to_start=sum(there == 0 and claim == 1 for there, claim in pairs),
        no_verdict=sum(there is not None and claim is None for there, claim in pairs),
    )


def _groups(table: PublicTable, figure: str, group_of: Callable[[Row], str]) -> dict[str, list[int]]:
    """Rows in which the figure was measured."""
    groups: dict[str, list[int]] = {}
    for i, row in enumerate(table.rows):
        if number(row, figure):
            groups.setdefault(group_of(row), []).append(i)
    return groups


def _score(table: PublicTable, figure: str, by: str, group: str, rows: Sequence[int]) -> PublicScore:
    known = [i for i in rows if figure in table.predictions[i]]
    measured = {i: number(table.rows[i], figure) or math.nan for i in known}
    errors = [table.predictions[i][figure] / measured[i] - 1 for i in known]
    sizes = [abs(error) for error in errors]
    ends = [(i, table.predictions[i]) for i in known if f"{figure}_low" in table.predictions[i]]
    inside = sum(p[f"{figure}_low"] <= measured[i] <= p[f"{figure}_high"] for i, p in ends)
    widths = [(p[f"{figure}_high"] - p[f"{figure}_low"]) / (2 * p[figure]) for _, p in ends]
    nan = math.nan
    return PublicScore(
        table.name, figure, by, group, len(rows), len(known),
        mean=fmean(sizes) if sizes else nan,
        median=median(sizes) if sizes else nan,
        worst=max(sizes) if sizes else nan,
        bias=fmean(errors) if errors else nan,
        intervals=len(ends),
        inside=inside,
        half_width=fmean(widths) if widths else nan,
    )  # fmt: skip


def _engine_group(row: Row) -> str:
    """The generation of the engine's version."""
    version = row.get("engine_version") or row.get("engine") or ""
    try:
        return generation_of(version.split()[0]).generation.name
    except (LoratwinError, IndexError):
        return version or "not told"


def _llm_kind(row: Row) -> str:
    """Whether its sizes tell everything, and how its numbers are kept."""
    try:
        llm = find_llm(row.get("llm", ""))
    except LoratwinError:
        return "not known"
    quantized = row.get("quantization") or llm.quantization
    kind = "dense" if llm.is_dense or llm.active_parameters == llm.num_parameters else "experts or states"
    return f"{kind}, {'quantized' if quantized else '16 bits'}"


_GROUPING: dict[str, Callable[[Row], str]] = {
    "all": lambda row: "all",
    "GPU": lambda row: row.get("gpu") or "not told",
    "engine": _engine_group,
    "LLM": _llm_kind,
}
