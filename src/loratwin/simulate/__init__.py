"""The twin: `simulate` one run, `sweep` configurations and seeds, `forecast` where a real run will lie."""

from loratwin.simulate.chance import Draw, chance_kept, draw_of
from loratwin.simulate.engine import served_capacity, simulate
from loratwin.simulate.files import check_runs_path, save_runs
from loratwin.simulate.forecast import Forecast, PredictionInterval, forecast, plausible_profile
from loratwin.simulate.inputs import CheckedInputs, checked_inputs, checked_workload, checked_workloads
from loratwin.simulate.lines import check_line, line_beside, on_line, server_profile
from loratwin.simulate.many import Answers, SweepQuestion, sweep_many
from loratwin.simulate.outcome import (
    Outcome,
    each_once,
    outcome,
    real_slo_over_seeds,
    slo_over_seeds,
    try_config,
)
from loratwin.simulate.series import TimeSeries, time_series
from loratwin.simulate.sweep import Replications, Sweep, adapter_rows, replicate, server_configs, sweep
from loratwin.simulate.verdict import held_rows, real_over_simulated, simulated_slo

__all__ = [
    "Answers",
    "CheckedInputs",
    "Draw",
    "Forecast",
    "Outcome",
    "PredictionInterval",
    "Replications",
    "Sweep",
    "SweepQuestion",
    "TimeSeries",
    "adapter_rows",
    "chance_kept",
    "check_line",
    "check_runs_path",
    "checked_inputs",
    "checked_workload",
    "checked_workloads",
    "draw_of",
    "each_once",
    "forecast",
    "held_rows",
    "line_beside",
    "on_line",
    "outcome",
    "plausible_profile",
    "real_over_simulated",
    "real_slo_over_seeds",
    "replicate",
    "save_runs",
    "served_capacity",
    "server_configs",
    "server_profile",
    "simulate",
    "simulated_slo",
    "slo_over_seeds",
    "sweep",
    "sweep_many",
    "time_series",
    "try_config",
]
