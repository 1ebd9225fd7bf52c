"""Whether a limit is kept: of a mean as the twin has it, of a percentile as a real run is likely to have it.

Held-out runs say that the twin's means are right and its percentiles are not: a client's p99 has what the twin's engine
does not have (a scrape that stops the event loop), so that a measured p99 of TTFT is several times the simulated one.
The chance that a limit holds counts these errors. A verdict follows it: a limit on a percentile, or for a share of
requests, is kept where the chance is a half or more. That is where the twin's figure times the middle of the held-out
ratios is within the limit; one simulated run says so, and the verdict never contradicts the chance.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from loratwin.metrics import Limit, Slo, SloFor, SloRows, served_share, slo_rows
from loratwin.perf import Uncertainty
from loratwin.records import Run
from loratwin.records.columns import IntArray


def real_over_simulated(limit: Limit, served_share: float, uncertainty: Uncertainty | None) -> float:
    """What a real run's figure is to the simulated one, in the middle of held-out runs; 1 of a mean, or where unknown.

    Parameters
    ----------
    served_share
        Of the simulated run: servers that keep up and saturated ones err differently.
    """
    if uncertainty is None or limit.statistic == "mean":
        return 1.0
    return uncertainty.typical_ratio(limit.figure, uncertainty.regime(served_share))


def simulated_slo(slo: Slo, served_share: float, uncertainty: Uncertainty | None) -> Slo:
    """The limits that the twin's own figures are held to, in the order of the SLO's; they have other names."""
    ratios = (real_over_simulated(limit, served_share, uncertainty) for limit in slo.limits)
    return Slo(
        tuple(replace(limit, limit_s=limit.limit_s / ratio) for limit, ratio in zip(slo.limits, ratios, strict=True))
    )


def real_slo_s(
    slo: Slo, slo_s: Mapping[str, float], served_share: float, uncertainty: Uncertainty | None
) -> dict[str, float]:
    """Seconds in the middle of real runs, by limit: of those alone that are not the twin's own."""
    ratios = {limit.name: real_over_simulated(limit, served_share, uncertainty) for limit in slo.limits}
    return {name: slo_s[name] * ratio for name, ratio in ratios.items() if ratio != 1.0}


def held_rows(
    run: Run,
    slo: Slo,
    uncertainty: Uncertainty | None,
    slo_for: SloFor = "adapters",
    of: Run | None = None,
    group: IntArray | None = None,
    group_names: Sequence[str] = (),
) -> SloRows:
    """What each row makes of each limit: the figures are the twin's, the verdicts those of a real run.

    Parameters
    ----------
    of
        The run with only the requests that the limits are asked of; None: all.
    group, group_names
        As `slo_rows` has them.
    """
    held = simulated_slo(slo, served_share(run), uncertainty)
    rows = slo_rows(run if of is None else of, held, slo_for, group, group_names)
    return replace(rows, limits=slo.limits)
