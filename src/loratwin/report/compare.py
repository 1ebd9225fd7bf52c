"""Plans, profiles or runs side by side: one call for `loratwin compare`, and what is shown of compared plans."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from pathlib import Path
from typing import Any

from loratwin.errors import InputError, LoratwinError
from loratwin.formatting import SLOTS, aligned, change
from loratwin.metrics import Slo
from loratwin.perf import Profile, load_profile
from loratwin.plan import Plan
from loratwin.plan import plan as find_plan
from loratwin.plan.compare import ComparedPlan, PlanComparison, compare_plans, comparison_json, load_plan_json
from loratwin.plan.sentences import margin_text
from loratwin.records import Run, load_runs
from loratwin.report.run_json import runs_as_json
from loratwin.report.tables import Cell, Column, Row, Table, numeric, word
from loratwin.version import __version__
from loratwin.workload import WorkloadSpec

Progress = Callable[[int, int, str], None]


def compare(
    what: Sequence[str | Path],
    *,
    workload: WorkloadSpec | None = None,
    prices: Mapping[str, float] | float | None = None,
    workload_name: str = "workload",
    **options: Any,
) -> PlanComparison | dict[str, Run]:
    """Set plans and profiles, or runs, side by side.

    Parameters
    ----------
    what
        Files of runs (`.json`, `.parquet`); or files of plans (`loratwin plan --json`) and names or files of profiles,
        each of which is planned for the workload.
    workload, workload_name
        What profiles are planned for, and how it is called.
    prices
        As for `compare_plans`.
    options
        Those of `loratwin.find_plan`, for the profiles.

    Returns
    -------
    PlanComparison or dict
        Of runs: each by its name, as `as_text` and `write_report` take them.

    Raises
    ------
    InputError
        One line: a file that is nothing of these, runs among plans, profiles without a workload, less than two.
    """
    if len(what) < 2:
        raise InputError("compare: at least two are needed: plans, profiles or runs")
    for subject in what:
        if list(map(str, what)).count(str(subject)) > 1:
            raise InputError(f"{subject} is given twice")
    kinds = {subject: _kind(subject) for subject in what}
    if set(kinds.values()) == {"run"}:
        if prices is not None:
            raise InputError("--price: goes with plans and profiles; what is compared are runs")
        return load_runs(what)
    _check_alike(kinds)
    profiles = {subject: load_profile(str(subject)) for subject, kind in kinds.items() if kind == "profile"}
    saved = {subject: load_plan_json(subject) for subject, kind in kinds.items() if kind == "plan"}
    if profiles and workload is None:
        raise InputError(f"{next(iter(profiles))}: a profile is planned for a workload: add --workload FILE")
    names = _names(list(map(str, what)))
    plans = {
        names[str(subject)]: saved[subject]
        if subject in saved
        else _planned(profiles[subject], workload, workload_name, options)
        for subject in what
    }  # fmt: skip
    return compare_plans(plans, prices)


def _planned(profile: Profile, workload: WorkloadSpec | None, name: str, options: Mapping[str, Any]) -> Plan:
    assert workload is not None
    try:
        return find_plan(workload, profile, name=name, **options)
    except LoratwinError as error:
        raise InputError(f"{profile.name}: {error}") from None


def _kind(what: str | Path) -> str:
    """run, plan or profile, by the beginning of the file; what is no file is a profile's name."""
    path = Path(what)
    if path.suffix.lower() == ".parquet":
        return "run"
    if path.suffix.lower() != ".json":
        return "profile"
    try:
        with path.open("rb") as file:
            return "run" if b'"loratwin_run"' in file.read(200) else "plan"
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


def _check_alike(kinds: Mapping[str | Path, str]) -> None:
    runs = [str(each) for each, kind in kinds.items() if kind == "run"]
    others = [str(each) for each, kind in kinds.items() if kind != "run"]
    if runs:
        raise InputError(f"{runs[0]} is a run and {others[0]} is not: compare runs with runs, or plans and profiles")


def _names(texts: Sequence[str]) -> dict[str, str]:
    """Each file by its name without suffix where that tells it from the others, a profile by its own."""
    stems = [Path(text).stem if Path(text).suffix in (".json", ".yaml", ".yml") else text for text in texts]
    return {text: stem if stems.count(stem) == 1 else text for text, stem in zip(texts, stems, strict=True)}


