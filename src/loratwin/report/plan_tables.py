"""The tables of a plan: every configuration that was searched, every adapter, what if, and the evidence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from loratwin.formatting import number
from loratwin.metrics import Interval, Limit, SloRows, few_for, per_adapter
from loratwin.plan import Candidate, Plan
from loratwin.plan.margin import CustomerCase
from loratwin.plan.sentences import asked_of, case_text, margin_text, status
from loratwin.plan.what_if import WhatIf, instead_text
from loratwin.records import Run
from loratwin.report.tables import Cell, Column, Row, Table, numeric, texts, word


@dataclass(frozen=True)
class FigureColumn:
    """A figure of a configuration, as a column."""

    column: Column
    name: str  # of `metrics.Summary`
    unit: str = ""
    limit: str = ""  # name of the SLO's limit on it


_FIGURES = (
    FigureColumn(Column("throughput_tokens_per_s", "through\N{SOFT HYPHEN}put", "tokens/s"), "total_throughput"),
    FigureColumn(Column("served_share", "served"), "served_share", "share"),
    FigureColumn(Column("ttft_mean_ms", "TTFT", "mean"), "ttft_mean_ms", "ms", "ttft_mean"),
    FigureColumn(Column("ttft_p99_ms", "TTFT", "p99"), "ttft_p99_ms", "ms", "ttft_p99"),
    FigureColumn(Column("tpot_mean_ms", "TPOT", "mean"), "tpot_mean_ms", "ms", "tpot_mean"),
    FigureColumn(Column("itl_p99_ms", "ITL", "p99"), "itl_p99_ms", "ms", "itl_p99"),
)
_FURTHER = (
    FigureColumn(Column("running_mean", "running"), "running_mean"),
    FigureColumn(Column("waiting_mean", "waiting"), "waiting_mean"),
    FigureColumn(Column("swap_ins", "swap-ins"), "swap_ins"),
)
_E2E = Column("e2e_mean_ms", "end to end", "mean")


def alternatives_table(plan: Plan, candidates: Sequence[Candidate], name: str = "alternatives") -> Table:
    """Every one of the configurations, by slots and `max_num_seqs`; red where a limit of the SLO is missed."""
    more, real = _limits_beside(plan), _corrected(plan, candidates)
    columns = [
        Column("max_loras", "slots"),
        Column("max_num_seqs", "max_\N{ZERO WIDTH SPACE}num_\N{ZERO WIDTH SPACE}seqs"),
        Column("verdict", "verdict", is_word=True),
        *(figure.column for figure in _FIGURES),
        _E2E,
        *(Column(f"{limit.name}_ms", str(limit)) for limit in more),
        *(Column(f"real_{limit.name}_ms", limit.name, "real run") for limit in real),
        *(figure.column for figure in _FURTHER),
        Column("starving_adapters", "adapters", "starving"),
        Column("kv_tokens", "KV tokens"),
        Column("margin_share", "margin"),
    ]
    rows = [_alternative(plan, each, more, real) for each in sorted(candidates, key=_by_slots)]
    return Table(name, "Every configuration that was simulated", columns, rows, find="configuration")


def _by_slots(candidate: Candidate) -> tuple[int, int]:
    return candidate.slots, candidate.config.max_num_seqs


def _limits_beside(plan: Plan) -> list[Limit]:
    """Limits of the SLO on figures that have no column of their own."""
    shown = {figure.limit for figure in _FIGURES} | {"e2e_mean"}
    return [limit for limit in plan.slo.limits if limit.name not in shown] if plan.slo is not None else []


def _corrected(plan: Plan, candidates: Sequence[Candidate]) -> list[Limit]:
    """Limits that are held to what a real run will reach, which is not what the twin's own figure is."""
    known = {name for each in candidates for name in each.real_slo_s}
    return [limit for limit in plan.slo.limits if limit.name in known] if plan.slo is not None else []


def _alternative(plan: Plan, candidate: Candidate, more: Sequence[Limit], real: Sequence[Limit]) -> Row:
    missed = {limit.name for limit in candidate.missed(plan.slo)} if candidate.starts else set()
    red = missed - set(candidate.real_slo_s)  # of the others the real run's figure is red

    def cell(figure: FigureColumn) -> Cell:
        return numeric(candidate.mean(figure.name), figure.unit, "bad" if figure.limit in red else "")

    verdict, look = _verdict(plan, candidate)
    cells = [
        Cell(str(candidate.slots), candidate.slots),
        Cell(str(candidate.config.max_num_seqs), candidate.config.max_num_seqs),
        verdict,
        *map(cell, _FIGURES),
        numeric(candidate.latency_ms, "ms", "bad" if "e2e_mean" in missed else ""),
        *(_seconds(candidate.slo_s, limit, limit.name in red) for limit in more),
        *(_seconds(candidate.real_slo_s, limit, limit.name in missed) for limit in real),
        *map(cell, _FURTHER),
        numeric(candidate.starving_adapters),
        numeric(candidate.kv_tokens),
        Cell(margin_text(candidate.margin), candidate.margin - 1),
    ]
    return Row(cells, look)


