"""Service level objectives: `ttft_p99=2s,tpot_p99=100ms`, `ttft<2s:99%` as limits that a run meets or misses."""

from __future__ import annotations

import re
from dataclasses import dataclass
from math import ceil, inf, log

import numpy as np

from loratwin.errors import InputError
from loratwin.metrics.gaps import itl_mean_s, itl_percentiles_s
from loratwin.metrics.latency import Side, e2e_s, finished, tpot_s, ttft_s
from loratwin.metrics.percentiles import percentiles
from loratwin.records import Run
from loratwin.records.columns import FloatArray

METRICS = ("ttft", "tpot", "itl", "e2e")
STATISTICS = ("mean", "p50", "p90", "p95", "p99")
UNITS_S = {"ms": 1e-3, "s": 1.0}

_EXAMPLE = "an SLO looks like ttft_p99=2s,tpot_p99=100ms or ttft<2s:99%"
_LIMIT = re.compile(r"(?P<number>[0-9]+(\.[0-9]*)?|\.[0-9]+)\s*(?P<unit>[a-zµ]*)", re.IGNORECASE)


@dataclass(frozen=True)
class Limit:
    """One figure and the seconds that it may not exceed, or that a share of the requests may not."""

    metric: str  # one of METRICS
    statistic: str  # one of STATISTICS; "share": of the requests
    limit_s: float
    share: float | None = None  # of the requests that keep within `limit_s`

    @property
    def name(self) -> str:
        """As `ttft_p99`; with a share as `ttft<2s:99%`, since there can be several."""
        return f"{self.metric}_{self.statistic}" if self.share is None else str(self)

    @property
    def allowed_late(self) -> float | None:
        """Share of the requests that may be above the limit; None: the limit is on a mean."""
        if self.share is not None:
            return 1 - self.share
        return None if self.statistic == "mean" else 1 - float(self.statistic[1:]) / 100

    @property
    def figure(self) -> str:
        """The same in words of `Summary`, as `ttft_median_ms`; of a share there is none: `ttft_share_ms`."""
        return f"{self.metric}_{'median' if self.statistic == 'p50' else self.statistic}_ms"

    def slack(self, value_s: float) -> float:
        """Logarithm of limit / figure: by how much it could be higher, below 0 by how much it is too high."""
        if not value_s > 0:  # unknown, and so missed; or nobody waits at all
            return inf if value_s == 0 else -inf
        return log(self.limit_s / value_s)

    def value_s(self, run: Run, side: Side = "client") -> float:
        """The figure that a run reached; NaN where it is undefined.

        Of a share: the seconds within which so many of the requests were; infinite where fewer were ever answered.
        """
        if self.share is None:
            return latency_figure_s(run, self.metric, self.statistic, side)
        values = self.judged_s(run, side)
        return within_s(np.sort(values[~np.isnan(values)]), self.share)

    def judged_s(self, run: Run, side: Side = "client") -> FloatArray:
        """Latencies of the requests that the limit is judged by, NaN of the others. Shape (num_requests,).

        Of a statistic the finished count, as in the server's own figures. Of a share also those that are late already:
        refused, failed, or without an answer for longer than the limit. They count as infinite; of younger ones nobody
        knows yet.
        """
        latency_s = request_latency_s(run, self.metric, side)
        done = finished(run)
        if self.share is None or self.metric in ("tpot", "itl"):
            return np.where(done, latency_s, np.nan)
        table = run.requests
        failed = table.refused if table.failure is None else table.refused | (table.failure >= 0)
        late = np.isnan(latency_s) & (run.window_s - table.arrival_s > self.limit_s)
        return np.where(failed | late, np.inf, latency_s)

    def is_met(self, run: Run, side: Side = "client") -> bool:
        """An undefined figure (nothing finished) does not meet a limit."""
        return self.value_s(run, side) <= self.limit_s

    def __str__(self) -> str:
        shown = f"{self.limit_s * 1e3:.10g}ms" if self.limit_s < 1 else f"{self.limit_s:.10g}s"
        if self.share is not None:
            return f"{self.metric}<{shown}:{100 * self.share:.10g}%"
        return f"{self.metric}_{self.statistic}={shown}"


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
    if "<" in part:
        return _parse_share(part)
    name, equals, value = (piece.strip() for piece in part.partition("="))
    if not equals:
        raise InputError(f"SLO {part!r}: no limit; {_EXAMPLE}")
    metric, _, statistic = name.lower().partition("_")
    _require(part, "metric", metric, METRICS)
    _require(part, "statistic", statistic, STATISTICS)
    return Limit(metric, statistic, _parse_seconds(part, value))


def _parse_share(part: str) -> Limit:
    """`ttft<2s:99%`: so many of the requests within so many seconds."""
    metric, _, rest = (piece.strip() for piece in part.partition("<"))
    value, colon, percent = (piece.strip() for piece in rest.partition(":"))
    _require(part, "metric", metric.lower(), METRICS)
    if not colon:
        raise InputError(f"SLO {part!r}: no share of requests; write ttft<2s:99%")
    try:
        share = float(percent.removesuffix("%")) / 100
    except ValueError:
        raise InputError(f"SLO {part!r}: {percent!r} is not a share; write 99%") from None
    if not 0 < share < 1:
        raise InputError(f"SLO {part!r}: {percent} of the requests; the share must be above 0 and below 100 %")
    return Limit(metric.lower(), "share", _parse_seconds(part, value), share)


def _parse_seconds(part: str, value: str) -> float:
    parts = _LIMIT.fullmatch(value)
    if not parts:
        raise InputError(f"SLO {part!r}: {value!r} is not a time; write 100ms or 2s")
    _require(part, "unit", parts["unit"].lower(), tuple(UNITS_S))
    seconds = float(parts["number"]) * UNITS_S[parts["unit"].lower()]
    if not 0 < seconds < float("inf"):
        raise InputError(f"SLO {part!r}: {value!r} is not a limit; it must be above 0")
    return seconds


def _require(part: str, kind: str, word: str, known: tuple[str, ...]) -> None:
    if word not in known:
        problem = f"unknown {kind} {word!r}" if word else f"no {kind}"
        raise InputError(f"SLO {part!r}: {problem}; valid: {', '.join(known)}")


def within_s(ordered: FloatArray, share: float) -> float:
    """Seconds within which at least this share of the values is; they are sorted. NaN without values."""
    return float(ordered[place_of(len(ordered), share)]) if len(ordered) else float("nan")


def place_of(count: int, share: float) -> int:
    """Index in the sorted list of the value within which at least this share of the values is."""
    return max(0, ceil(share * count - 1e-9) - 1)  # 0.99 x 100 is a little more than 99


def request_latency_s(run: Run, metric: str, side: Side = "client") -> FloatArray:
    """A latency of each request, NaN where there is none; its ITL is its TPOT. Shape (num_requests,)."""
    if metric in ("tpot", "itl"):
        return tpot_s(run)
    return ttft_s(run, side) if metric == "ttft" else e2e_s(run, side)


def latency_figure_s(run: Run, metric: str, statistic: str, side: Side = "client") -> float:
    """Mean or percentile of a latency over the requests finished in the window; NaN where it is undefined."""
    if metric == "itl":
        return itl_mean_s(run) if statistic == "mean" else itl_percentiles_s(run, (float(statistic[1:]),))[0]
    values = request_latency_s(run, metric, side)
    values = values[finished(run) & ~np.isnan(values)]
    if not len(values):
        return float("nan")
    return float(values.mean()) if statistic == "mean" else percentiles(values, (float(statistic[1:]),))[0]
