"""Coefficients of the front end from what matching leaves: delivery gaps and TTFT beyond the engine's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.operating_point import Match
from loratwin.calibrate.robust import fair, robust
from loratwin.errors import DataError
from loratwin.perf import Frontend

F8 = NDArray[np.float64]

_CLIP = 0.1  # a run's log error counts at most so much: some overloaded clients were late for other reasons
_MAX_RATE = 60.0  # requests/s; above, the measuring client itself was late
_ROBUST = 0.02  # relative error from which on a run's pull stops growing
_REWEIGHTINGS = 30


def fit_frontend(matches: Sequence[Match], start: Frontend) -> Frontend:
    """Scrape stalls from the ratio ITL / TPOT, then the parts of TTFT from runs without a queue.

    Raises
    ------
    DataError
        No run is without a queue.
    """
    slow = [m for m in matches if m.run.total_rate < _MAX_RATE]
    without_queue = [m for m in slow if m.run.figure("waiting_mean") < 0.5]
    if not without_queue:
        raise DataError(
            "no run without a queue (and of a rate that its client kept up with) to tell the front end from"
        )
    return _fit_ttft(without_queue, _fit_stalls(slow, start))


def _fit_stalls(matches: Sequence[Match], start: Frontend) -> Frontend:
    from scipy.optimize import minimize

    excess = np.array([_excess(m) for m in matches])

    def with_logs(logs: F8) -> Frontend:
        interval, series, name = (float(v) for v in np.exp(logs))
        return start.model_copy(update={"scrape_interval_s": interval, "series_s": series, "series_name_s": name})

    def loss(logs: F8) -> float:
        model = with_logs(logs)
        gaps = [model.delivery_gap_s(m.itl_s, model.stall_s(m.num_series, m.num_names)) / m.itl_s for m in matches]
        return float(np.minimum(np.abs(np.log(gaps) - excess), _CLIP).mean())

    first = np.log([start.scrape_interval_s, start.series_s, start.series_name_s])
    simplex = first + np.vstack([np.zeros(3), 0.4 * np.eye(3)])
    options = {"maxfev": 250, "initial_simplex": simplex}
    return with_logs(minimize(loss, first, method="Nelder-Mead", options=options).x)


def _excess(m: Match) -> float:
    """Log of how much more ITL exceeds TPOT at the client than in the engine."""
    measured = m.run.figure("itl_mean_ms") / m.run.figure("tpot_mean_ms")
    return float(np.log(measured / (m.itl_s / m.tpot_s)))


def _fit_ttft(matches: Sequence[Match], model: Frontend) -> Frontend:
    """Overhead from medians; first use and stalls from means, by robust regression of relative errors."""
    measured = np.array([m.run.figure("ttft_mean_ms") for m in matches]) / 1e3
    medians = np.array([m.run.figure("ttft_median_ms") / 1e3 - m.ttft_median_s for m in matches])
    overhead = float(np.median(medians))
    stall = np.array([np.mean(model.stall_s(m.num_series, m.num_names) ** 2) for m in matches])
    use = np.array([m.run.served_adapters / m.run.figure("completed") for m in matches])
    columns = np.stack([stall / model.scrape_interval_s, use], axis=1)
    target = measured - overhead - np.array([m.ttft_mean_s for m in matches])
    solution = robust(columns, target, np.ones(len(matches)), fair(_ROBUST), _REWEIGHTINGS, unit=measured)
    factor, first_use = solution.values
    return model.model_copy(
        update={"overhead_s": max(0.0, overhead), "stall_ttft": float(factor), "first_use_s": float(first_use)}
    )