def _seconds(known: Mapping[str, Interval], limit: Limit, is_missed: bool) -> Cell:
    value_s = known[limit.name].mean if limit.name in known else float("nan")
    return numeric(1e3 * value_s, "ms", "bad" if is_missed else "")


def _verdict(plan: Plan, candidate: Candidate) -> tuple[Cell, str]:
    """In words, and how the row looks."""
    if not candidate.starts:
        return word("does not start"), "fails"
    if (
        plan.best is not None
        and candidate.config == plan.best.config
        and candidate.served_adapters == plan.best.served_adapters
    ):
        return word("chosen"), "best"
    if not candidate.starved and candidate.missed(plan.slo):
        return word(f"misses {', '.join(limit.name for limit in candidate.missed(plan.slo))}", "bad"), "fails"
    if not candidate.starved and candidate.missing:
        return word(f"{len(candidate.missing)} {asked_of(plan)} miss", "bad"), "fails"
    failure = status(candidate, plan.slo)
    return word(failure or "works"), "fails" if failure else ""


def not_starting(candidates: Sequence[Candidate]) -> list[str]:
    """Why servers do not start, each reason once with the slots that it is of."""
    reasons: dict[str, list[int]] = {}
    for candidate in candidates:
        if not candidate.starts:
            reasons.setdefault(candidate.why_not, []).append(candidate.slots)
    return [f"{', '.join(map(str, sorted(set(slots))))} slots: {reason}" for reason, slots in reasons.items()]


# --- adapters


_P99 = 0.01
"""Part of the requests that a 99th percentile leaves above it."""


def adapters_table(run: Run, customers: Sequence[SloRows] = ()) -> Table:
    """Every adapter that was asked for, the worst first: the starved, those that miss the SLO, then by TTFT p99."""
    figures = per_adapter(run)
    missing = {name for rows in customers for name in rows.missing}
    asked = np.flatnonzero(figures.requests > 0)
    p99 = np.nan_to_num(figures.ttft_p99_ms, nan=np.inf)
    order = sorted(asked, key=lambda i: (not figures.starved[i], figures.name[i] not in missing, -p99[i], i))
    longest = max((p99[i] for i in order if np.isfinite(p99[i])), default=1.0)
    few = few_for(figures.finished, _P99)
    rows = []
    for i in order:
        misses, starves = figures.name[i] in missing, bool(figures.starved[i])
        verdict = " and ".join(["starves"] * starves + ["misses the SLO"] * misses)
        look = "bad" if misses else "few" if few[i] else ""
        cells = [
            word(figures.name[i]),
            Cell(*_rank(run, int(figures.adapter[i]))),
            numeric(int(figures.requests[i])),
            numeric(float(figures.served_share[i]), "share"),
            numeric(float(figures.ttft_mean_ms[i]), "ms"),
            numeric(float(figures.ttft_p99_ms[i]), "ms", look, bar=round(100 * min(1.0, p99[i] / longest), 1)),
            word(verdict or ("too few requests for a p99" if few[i] else ""), "bad" if verdict else ""),
        ]
        rows.append(Row(cells, "starved" if verdict else ""))
    columns = [
        Column("adapter", "adapter", is_word=True),
        Column("rank", "rank"),
        Column("requests", "requests"),
        Column("served_share", "tokens served"),
        Column("ttft_mean_ms", "TTFT", "mean"),
        Column("ttft_p99_ms", "TTFT", "p99"),
        Column("verdict", "verdict", is_word=True),
    ]
    return Table("adapters", "Every adapter, the worst first", columns, rows, find="customer")


def _rank(run: Run, adapter: int) -> tuple[str, int | None]:
    if adapter < 0:
        return "", None
    rank = int(run.adapters.rank[adapter])
    return str(rank), rank


