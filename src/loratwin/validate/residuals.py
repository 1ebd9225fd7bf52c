"""How far held-out predictions were off, as quantiles that give intervals; whether such intervals hold what they say.

The regime is the predicted one, since that is known when an interval is made.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.serving import ServingRun
from loratwin.perf import Uncertainty
from loratwin.perf.uncertainty import LEVELS, Quantiles, Regime
from loratwin.validate.predict import Prediction, offered_tokens_per_s
from loratwin.validate.scores import METRICS, measured_value

Pair = tuple[ServingRun, Prediction]

_FEWEST = 10
"""Runs below which a quantile of 0.95 says nothing."""


class Coverage(NamedTuple):
    """How often intervals made without a workload hold its runs."""

    metric: str
    regime: Regime
    runs: int
    share: float  # of them inside
    mean_error: float  # mean half-width, as a part of the prediction


def held_out_errors(
    runs: Sequence[ServingRun], predictions: Sequence[Prediction]
) -> dict[Regime, dict[str, Quantiles]]:
    """Quantiles of |log(measured / predicted)| by regime and figure, at `LEVELS`; left out where runs are too few."""
    errors_of: dict[Regime, dict[str, Quantiles]] = {}
    for regime, pairs in _by_regime(list(zip(runs, predictions, strict=True))):
        for metric in METRICS:
            errors = _log_errors(pairs, metric)
            if len(errors) >= _FEWEST:
                quantiles = tuple(round(float(q), 5) for q in np.quantile(errors, LEVELS))
                errors_of.setdefault(regime, {})[metric] = quantiles
    return errors_of


def coverage(runs: Sequence[ServingRun], predictions: Sequence[Prediction], level: float = 0.9) -> list[Coverage]:
    """Intervals of each workload from the errors of all others, and how many of its runs they hold."""
    rows = []
    for regime, pairs in _by_regime(list(zip(runs, predictions, strict=True))):
        for metric in METRICS:
            inside, widths = [], []
            for group in sorted({run.group for run, _ in pairs}):
                others = held_out_errors(*_columns([pair for pair in pairs if pair[0].group != group]))
                error = Uncertainty(standard_errors={}, residual=others).error(metric, regime, level)
                held_out = _log_errors([pair for pair in pairs if pair[0].group == group], metric)
                inside += list(held_out <= error)
                widths += [math.expm1(error)] * len(held_out)
            if inside:
                rows.append(Coverage(metric, regime, len(inside), float(np.mean(inside)), float(np.mean(widths))))
    return rows


def _columns(pairs: Sequence[Pair]) -> tuple[list[ServingRun], list[Prediction]]:
    return [run for run, _ in pairs], [prediction for _, prediction in pairs]


def _by_regime(pairs: Sequence[Pair]) -> Iterator[tuple[Regime, list[Pair]]]:
    """Completed runs that were predicted to run, by whether the server was predicted to keep up."""
    pairs_of: dict[Regime, list[Pair]] = {}
    for run, prediction in pairs:
        if run.measured and math.isfinite(prediction.total_throughput):
            share = prediction.total_throughput / offered_tokens_per_s(run)
            pairs_of.setdefault(Uncertainty.regime(share), []).append((run, prediction))
    yield from sorted(pairs_of.items())


def _log_errors(pairs: Sequence[Pair], metric: str) -> NDArray[np.float64]:
    values = [(measured_value(run, metric), float(getattr(prediction, metric))) for run, prediction in pairs]
    return np.array([abs(math.log(measured / predicted)) for measured, predicted in values if measured > 0 < predicted])
