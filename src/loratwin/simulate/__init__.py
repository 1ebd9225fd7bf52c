"""The twin: `simulate` one run, `replicate` it over seeds, `sweep` it over configurations; intervals of predictions."""

from loratwin.simulate.engine import served_capacity, simulate
from loratwin.simulate.intervals import Forecast, PredictionInterval, forecast, predict_interval
from loratwin.simulate.many import Replications, replicate, sweep
from loratwin.simulate.outcome import Outcome, each_once, outcome, try_config
from loratwin.simulate.series import TimeSeries, time_series

__all__ = [
    "Forecast",
    "Outcome",
    "PredictionInterval",
    "Replications",
    "TimeSeries",
    "each_once",
    "forecast",
    "outcome",
    "predict_interval",
    "replicate",
    "served_capacity",
    "simulate",
    "sweep",
    "time_series",
    "try_config",
]
