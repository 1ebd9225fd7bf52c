"""How fast a server was: the factor of all step times with which the twin is as fast as the measurement."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

T = TypeVar("T")

_PLAUSIBLE_SLOPES = (0.5, 8.0)


@dataclass(frozen=True)
class Try(Generic[T]):
    """The twin with one factor."""

    factor: float
    residual: float  # log of simulated / measured
    twin: T


@dataclass(frozen=True)
class Search:
    """How the factor is looked for.

    Parameters
    ----------
    close
        |log of simulated / measured| that is near enough.
    most_tries
        Simulations.
    most_step
        Most that the logarithm of the factor changes at once.
    """

    close: float
    most_tries: int
    most_step: float


def find_factor(serve: Callable[[float], tuple[T, float]], search: Search, first_slope: float) -> Try[T]:
    """The try of least residual, by secants from a factor of 1 on.

    Parameters
    ----------
    serve
        What the twin does with all step times x a factor, and the log of simulated / measured.
    first_slope
        Change of this log with that of the factor, before two tries tell it.
    """
    points: list[tuple[float, float]] = []  # log of the factor, residual
    best: Try[T] | None = None
    position = 0.0
    while len(points) < search.most_tries:
        twin, residual = serve(math.exp(position))
        points.append((position, residual))
        if best is None or abs(residual) < abs(best.residual):
            best = Try(math.exp(position), residual, twin)
        if abs(residual) < search.close:
            break
        position -= min(search.most_step, max(-search.most_step, residual / _slope(points, first_slope)))
    assert best is not None
    return best


def _slope(points: Sequence[tuple[float, float]], first: float) -> float:
    """By the secant of the last two, within what is plausible."""
    if len(points) < 2 or points[-1][0] == points[-2][0]:
        return first
    (x0, y0), (x1, y1) = points[-2:]
    least, most = _PLAUSIBLE_SLOPES
    return min(most, max(least, (y1 - y0) / (x1 - x0)))