def too_few(run: Run) -> str:
    """How many adapters have too few requests for a percentile; empty: none."""
    figures = per_adapter(run)
    count = int((few_for(figures.finished, _P99) & (figures.requests > 0)).sum())
    if not count:
        return ""
    return (
        f"{number(count)} of {number(int((figures.requests > 0).sum()))} adapters have fewer than {round(1 / _P99)} "
        "finished requests, too few for a 99th percentile: theirs (in italics) is about their slowest request."
    )


# --- what if, evidence


def what_if_table(cases: Sequence[WhatIf], plan: Plan) -> Table:
    """The cases, and what to run instead where the chosen configuration fails."""
    columns = [
        Column("case", "case", is_word=True),
        Column("adapters", "adapters"),
        Column("verdict", "verdict", is_word=True),
        *(figure.column for figure in _FIGURES[:5]),
        Column("margin_share", "margin"),
        Column("instead", "instead", is_word=True),
    ]
    return Table("what-if", "What if", columns, [_case(case, plan) for case in cases], find="case")


def _case(case: WhatIf, plan: Plan) -> Row:
    candidate = case.candidate
    missed = {limit.name for limit in candidate.missed(plan.slo)} if candidate.starts else set()
    failure = status(candidate, plan.slo) if candidate.starts else "does not start"
    cells = [
        word(case.name),
        numeric(case.num_adapters),
        word(failure or "works", "bad" if failure else ""),
        *(numeric(candidate.mean(f.name), f.unit, "bad" if f.limit in missed else "") for f in _FIGURES[:5]),
        Cell(margin_text(candidate.margin), candidate.margin - 1),
        word(instead_text(case)),
    ]
    return Row(cells, "starved" if failure else "")


def breaks_table(plan: Plan, cases: Sequence[CustomerCase]) -> Table:
    """What the whole server does as its biggest customer drifts, or sends all at once."""
    columns = [
        Column("case", "biggest customer", is_word=True),
        Column("verdict", "verdict", is_word=True),
        *(figure.column for figure in _FIGURES),
        _E2E,
        Column("waiting_mean", "waiting"),
        Column("starving_adapters", "adapters", "starving"),
    ]
    rows = [_broken(plan, case) for case in cases]
    return Table("what-breaks-first", "What breaks first", columns, rows, in_order=True)


def _broken(plan: Plan, case: CustomerCase) -> Row:
    candidate = case.candidate
    missed = {limit.name for limit in candidate.missed(plan.slo)}
    failure = status(candidate, plan.slo)
    cells = [
        word(case_text(case, plan)),
        word(failure or "holds", "bad" if failure else ""),
        *(numeric(candidate.mean(f.name), f.unit, "bad" if f.limit in missed else "") for f in _FIGURES),
        numeric(candidate.latency_ms, "ms", "bad" if "e2e_mean" in missed else ""),
        numeric(candidate.mean("waiting_mean")),
        numeric(candidate.starving_adapters),
    ]
    return Row(cells, "starved" if failure else "")


METRICS = {
    "total_throughput": "throughput",
    "ttft_mean_ms": "TTFT, mean",
    "ttft_median_ms": "TTFT, median",
    "tpot_mean_ms": "TPOT, mean",
    "itl_mean_ms": "ITL, mean",
    "running_mean": "running requests, mean",
}


def errors_table(errors: Mapping[str, str]) -> Table:
    """The card's held-out errors, named `metric, regime`: a row for each metric."""
    cells = {name.partition(", ")[::2]: text for name, text in errors.items()}
    regimes = list(dict.fromkeys(regime for _, regime in cells))
    metrics = list(dict.fromkeys(metric for metric, _ in cells))
    rows = [
        [METRICS.get(metric, metric), *(cells.get((metric, regime), "") for regime in regimes)] for metric in metrics
    ]
    return texts("held-out-errors", "Held-out error of the profile", ["figure", *regimes], rows)


def plan_tables(plan: Plan, cases: Sequence[WhatIf] = ()) -> list[Table]:
    """All tables of a plan's report, for CSV files."""
    tables = [alternatives_table(plan, plan.alternatives)]
    if plan.shortfall is not None and plan.served:
        tables.append(alternatives_table(plan, plan.shortfall.candidates, "tried-for-all"))
    if plan.biggest is not None and plan.biggest.cases:
        tables.append(breaks_table(plan, plan.biggest.cases))
    if cases:
        tables.append(what_if_table(cases, plan))
    if plan.run is not None:
        tables.append(adapters_table(plan.run, plan.customers_of_all))
    if plan.profile.card.held_out_error:
        tables.append(errors_table(plan.profile.card.held_out_error))
    return tables
