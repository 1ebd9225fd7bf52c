"""Means over replications (the same run with several seeds), with confidence intervals of Student's t."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, pi, sin, sqrt, tan
from statistics import fmean, stdev

from loratwin.records.plain import as_plain


@dataclass(frozen=True)
class Interval:
    """A mean and how far the true one may lie from it."""

    mean: float
    half_width: float  # NaN for a single value
    count: int
    level: float

    @property
    def low(self) -> float:
        """Lower end."""
        return self.mean - self.half_width

    @property
    def high(self) -> float:
        """Upper end."""
        return self.mean + self.half_width

    def as_json(self) -> dict[str, float | None]:
        """Mean and half-width as plain data; what is undefined is None."""
        return {"mean": as_plain(self.mean), "half_width": as_plain(self.half_width)}


def confidence_interval(values: Sequence[float], level: float = 0.95) -> Interval:
    """Mean of independent values, plus or minus t(1 - (1 - level)/2, n - 1) s / sqrt(n). NaN values are left out."""
    known = [float(value) for value in values if value == value]
    n = len(known)
    if n < 2:
        return Interval(known[0] if known else float("nan"), float("nan"), n, level)
    half_width = t_quantile((1 + level) / 2, n - 1) * stdev(known) / sqrt(n)
    return Interval(fmean(known), half_width, n, level)


def t_quantile(probability: float, degrees: int) -> float:
    """Quantile of Student's t distribution, by bisection of the exact distribution function.

    With theta = atan(t / sqrt(degrees)) the probability of |T| <= t is a finite sum of sines and cosines of theta for
    whole degrees of freedom (Abramowitz and Stegun, 26.7.3 and 26.7.4), so scipy is not needed.
    """
    if not 0 < probability < 1 or degrees < 1:
        raise ValueError(f"no quantile for probability {probability} and {degrees} degrees of freedom")
    if probability < 0.5:
        return -t_quantile(1 - probability, degrees)
    low, high = 0.0, pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _central(middle, degrees) < 2 * probability - 1 else (low, middle)
    return sqrt(degrees) * tan((low + high) / 2)


def _central(theta: float, degrees: int) -> float:
    """Probability of |T| <= sqrt(degrees) tan(theta)."""
    odd = degrees % 2
    term = cos(theta) if odd else 1.0
    total = term if degrees > 1 else 0.0
    for k in range(2 + odd, degrees, 2):
        term *= (k - 1) / k * cos(theta) ** 2
        total += term
    return 2 / pi * (theta + sin(theta) * total) if odd else sin(theta) * total
