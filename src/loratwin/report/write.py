"""A report of whatever can have one, as a file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from loratwin.errors import InputError
from loratwin.learn import Advice, advice_text
from loratwin.metrics import Slo, parse_slo
from loratwin.perf import Profile
from loratwin.plan import Plan, plan_text
from loratwin.plan.compare import PlanComparison
from loratwin.plan.line import LineChange
from loratwin.plan.what_if import WhatIf
from loratwin.records import Run, check_writable, would_replace, write_atomically
from loratwin.simulate import Sweep


def write_report(
    what: Run | Mapping[str, Run] | Plan | PlanComparison,
    path: str | Path,
    *,
    slo: Slo | str | None = None,
    what_if: Sequence[WhatIf] = (),
    line: LineChange | None = None,
) -> Path:
    """Write one self-contained HTML file about a run, several side by side, a plan, or plans compared.

    Parameters
    ----------
    what
        Runs by the name that each is shown under; figures are against the first that is measured, else the first.
    path
        The file, .html; one that is there is replaced.
    slo
        Limits to check in runs, as `ttft_p99=2s,tpot_p99=100ms`; a plan has its own.
    what_if
        Cases of a plan (`loratwin.plan.what_if`).
    line
        What to change in a server's line for a plan (`loratwin.plan.line.line_change`).

    Returns
    -------
    Path
        The file. The same input gives the same bytes.

    Raises
    ------
    InputError
        Another suffix, a folder that cannot be written, no run, or an SLO that cannot be read.
    """
    check_html(path)
    if isinstance(what, Run | Mapping):
        from loratwin.report.run_page import run_report

        runs: Mapping[str, Run] = {str(what.kind): what} if isinstance(what, Run) else what
        return write_atomically(path, run_report(runs, parse_slo(slo) if isinstance(slo, str) else slo))
    if isinstance(what, PlanComparison):
        from loratwin.report.compare import comparison_page

        return write_atomically(path, comparison_page(what))
    from loratwin.report.plan_page import plan_report

    return write_atomically(path, plan_report(what, what_if, line))


def write_tables(
    what: Run | Mapping[str, Run] | Sweep | Plan | PlanComparison,
    folder: str | Path,
    *,
    slo: Slo | str | None = None,
    what_if: Sequence[WhatIf] = (),
) -> list[Path]:
    """Write every table of a report as a CSV file, with all digits and units in the names of its columns.

    Parameters
    ----------
    what, slo, what_if
        As for `write_report`; or a sweep, which has its own limits.
    folder
        Made where it is not there; files in it of the same names are replaced.

    Returns
    -------
    list of Path
        The files.

    Raises
    ------
    InputError
        The folder cannot be made or written, or an SLO cannot be read.
    """
    from loratwin.report.tables import write_csv

    if isinstance(what, Run | Mapping):
        from loratwin.report.run_tables import run_tables

        runs: Mapping[str, Run] = {str(what.kind): what} if isinstance(what, Run) else what
        return write_csv(run_tables(runs, parse_slo(slo) if isinstance(slo, str) else slo), folder)
    if isinstance(what, Sweep):
        from loratwin.report.sweep_csv import sweep_tables

        return write_csv(sweep_tables(what), folder)
    if isinstance(what, PlanComparison):
        from loratwin.report.compare import comparison_table

        return write_csv([comparison_table(what)], folder)
    from loratwin.report.plan_tables import plan_tables

    return write_csv(plan_tables(what, what_if), folder)


def as_text(what: Run | Mapping[str, Run] | Sweep | Plan | PlanComparison | Advice | Profile) -> str:
    """What the commands print of a run, several side by side, a sweep, a plan, plans compared, an advice or a profile.

    Parameters
    ----------
    what
        Runs by the name that each is shown under.

    Returns
    -------
    str
        Lines without colours.

    Raises
    ------
    TypeError
        It is none of these.
    """
    from loratwin.report.compare import comparison_text
    from loratwin.report.profile_tables import profile_text
    from loratwin.report.runs_table import runs_text
    from loratwin.report.sweep_table import sweep_text

    texts: dict[type, Callable[[Any], str]] = {
        Run: lambda run: runs_text({str(run.kind): run}),
        Mapping: runs_text,
        Sweep: sweep_text,
        Plan: plan_text,
        PlanComparison: comparison_text,
        Advice: advice_text,
        Profile: profile_text,
    }
    text = next((text for kind, text in texts.items() if isinstance(what, kind)), None)
    if text is None:
        raise TypeError(f"{type(what).__name__} has no text; what has: {', '.join(kind.__name__ for kind in texts)}")
    return text(what)


def check_html(path: str | Path) -> None:
    """Refuse before long work a report that could not be written after it, or would replace a record.

    Raises
    ------
    InputError
        Another suffix, or it cannot be written.
    """
    if Path(path).suffix not in (".html", ".htm"):
        raise InputError(f"{path}: the report is an HTML file, as report.html")
    check_writable(path)


def check_outputs(html: str | Path | None, csv: str | Path | None = None, inputs: Iterable[str | Path] = ()) -> None:
    """Refuse before long work a report, or a folder of its tables, that could not be written after it.

    Parameters
    ----------
    html
        The report; None: not wanted.
    csv
        Folder for the tables; None: not wanted.
    inputs
        Files that the report is made of, and must not replace.

    Raises
    ------
    InputError
        As `check_html` and `check_csv_folder`; or the report would replace an input.
    """
    from loratwin.report.tables import check_csv_folder

    if html is not None:
        check_html(html)
        if would_replace(html, inputs):
            raise InputError(f"{html} is a file that the report is made of: give another name")
    if csv is not None:
        check_csv_folder(csv)
