"""loratwin: a digital twin of LLM servers with many LoRA adapters, and the planner built on it.

    import loratwin

    workload = loratwin.load_workload("example:support-desk")
    profile = loratwin.load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    plan = loratwin.find_plan(workload, profile, slo="ttft_p99=2s")
    print(loratwin.as_text(plan))

This is the front door: what each command does is one of these names. Behind it are rooms (`loratwin.metrics`,
`loratwin.plan`, ...; DESIGN.md says what lives where), each with more.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names
from loratwin.version import __version__ as __version__

if TYPE_CHECKING:
    from loratwin.advise import advise_batch, advise_replicas, find_sweep
    from loratwin.bench import GivenServers, LaunchedServers, measure
    from loratwin.calibrate import ServerSource, calibrate_server
    from loratwin.errors import LoratwinError
    from loratwin.fleet import plan_fleet
    from loratwin.learn import predict
    from loratwin.metrics import summarize
    from loratwin.offline import batch_grid, measure_offline
    from loratwin.perf import load_profile, server_memory
    from loratwin.plan.plan import plan as find_plan
    from loratwin.records import EngineConfig, Run, load_run, save_run
    from loratwin.report import as_text, write_report
    from loratwin.report.compare import compare
    from loratwin.report.figures import make_figures
    from loratwin.report.kernels import kernel_report
    from loratwin.simulate.engine import simulate as simulate_run
    from loratwin.simulate.sweep import server_configs, sweep
    from loratwin.workload.draw import draw
    from loratwin.workload.files import load_spec as load_workload

_HOMES = {
    "advise": ("advise_batch", "advise_replicas", "find_sweep"),
    "bench": ("GivenServers", "LaunchedServers", "measure"),
    "calibrate": ("ServerSource", "calibrate_server"),
    "errors": ("LoratwinError",),
    "fleet": ("plan_fleet",),
    "learn": ("predict",),
    "metrics": ("summarize",),
    "offline": ("batch_grid", "measure_offline"),
    "perf": ("load_profile", "server_memory"),
    "plan.plan": ("plan as find_plan",),
    "records": ("EngineConfig", "Run", "load_run", "save_run"),
    "report": ("as_text", "write_report"),
    "report.compare": ("compare",),
    "report.figures": ("make_figures",),
    "report.kernels": ("kernel_report",),
    "simulate.engine": ("simulate as simulate_run",),
    "simulate.sweep": ("server_configs", "sweep"),
    "workload.draw": ("draw",),
    "workload.files": ("load_spec as load_workload",),
}
"""Imported when asked for, so that `import loratwin` takes no time. A name that a room has already is another here."""

__all__ = [
    "EngineConfig",
    "GivenServers",
    "LaunchedServers",
    "LoratwinError",
    "Run",
    "ServerSource",
    "advise_batch",
    "advise_replicas",
    "as_text",
    "batch_grid",
    "calibrate_server",
    "compare",
    "draw",
    "find_plan",
    "find_sweep",
    "kernel_report",
    "load_profile",
    "load_run",
    "load_workload",
    "make_figures",
    "measure",
    "measure_offline",
    "plan_fleet",
    "predict",
    "save_run",
    "server_configs",
    "server_memory",
    "simulate_run",
    "summarize",
    "sweep",
    "write_report",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
