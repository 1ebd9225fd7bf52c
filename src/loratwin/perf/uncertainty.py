"""How far a profile's coefficients can be off, and profiles that are as plausible as it.

Errors are standard errors; coefficients are positive, so they are taken as lognormal with the fitted value as median
(one fitted as 0: as the positive half of a normal). Correlations are those of the normal variables underneath.

What no coefficient explains (the model's own error, and the noise of measuring) is kept as quantiles of
|log(measured / predicted)| of each figure, apart for servers that keep up and saturated ones. They come from held-out
runs, and so are honest whatever the reason of the errors is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, model_validator

F8 = NDArray[np.float64]

Regime = Literal["open", "saturated"]
Quantiles = Annotated[tuple[NonNegativeFloat, ...], Field(min_length=4, max_length=4)]
SignedQuantiles = Annotated[tuple[float, ...], Field(min_length=9, max_length=9)]

KEEPS_UP = 0.97
"""Predicted share of the offered tokens served from which on a server counts as open, not saturated."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Part of the held-out runs whose error a quantile of `residual` covers."""

PROBABILITIES = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98)
"""At which `errors` has its quantiles."""

_BOUNDS = {"step_time.roofline_power": (1.0, 20.0)}


class Uncertainty(BaseModel):
    """Standard errors by coefficient, as `step_time.weights_s`, in the coefficient's unit."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    standard_errors: dict[str, NonNegativeFloat]
    correlated: tuple[str, ...] = ()  # coefficients of the correlation matrix
    correlation: tuple[tuple[float, ...], ...] = ()  # its rows
    residual: dict[Regime, dict[str, Quantiles]] = {}  # of figures of `metrics.Summary`, at LEVELS
    machine: NonNegativeFloat = 0.0
    """Spread of the logarithm of a factor that all times of one run have in common: a machine is faster at one time
    than at another, and a formula is off by more in one workload than in another."""
    beyond: tuple[NonNegativeFloat, NonNegativeFloat] | None = None
    """Requests in the largest batch that was measured (mean of a run), and how far off a batch of twice as many is, as
    log(measured / predicted) in 90 % of the cases."""
    errors: dict[Regime, dict[str, SignedQuantiles]] = {}
    """Of log(measured / predicted), with its sign, at `PROBABILITIES`: of figures as a plan states them, percentiles
    too."""
    source: str = ""

    @model_validator(mode="after")
    def _is_whole(self) -> Uncertainty:
        n = len(self.correlated)
        if len(self.correlation) != n or any(len(row) != n for row in self.correlation):
            raise ValueError(f"correlation: {n} coefficients need {n} rows of {n} numbers")
        missing = [name for name in self.correlated if name not in self.standard_errors]
        if missing:
            raise ValueError(f"correlated: {missing[0]} has no standard error")
        matrix = np.array(self.correlation).reshape(n, n)
        if n and (not np.allclose(matrix, matrix.T, atol=1e-6) or np.linalg.eigvalsh(matrix).min() < -1e-6):
            raise ValueError("correlation: not a correlation matrix (symmetric, no negative eigenvalue)")
        return self

    @staticmethod
    def regime(served_share: float) -> Regime:
        """Which quantiles a prediction takes; NaN, the share of nothing, is open."""
        return "saturated" if served_share < KEEPS_UP else "open"

    def error(self, figure: str, regime: Regime, level: float) -> float:
        """How large |log(measured / predicted)| of a figure is at most in a part `level` of the runs; 0 if unknown.

        A figure without quantiles of its own takes those of its kind (a percentile of TTFT those of the mean TTFT).
        Between the stated levels, and beyond them, the error grows with the quantile of the normal distribution.
        """
        quantiles = self._quantiles(figure, regime)
        if quantiles is None:
            return 0.0
        scale = [_two_sided(level) for level in LEVELS]
        wanted = _two_sided(level)
        if wanted > scale[-1]:
            return quantiles[-1] * wanted / scale[-1]
        return float(np.interp(wanted, [0.0, *scale], [0.0, *quantiles]))

    def error_beyond(self, batch: float, level: float) -> float:
        """What is added to the error of times in a batch of so many requests: 0 as far as was measured."""
        if self.beyond is None or not batch > self.beyond[0]:
            return 0.0
        measured, per_doubling = self.beyond
        return per_doubling * math.log2(batch / measured) * _two_sided(level) / _two_sided(0.9)

    def deviations(self, figure: str, regime: Regime, log_ratio: float) -> float:
        """Which error log(measured / predicted) = `log_ratio` is, as standard deviations of a normal variable.

        From `errors`, else from `residual` as if both signs were alike. Infinite where the figure's error is not known.
        """
        signed = self._signed(figure, regime)
        if signed is None or not math.isfinite(log_ratio):
            return math.copysign(math.inf, log_ratio)
        return _at(log_ratio, signed)

    def typical_ratio(self, figure: str, regime: Regime) -> float:
        """measured / predicted of a figure in the middle of held-out runs, where `deviations` is 0; 1 if unknown."""
        signed = self._signed(figure, regime)
        return 1.0 if signed is None else math.exp(signed[len(signed) // 2])

    def _signed(self, figure: str, regime: Regime) -> SignedQuantiles | None:
        """Quantiles of an error with its sign; None where it is not known."""
        known = self.errors.get(regime, {})
        signed = known.get(figure) or known.get(_nearest(figure)) or self._both_signs(figure, regime)
        return None if signed is None or signed[-1] == signed[0] else signed

    def _both_signs(self, figure: str, regime: Regime) -> SignedQuantiles | None:
        """Quantiles at `PROBABILITIES` of errors that are as often positive as negative."""
        if self._quantiles(figure, regime) is None:
            return None
        sizes = [self.error(figure, regime, 2 * p - 1) for p in PROBABILITIES if p > 0.5]
        return (*(-size for size in reversed(sizes)), 0.0, *sizes)

    def _quantiles(self, figure: str, regime: Regime) -> Quantiles | None:
        known = self.residual.get(regime, {})
        return known.get(figure) or known.get(_KINDS.get(figure.split("_")[0], ""))

    def normals(self, rng: np.random.Generator) -> dict[str, float]:
        """A standard normal number for each coefficient, correlated as they are."""
        names = sorted(self.standard_errors)  # the order in the file shall not matter
        drawn = dict(zip(names, rng.standard_normal(len(names)), strict=True))
        if self.correlated:
            values, vectors = np.linalg.eigh(np.array(self.correlation))
            root = vectors * np.sqrt(np.clip(values, 0.0, None))
            mixed = root @ np.array([drawn[name] for name in self.correlated])
            drawn |= dict(zip(self.correlated, mixed, strict=True))
        return {name: float(value) for name, value in drawn.items()}

    def sample(self, coefficients: Mapping[str, Any], rng: np.random.Generator) -> dict[str, Any]:
        """The parts of a profile (`step_time` and so on, as dictionaries) with each coefficient drawn anew."""
        parts = {part: dict(values) if isinstance(values, Mapping) else values for part, values in coefficients.items()}
        for name, z in self.normals(rng).items():
            part, _, key = name.partition(".")
            low, high = _BOUNDS.get(name, (0.0, np.inf))
            parts[part][key] = min(high, max(low, drawn_value(parts[part][key], self.standard_errors[name], z)))
        return parts


_KINDS = {
    "ttft": "ttft_mean_ms", "queueing": "ttft_mean_ms", "e2e": "itl_mean_ms", "itl": "itl_mean_ms",
    "tpot": "tpot_mean_ms", "running": "running_mean",
    **dict.fromkeys(("input", "output", "total", "request", "served"), "total_throughput"),
}  # fmt: skip


def _nearest(figure: str) -> str:
    """The figure whose errors stand for those of one that was not measured."""
    kind, statistic = figure.split("_")[:2]
    metric = "tpot" if kind == "e2e" else kind
    if statistic in ("p90", "p95", "p99", "share"):
        return f"{metric}_p99_ms"
    return f"{metric}_mean_ms"


def _at(value: float, quantiles: SignedQuantiles) -> float:
    """Standard deviations at which a quantile function has a value; beyond its ends as far as the ends are off."""
    scale = [NormalDist().inv_cdf(p) for p in PROBABILITIES]
    middle = quantiles[len(quantiles) // 2]
    for end in (0, -1):
        beyond = (value - quantiles[end]) * scale[end]
        if beyond > 0 and quantiles[end] != middle:
            return scale[end] * (1 + (value - quantiles[end]) / (quantiles[end] - middle))
    return float(np.interp(value, quantiles, scale))


def widened(quantiles: Quantiles, half_width: float) -> Quantiles:
    """Quantiles at `LEVELS` with another error beside, of which 90 % are smaller than `half_width`."""
    more = [half_width * _two_sided(level) / _two_sided(0.9) for level in LEVELS]
    first, second, third, fourth = (math.hypot(*pair) for pair in zip(quantiles, more, strict=True))
    return first, second, third, fourth


def narrowed(quantiles: Quantiles, spread: float) -> Quantiles:
    """Quantiles at `LEVELS` without a normal error of this spread, which is counted elsewhere; not below 0."""
    left = [math.sqrt(max(0.0, q**2 - (spread * _two_sided(p)) ** 2)) for q, p in zip(quantiles, LEVELS, strict=True)]
    first, second, third, fourth = (round(value, 5) for value in left)
    return first, second, third, fourth


def _two_sided(level: float) -> float:
    """Standard deviations within which a normal variable lies with this probability."""
    return NormalDist().inv_cdf((1 + level) / 2)


def drawn_value(value: float, standard_error: float, z: float) -> float:
    """The coefficient at `z` standard deviations: lognormal around its value, or half a normal where that is 0."""
    if standard_error == 0.0:
        return value
    if value == 0.0:
        return abs(z) * standard_error
    return float(value * np.exp(z * np.sqrt(np.log1p((standard_error / value) ** 2))))
