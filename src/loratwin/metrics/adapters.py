"""The same figures for each adapter: who gets what was asked for, and who starves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from loratwin.metrics.groups import Groups, share
from loratwin.metrics.latency import Side, finished, ttft_s
from loratwin.metrics.starvation import STARVED_RATIO, missing
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, IntArray


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
        return share(self.throughput, self.offered)

    @property
    def starving(self) -> tuple[str, ...]:
        """Names of the starved."""
        return tuple(name for name, starved in zip(self.name, self.starved, strict=True) if starved)


def per_adapter(run: Run, side: Side = "client") -> AdapterFigures:
    """Figures of each adapter; see `_starved` for the verdict."""
    groups = Groups(run)
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
        starved=_starved(share(served, asked), groups.count(missing(run))),
    )


def starving_adapters(run: Run) -> tuple[str, ...]:
    """Names of the starved, as `per_adapter(run).starving` in a fraction of the time."""
    groups, done = Groups(run), finished(run)
    tokens = run.requests.prompt_tokens.astype(np.float64) + run.requests.output_tokens
    starved = _starved(share(groups.sum(tokens, done), groups.sum(tokens)), groups.count(missing(run)))
    return tuple(groups.names[i] for i in np.flatnonzero(starved))


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
