"""Profiles from measurements: of your own server, of records of runs, of tables that others published.

from loratwin.calibrate import ServerSource, calibrate_server

done = calibrate_server("mine", ServerSource("adapters", "--model tiny --max-num-seqs 16"))
done.profile, done.check.checked
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.calibrate.design import Design, dump_design, load_design
    from loratwin.calibrate.loop.calibration import Calibration, calibrate_server, fit_folder
    from loratwin.calibrate.loop.checking import ServerCheck, check_server, learn_from_check
    from loratwin.calibrate.loop.designed import design_for, measure_design
    from loratwin.calibrate.loop.source import ServerSource
    from loratwin.calibrate.vllm_bench import read_vllm_bench

_HOMES = {
    "design": ("Design", "dump_design", "load_design"),
    "loop.calibration": ("Calibration", "calibrate_server", "fit_folder"),
    "loop.checking": ("ServerCheck", "check_server", "learn_from_check"),
    "loop.designed": ("design_for", "measure_design"),
    "loop.source": ("ServerSource",),
    "vllm_bench": ("read_vllm_bench",),
}
"""Imported when asked for: to fit a table, nobody needs the load client."""

__all__ = [
    "Calibration",
    "Design",
    "ServerCheck",
    "ServerSource",
    "calibrate_server",
    "check_server",
    "design_for",
    "dump_design",
    "fit_folder",
    "learn_from_check",
    "load_design",
    "measure_design",
    "read_vllm_bench",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