# --- what is shown


def comparison_table(comparison: PlanComparison) -> Table:
    """A row for each figure, a column for each plan; what differs from the first says by how much."""
    columns = [Column("figure", "", is_word=True), *(Column(each.name, each.name) for each in comparison.plans)]
    rows = [
        Row([word(title), *(cell(each, comparison.plans[0]) for each in comparison.plans)])
        for title, cell in _figures(comparison)
    ]
    return Table("comparison", "Plans side by side", columns, rows, in_order=True)


_Shown = Callable[[ComparedPlan, ComparedPlan], Cell]


def _figures(comparison: PlanComparison) -> list[tuple[str, _Shown]]:
    costs: list[tuple[str, _Shown]] = [
        ("price of a GPU-hour", lambda each, _: numeric(each.price)),
        ("cost of all GPUs, per hour", _figure(lambda each: each.cost_per_hour)),
        ("cost per million tokens", _figure(lambda each: each.cost_per_million_tokens)),
    ]
    return [
        ("profile", lambda each, _: word(each.profile)),
        ("adapters on one server", _served),
        ("GPUs of one server", lambda each, _: numeric(each.gpus_per_server)),
        ("GPUs for all adapters", _figure(lambda each: each.gpus)),
        *(costs if comparison.has_prices else []),
        ("slots", lambda each, _: _whole(each.slots)),
        ("max_num_seqs", lambda each, _: _whole(each.sequences)),
        ("throughput of one server, tokens/s", _figure(lambda each: each.throughput)),
        ("TTFT, mean", _figure(lambda each: each.ttft_mean_ms, "ms")),
        ("TTFT, p99", _figure(lambda each: each.ttft_p99_ms, "ms")),
        ("TPOT, mean", _figure(lambda each: each.tpot_mean_ms, "ms")),
        ("end to end, mean", _figure(lambda each: each.e2e_mean_ms, "ms")),
        ("margin", lambda each, _: Cell(margin_text(each.margin) or "-", each.margin - 1)),
    ]


def _figure(value: Callable[[ComparedPlan], float], unit: str = "") -> _Shown:
    def cell(plan: ComparedPlan, first: ComparedPlan) -> Cell:
        figure, base = value(plan), value(first)
        shown = numeric(figure, unit)
        if plan is first or isnan(figure) or isnan(base) or not base:
            return shown
        return Cell(f"{shown.text} ({change((figure - base) / base)})", figure)

    return cell


def _served(plan: ComparedPlan, _: ComparedPlan) -> Cell:
    if not plan.served:
        return Cell("nothing works", 0, "bad")
    return Cell(f"{plan.served} of {plan.num_adapters}", plan.served)


def _whole(value: int | None) -> Cell:
    return Cell("-" if value is None else str(value), value)


def comparison_text(comparison: PlanComparison) -> str:
    """What `loratwin compare` prints of plans."""
    table = comparison_table(comparison)
    cells = ([cell.text.replace("\N{NO-BREAK SPACE}", " ") for cell in row.cells] for row in table.rows)
    text = aligned([[column.title for column in table.columns], *cells], left=1)
    return "\n".join([text, *(f"Note: {note}." for note in (*comparison.notes, *_remarks(comparison)))])


def _remarks(comparison: PlanComparison) -> list[str]:
    """How to read it."""
    remarks = ["latencies and margins are simulated, of one server with its adapters", SLOTS]
    if any(each.served < each.num_adapters for each in comparison.plans):
        remarks.append("GPUs for all adapters are assumed to serve the same mix each")
    return remarks


def comparison_page(comparison: PlanComparison) -> str:
    """One HTML file that needs nothing else."""
    from loratwin.report.page import environment

    template = environment().get_template("compare.html.j2")
    return template.render(
        title=" beside ".join(each.name for each in comparison.plans),
        table=comparison_table(comparison),
        notes=[*comparison.notes, *_remarks(comparison)],
        version=__version__,
    )


def compared_json(found: PlanComparison | Mapping[str, Run], slo: Slo | None = None) -> dict[str, Any]:
    """What was compared as plain data."""
    return comparison_json(found) if isinstance(found, PlanComparison) else runs_as_json(found, slo)
