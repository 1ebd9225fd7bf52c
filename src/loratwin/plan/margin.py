"""How well a margin is known: where it lies for other requests and plausible profiles, and in a shorter window."""

from __future__ import annotations

from collections.abc import Sequence
from math import exp, hypot, log, sqrt
from statistics import fmean, stdev
from typing import NamedTuple

from loratwin.metrics.intervals import t_quantile
from loratwin.perf import Uncertainty
from loratwin.plan.choice import Candidate
from loratwin.plan.limits import FARTHEST, STEP

MARGIN_DRAWS = 6
"""Pairs of seed and plausible profile."""

SHORTER = 0.25
"""Part of the window that the margin is looked at in once more: what starves in an hour may pass for a busy quarter."""

LEVEL = 0.9

_LEAST = STEP**-FARTHEST
"""A margin that was not found counts as the lowest that was tried."""


class MarginInterval(NamedTuple):
    """Where the margin of one server lies with probability `level`."""

    low: float
    high: float
    level: float
    shorter_window_s: float
    in_shorter_window: float  # the margin when only so much of the window is looked at


class CustomerCase(NamedTuple):
    """What the server does (first seed) when one adapter asks for so many times as much, or all at once."""

    factor: float
    is_burst: bool
    candidate: Candidate


DRIFTS = (1.0, 2.0, 3.0)
"""How many times as much the biggest customer asks for, in the cases that every plan has."""


class BiggestCustomer(NamedTuple):
    """What breaks first, as a rule: the adapter that asks for most, and what it can do to all others."""

    name: str
    rate_per_s: float
    growth: float  # factor by which its rate alone can grow before the server starves or misses the SLO
    bears_burst: bool  # whether all its requests can come in a tenth of the window
    cases: tuple[CustomerCase, ...] = ()  # as it is, as it drifts, and its burst


def margin_interval(
    drawn: Sequence[float], short: float, shorter_window_s: float, uncertainty: Uncertainty | None
) -> MarginInterval:
    """From the margins of several seeds, each with another plausible profile.

    Student's t on their logarithms, and the profile's held-out error of a saturated server's throughput in quadrature:
    the rate at which a server starves is off by as much as what it can do.
    """
    logs = [log(max(margin, _LEAST)) for margin in drawn]
    middle, half_step = fmean(logs), log(STEP) / 2
    spread = t_quantile((1 + LEVEL) / 2, len(logs) - 1) * stdev(logs) * sqrt(1 + 1 / len(logs))
    model = uncertainty.error("total_throughput", "saturated", LEVEL) if uncertainty is not None else 0.0
    half_width = hypot(spread, model, half_step)  # a margin is found to a step, on whose lower end it stands
    return MarginInterval(
        exp(middle + half_step - half_width), exp(middle + half_step + half_width), LEVEL, shorter_window_s, short
    )
