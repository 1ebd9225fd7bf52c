"""The chance that a real run keeps its SLO and does not starve.

The same three things are uncertain as in a forecast: the seed, the coefficients, and what no coefficient explains. The
first two are simulated together, as draws. Of each draw is known how much higher each figure could be before it is
beyond its limit; the held-out errors say how likely it is that a real run's is that much higher. A server that is
slower than the twin is so in all its figures: one error, in standard deviations of a normal variable, goes through all
limits and the throughput, and the first that breaks decides.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from statistics import NormalDist, fmean
from typing import NamedTuple

from loratwin.metrics import STARVED_RATIO, Slo, SloRows
from loratwin.perf import Uncertainty


class Draw(NamedTuple):
    """What one run with a plausible profile showed."""

    starved: bool
    served_share: float  # NaN: nothing was asked for
    slack: Mapping[str, float]  # by figure of `metrics.Summary`, the least where it is asked of several: `Limit.slack`

    def held_to(self, rows: SloRows) -> Draw:
        """The same where limits are asked of these rows, too."""
        least = dict(self.slack)
        for limit, slack in zip(rows.limits, rows.slack(), strict=True):
            least[limit.figure] = min(slack, least.get(limit.figure, math.inf))
        return self._replace(slack=least)


def draw_of(starved: bool, served_share: float, slo: Slo | None, slo_s: Mapping[str, float]) -> Draw:
    """What remains of a run: the least slack of the server's own figures.

    Parameters
    ----------
    slo_s
        Seconds that the server as a whole reached, by limit.
    """
    least: dict[str, float] = {}
    for limit in slo.limits if slo is not None else ():
        least[limit.figure] = min(limit.slack(slo_s[limit.name]), least.get(limit.figure, math.inf))
    return Draw(starved, served_share, least)


def chance_kept(draws: Sequence[Draw], uncertainty: Uncertainty | None) -> float:
    """Probability that a real run keeps every limit and does not starve; NaN without draws."""
    known = uncertainty or Uncertainty(standard_errors={})
    return fmean(_kept(draw, known) for draw in draws) if draws else math.nan


def _kept(draw: Draw, known: Uncertainty) -> float:
    return 0.0 if draw.starved else NormalDist().cdf(min(_breaks(draw, known), default=math.inf))


def _breaks(draw: Draw, known: Uncertainty) -> Iterator[float]:
    """Standard deviations by which the twin may be too quick until the throughput, or a limit, is no longer kept."""
    regime = known.regime(draw.served_share)
    if draw.served_share > 0:
        yield -known.deviations("served_share", regime, math.log(STARVED_RATIO / draw.served_share))
    for figure, slack in draw.slack.items():
        yield known.deviations(figure, regime, slack)
