"""Reports: one self-contained HTML file each; tables for a terminal; plain data.

from loratwin.report import runs_text, write_report

write_report({"measured": run}, "report.html")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.report.llm_tables import llm_text
    from loratwin.report.memory_table import memory_text
    from loratwin.report.plan_page import plan_report
    from loratwin.report.profile_tables import differences_text, profile_text, profiles_text
    from loratwin.report.run_json import runs_as_json
    from loratwin.report.run_page import run_report
    from loratwin.report.runs_table import print_runs, runs_text
    from loratwin.report.sweep_table import print_sweep, sweep_text
    from loratwin.report.tables import check_csv_folder
    from loratwin.report.twin import twin_of, twins_of, with_arguments
    from loratwin.report.write import as_text, check_html, check_outputs, write_report, write_tables

_HOMES = {
    "llm_tables": ("llm_text",),
    "memory_table": ("memory_text",),
    "plan_page": ("plan_report",),
    "profile_tables": ("differences_text", "profile_text", "profiles_text"),
    "run_json": ("runs_as_json",),
    "run_page": ("run_report",),
    "runs_table": ("print_runs", "runs_text"),
    "sweep_table": ("print_sweep", "sweep_text"),
    "tables": ("check_csv_folder",),
    "twin": ("twin_of", "twins_of", "with_arguments"),
    "write": ("as_text", "check_html", "check_outputs", "write_report", "write_tables"),
}
"""Imported when asked for: a table needs no plots."""

__all__ = [
    "as_text",
    "check_csv_folder",
    "check_html",
    "check_outputs",
    "differences_text",
    "llm_text",
    "memory_text",
    "plan_report",
    "print_runs",
    "print_sweep",
    "profile_text",
    "profiles_text",
    "run_report",
    "runs_as_json",
    "runs_text",
    "sweep_text",
    "twin_of",
    "twins_of",
    "with_arguments",
    "write_report",
    "write_tables",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
