"""Service level objectives: `ttft_p99=2s,tpot_p99=100ms` as limits that a run meets or misses."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from loratwin.errors import InputError
from loratwin.metrics.gaps import itl_mean_s, itl_percentiles_s
from loratwin.metrics.latency import Side, e2e_s, finished_only, tpot_s, ttft_s
from loratwin.records import Run

METRICS = ("ttft", "tpot", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
UNITS_S = {"ms": 1e-3, "s": 1.0}

_EXAMPLE = "an SLO looks like ttft_p99=2s,tpot_p99=100ms"
_LIMIT = re.compile(r"(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[a-zµ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """One figure and the seconds that it may not exceed."""

    metric: str  # one of METRICS
    statistic: str  # one of STATISTICS
    limit_s: float

    @property
    def name(self) -> str:
        """As `ttft_p99`."""
        return f"{self.metric}_{self.statistic}"

    def value_s(self, run: Run, side: Side = "client") -> float:
        """The figure that a run reached; NaN where it is undefined."""
        return latency_figure_s(run, self.metric, self.statistic, side)

    def is_met(self, run: Run, side: Side = "client") -> bool:
        """An undefined figure (nothing finished) does not meet a limit."""
        return self.value_s(run, side) <= self.limit_s

    def __str__(self) -> str:
        shown = f"{self.limit_s * 1e3:.10g}ms" if self.limit_s < 1 else f"{self.limit_s:.10g}s"
        return f"{self.name}={shown}"


@dataclass(frozen=True)
class Slo:
    """All limits that a server has to keep."""

    limits: tuple[Limit, ...]

    def missed(self, run: Run, side: Side = "client") -> tuple[Limit, ...]:
        """The limits that a run does not keep."""
        return tuple(limit for limit in self.limits if not limit.is_met(run, side))

    def per_request_s(self) -> dict[str, float]:
        """The tightest limit of each latency that single requests have, for `goodput`; a request's ITL is its TPOT."""
        tightest: dict[str, float] = {}
        for limit in self.limits:
            metric = "tpot" if limit.metric == "itl" else limit.metric
            tightest[metric] = min(limit.limit_s, tightest.get(metric, limit.limit_s))
        return tightest

    def __str__(self) -> str:
        return ",".join(str(limit) for limit in self.limits)


def parse_slo(text: str) -> Slo:
    """Read `ttft_p99=2s,tpot_p99=100ms`: metric ttft|tpot|itl|e2e, statistic mean|p50|p90|p95|p99, unit ms|s.

    Raises
    ------
    InputError
        One line with what is wrong and what would be right.
    """
    if not text.strip():
        raise InputError(f"the SLO is empty; {_EXAMPLE}")
    limits = tuple(_parse_limit(part.strip()) for part in text.split(","))
    names = [limit.name for limit in limits]
    for name in names:
        if names.count(name) > 1:
            raise InputError(f"SLO {text!r}: {name} is given twice")
    return Slo(limits)


def _parse_limit(part: str) -> Limit:
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals:
        raise InputError(f"SLO {part!r}: no limit; {_EXAMPLE}")
    metric, _, statistic = name.lower().partition("_")
    _require(part, "metric", metric, METRICS)
    _require(part, "statistic", statistic, STATISTICS)
    return Limit(metric, statistic, _parse_seconds(part, value))


def _parse_seconds(part: str, value: str) -> float:
    found = _LIMIT.fullmatch(value)
    if not found:
        raise InputError(f"SLO {part!r}: {value!r} is not a time; write 100ms or 2s")
    _require(part, "unit", found["unit"].lower(), tuple(UNITS_S))
    seconds = float(found["number"]) * UNITS_S[found["unit"].lower()]
    if not 0 < seconds < float("inf"):
        raise InputError(f"SLO {part!r}: {value!r} is not a limit; it must be above 0")
    return seconds


def _require(part: str, kind: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        problem = f"unknown {kind} {word!r}" if word else f"no {kind}"
        raise InputError(f"SLO {part!r}: {problem}; valid: {', '.join(known)}")


def latency_figure_s(run: Run, metric: str, statistic: str, side: Side = "client") -> float:
    """Mean or percentile of a latency over the requests finished in the window; NaN where it is undefined."""
    if metric == "itl":
        return itl_mean_s(run) if statistic == "mean" else itl_percentiles_s(run, (float(statistic[1:]),))[0]
    done = finished_only(run)
    values = tpot_s(done) if metric == "tpot" else {"ttft": ttft_s, "e2e": e2e_s}[metric](done, side)
    values = values[~np.isnan(values)]
    if not len(values):
        return float("nan")
    return float(values.mean() if statistic == "mean" else np.percentile(values, float(statistic[1:])))
