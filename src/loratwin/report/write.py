"""A report of whatever can have one, as a file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from loratwin.errors import InputError
from loratwin.metrics import Slo, parse_slo
from loratwin.records import Run, check_writable, write_atomically

if TYPE_CHECKING:
    from loratwin.plan import Plan
    from loratwin.plan.what_if import Case


def write_report(
    what: Run | Mapping[str, Run] | Plan,
    path: str | Path,
    *,
    slo: Slo | str | None = None,
    what_if: Sequence[Case] = (),
) -> Path:
    """Write one self-contained HTML file about a run, several side by side, or a plan.

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
    from loratwin.report.plan_page import plan_report

    return write_atomically(path, plan_report(what, what_if))


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
