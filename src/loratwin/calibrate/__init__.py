"""Profiles from measurements: of your own server, of records of runs, of tables that others published.

from loratwin.calibrate import ServerSource, calibrate_server

done = calibrate_server("mine", ServerSource("adapters", "--model tiny --max-num-seqs 16"))
done.profile, done.check.checked

from loratwin.calibrate import fit_records, gather, read_records

evidence = gather(read_records("mine/records"))
evidence.refused  # why what is no evidence
fit_records(evidence, "llama-3.1-8b-instruct").profile
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.calibrate.checks.check import Checked, predict_check, score_checks
    from loratwin.calibrate.checks.learned import with_measured_errors
    from loratwin.calibrate.checks.loads import Check, make_checks
    from loratwin.calibrate.design import Design, dump_design, load_design, make_design
    from loratwin.calibrate.evidence import Evidence, gather, read_records
    from loratwin.calibrate.loop.calibration import (
        Calibration,
        calibrate_server,
        fit_folder,
        holds_records,
        learned_file,
        save_learned,
    )
    from loratwin.calibrate.loop.checking import ServerCheck, check_server, learn_from_check
    from loratwin.calibrate.loop.designed import design_for, measure_design
    from loratwin.calibrate.loop.source import ServerSource, server_source
    from loratwin.calibrate.published.fit import TablesFit, fit_tables
    from loratwin.calibrate.records_fit import RecordsFit, fit_records
    from loratwin.calibrate.results.read import import_results, read_result, read_results

_HOMES = {
    "checks.check": ("Checked", "predict_check", "score_checks"),
    "checks.learned": ("with_measured_errors",),
    "checks.loads": ("Check", "make_checks"),
    "design": ("Design", "dump_design", "load_design", "make_design"),
    "evidence": ("Evidence", "gather", "read_records"),
    "loop.calibration": (
        "Calibration",
        "calibrate_server",
        "fit_folder",
        "holds_records",
        "learned_file",
        "save_learned",
    ),
    "loop.checking": ("ServerCheck", "check_server", "learn_from_check"),
    "loop.designed": ("design_for", "measure_design"),
    "loop.source": ("ServerSource", "server_source"),
    "published.fit": ("TablesFit", "fit_tables"),
    "records_fit": ("RecordsFit", "fit_records"),
    "results.read": ("import_results", "read_result", "read_results"),
}
"""Imported when asked for: to fit a table, nobody needs the load client."""

__all__ = [
    "Calibration",
    "Check",
    "Checked",
    "Design",
    "Evidence",
    "RecordsFit",
    "ServerCheck",
    "ServerSource",
    "TablesFit",
    "calibrate_server",
    "check_server",
    "design_for",
    "dump_design",
    "fit_folder",
    "fit_records",
    "fit_tables",
    "gather",
    "holds_records",
    "import_results",
    "learn_from_check",
    "learned_file",
    "load_design",
    "make_checks",
    "make_design",
    "measure_design",
    "predict_check",
    "read_records",
    "read_result",
    "read_results",
    "save_learned",
    "score_checks",
    "server_source",
    "with_measured_errors",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
