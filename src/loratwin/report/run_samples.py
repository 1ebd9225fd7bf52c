"""What was scraped while a run was measured, over the window: the server's `/metrics`, and the GPU.

A simulated run beside it shows the same quantities by its steps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from loratwin.records import Run, Samples, Series
from loratwin.records.columns import FloatArray
from loratwin.report.looks import Look
from loratwin.report.run_axes import PARTS, Curve, over_time
from loratwin.simulate import time_series
from loratwin.simulate.series import TimeSeries
from loratwin.telemetry import canonical


@dataclass(frozen=True)
class Quantity:
    """A figure: which series, how it is shown, and what a simulated run has in its place."""

    name: str  # as `telemetry.canonical` or `telemetry.gpu` call it
    title: str
    scale: float = 1.0
    is_counter: bool = False  # shown as growth per second
    of_steps: Callable[[TimeSeries], FloatArray] | None = None


SERVER = (
    Quantity("running", "Running requests", of_steps=lambda steps: steps.running),
    Quantity("waiting", "Waiting requests", of_steps=lambda steps: steps.waiting),
    Quantity("kv_usage", "KV memory in use, %", 100, of_steps=lambda steps: steps.kv_usage),
    Quantity("adapters_running", "Adapters of running requests", of_steps=lambda steps: steps.distinct_adapters),
    Quantity("adapters_waiting", "Adapters of waiting requests"),
    Quantity("slots_used", "Slots in use"),
    Quantity("waiting_deferred", "Requests waiting for a slot"),
    Quantity("preemptions", "Preemptions/s", is_counter=True),
    Quantity("generation_tokens", "Generated tokens/s", is_counter=True),
    Quantity("prompt_tokens", "Prompt tokens/s", is_counter=True),
    Quantity("requests_finished", "Requests finished/s", is_counter=True),
    Quantity("tokens_per_step", "Tokens in a step"),
    Quantity("ttft_s", "TTFT by the server, ms", 1e3),
    Quantity("itl_s", "ITL by the server, ms", 1e3),
    Quantity("queue_s", "Queueing delay by the server, ms", 1e3),
)
"""Of the server, in the order shown; what no run has is left out."""

GPUS = (
    Quantity("utilisation", "GPU busy, %", 100),
    Quantity("memory_used_bytes", "GPU memory, GiB", 1 / 2**30),
    Quantity("power_w", "Power, W"),
    Quantity("sm_clock_mhz", "Clock, MHz"),
    Quantity("memory_clock_mhz", "Memory clock, MHz"),
    Quantity("temperature_c", "Temperature, °C"),
)
"""Of each GPU."""


def server_series(shown: Sequence[Look]) -> list[str]:
    """A figure for each quantity that a server told, all runs in it; none where no server was scraped."""
    sampled = {id(look): [(source.time_s, canonical(source)) for source in _sampled(look.run)] for look in shown}
    figures = []
    for quantity in SERVER:
        curves = [
            (look, time_s, _values(quantity, time_s, series[quantity.name]))
            for look in shown
            for time_s, series in sampled[id(look)]
            if quantity.name in series
        ]
        if _says_something(curves):
            drawn = {id(look) for look, _, _ in curves}
            curves += _by_steps(quantity, [look for look in shown if id(look) not in drawn])
            figures.append(over_time(f"server-{quantity.name}", quantity.title, curves))
    return figures


def gpu_series(shown: Sequence[Look]) -> list[str]:
    """A figure for each quantity of each GPU."""
    figures = []
    for gpu in sorted({gpu for look in shown for source in _sampled(look.run) for gpu in _gpus(source)}):
        for quantity in GPUS:
            curves = [
                (look, source.time_s, _values(quantity, source.time_s, one))
                for look in shown
                for source in _sampled(look.run)
                for one in source.find(quantity.name, gpu=gpu)
            ]
            if _says_something(curves):
                number = "".join(letter for letter in gpu if letter.isalnum())
                title = f"{quantity.title} (GPU {gpu})"
                figures.append(over_time(f"gpu{number}-{quantity.name}", title, curves))
    return figures


def _sampled(run: Run) -> list[Samples]:
    return [source for source in run.samples if len(source.time_s)]


def _gpus(samples: Samples) -> set[str]:
    return {value for one in samples.series for key, value in one.labels if key == "gpu"}


def _values(quantity: Quantity, time_s: FloatArray, series: Series) -> FloatArray:
    values = _rate(time_s, series.values) if quantity.is_counter else series.values
    return values * quantity.scale


def _rate(time_s: FloatArray, values: FloatArray) -> FloatArray:
    """Growth per second since the last sample that did not fail; NaN where the counter began again."""
    known = np.flatnonzero(~np.isnan(values))
    width, growth = np.diff(time_s[known]), np.diff(values[known])
    rates = np.full(len(values), np.nan)
    rates[known[1:]] = np.divide(growth, width, out=np.full(len(width), np.nan), where=(width > 0) & (growth >= 0))
    return rates


def _says_something(curves: Sequence[Curve]) -> bool:
    return any((~np.isnan(values)).any() for _, _, values in curves)


def _by_steps(quantity: Quantity, others: Sequence[Look]) -> list[Curve]:
    """The same quantity of the runs without a server to ask, by their steps."""
    if quantity.of_steps is None:
        return []
    logged = [look for look in others if look.run.steps is not None and len(look.run.steps)]
    of_steps = [(look, time_series(look.run, PARTS)) for look in logged]
    return [
        (look, series.end_s - look.run.window_s / PARTS / 2, quantity.of_steps(series) * quantity.scale)
        for look, series in of_steps
    ]
