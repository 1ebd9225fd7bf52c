"""The same figures for each adapter: who gets what was asked for, and who starves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loratwin.metrics.latency import Side, finished, ttft_s
from loratwin.metrics.starvation import STARVED_RATIO
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, IntArray

NO_ADAPTER = "(no adapter)"
"""Name of the row for requests to the LLM without adapter."""


@dataclass(frozen=True, eq=False)
class AdapterFigures:
    """One row for each adapter, and a last one for requests without adapter where there are any. Shape (num_rows,)."""

    name: tuple[str, ...]
    adapter: IntArray  # row of the run's adapter table; -1: no adapter
    requests: IntArray
    finished: IntArray  # in the window
    throughput: FloatArray  # tokens per second, input and output
    offered: FloatArray
    ttft_mean_ms: FloatArray  # of the finished; NaN where none finished
    ttft_p50_ms: FloatArray
    ttft_p99_ms: FloatArray
    starved: BoolArray

    def __len__(self) -> int:
        return len(self.name)

    @property
    def served_share(self) -> FloatArray:
        """Tokens finished / tokens offered; NaN where nothing was offered."""
        return _share(self.throughput, self.offered)

    @property
    def starving(self) -> tuple[str, ...]:
        """Names of the starved."""
        return tuple(name for name, starved in zip(self.name, self.starved, strict=True) if starved)


def per_adapter(run: Run, side: Side = "client") -> AdapterFigures:
    """Figures of each adapter; see `starved_adapters` for the verdict."""
    groups = _Groups(run)
    done = finished(run)
    tokens = run.requests.prompt_tokens.astype(np.float64) + run.requests.output_tokens
    ttft_ms = ttft_s(run, side)[done] * 1e3
    mean, p50, p99 = groups.mean_and_percentiles(ttft_ms, done, (50, 99))
    served, asked = groups.sum(tokens, done), groups.sum(tokens)
    return AdapterFigures(
        name=groups.names,
        adapter=groups.adapter,
        requests=groups.count(),
        finished=groups.count(done),
        throughput=served / run.window_s,
        offered=asked / run.window_s,
        ttft_mean_ms=mean,
        ttft_p50_ms=p50,
        ttft_p99_ms=p99,
        starved=_starved(_share(served, asked), groups.count(missing(run))),
    )


def starving_adapters(run: Run) -> tuple[str, ...]:
    """Names of the starved, as `per_adapter(run).starving` in a fraction of the time."""
    groups, done = _Groups(run), finished(run)
    tokens = run.requests.prompt_tokens.astype(np.float64) + run.requests.output_tokens
    starved = _starved(_share(groups.sum(tokens, done), groups.sum(tokens)), groups.count(missing(run)))
    return tuple(groups.names[i] for i in np.flatnonzero(starved))


def missing(run: Run) -> BoolArray:
    """Requests that should have finished by the end of the window and did not: refused, or left behind.

    Left behind is who arrived longer ago than a tenth of the window (1 - `STARVED_RATIO`: where requests keep arriving,
    a lag of so much is what takes a tenth of the tokens), and longer ago than 99 % of the finished requests needed from
    admission to finish. Younger ones may still be on their way.
    """
    table = run.requests
    done = finished(run)
    needed_s = (table.finish_s - table.admitted_s)[done]
    needed_s = needed_s[~np.isnan(needed_s)]
    usual_s = float(np.percentile(needed_s, 99)) if len(needed_s) else 0.0
    patience_s = max((1 - STARVED_RATIO) * run.window_s, usual_s)
    left_behind: BoolArray = ~done & (table.refused | (table.arrival_s < run.window_s - patience_s))
    return left_behind


def _starved(served_share: FloatArray, num_missing: IntArray) -> BoolArray:
    """Starved is an adapter that lost a tenth of its tokens, and of which at least one request is `missing`.

    The second condition keeps an adapter of three requests, one of them still running at the end, from being called so.
    """
    starved: BoolArray = (served_share <= STARVED_RATIO) & (num_missing > 0)
    return starved


def jain(shares: FloatArray | Sequence[float]) -> float:
    """Jain's fairness index (sum x)^2 / (n sum x^2): 1 when all get the same, 1/n when one gets all. NaN are left out.

    Over adapters, give it `served_share`: what each got of what it asked for. Source: Jain, Chiu, Hawe 1984,
    DEC-TR-301.
    """
    x = np.asarray(shares, dtype=np.float64)
    x = x[~np.isnan(x)]
    squares = len(x) * float((x**2).sum())
    return float(x.sum()) ** 2 / squares if squares else float("nan")


def _share(part: FloatArray, whole: FloatArray) -> FloatArray:
    share: FloatArray = np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)
    return share


class _Groups:
    """Requests grouped by adapter; those without adapter form a last group, if there are any."""

    def __init__(self, run: Run) -> None:
        num_adapters = len(run.adapters)
        self.of = np.where(run.requests.adapter < 0, num_adapters, run.requests.adapter)
        base = bool((self.of == num_adapters).any())
        self.size = num_adapters + base
        self.names = run.adapters.name + ((NO_ADAPTER,) if base else ())
        self.adapter = np.concatenate([np.arange(num_adapters), [-1] * base]).astype(np.int32)

    def count(self, which: BoolArray | None = None) -> IntArray:
        return np.bincount(self.of if which is None else self.of[which], minlength=self.size).astype(np.int32)

    def sum(self, values: FloatArray, which: BoolArray | None = None) -> FloatArray:
        chosen = slice(None) if which is None else which
        return np.bincount(self.of[chosen], weights=values[chosen], minlength=self.size).astype(np.float64)

    def mean_and_percentiles(
        self, values: FloatArray, which: BoolArray, percents: tuple[float, ...]
    ) -> tuple[FloatArray, ...]:
        """Mean and percentiles (linear, as numpy's) of `values`, which belong to the requests `which`."""
        of = self.of[which]
        count = self.count(which)
        total = np.bincount(of, weights=values, minlength=self.size).astype(np.float64)
        mean = _share(total, count.astype(np.float64))
        ordered = values[np.lexsort((values, of))]
        return mean, *(_grouped_percentile(ordered, count, percent) for percent in percents)


def _grouped_percentile(ordered: FloatArray, count: IntArray, percent: float) -> FloatArray:
    """Percentile of each group of `ordered`, whose groups follow each other, sorted within."""
    some = count > 0
    first = (np.cumsum(count) - count)[some]
    place = percent / 100 * (count[some] - 1)
    low = np.floor(place).astype(np.int64)
    at_low, at_high = ordered[first + low], ordered[first + np.minimum(low + 1, count[some] - 1)]
    result = np.full(len(count), np.nan)
    result[some] = at_low + (place - low) * (at_high - at_low)
    return result
