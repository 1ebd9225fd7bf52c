"""The server's own figures over the window, from what was scraped of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from loratwin.records import Gauges, PrefixCounts, Samples
from loratwin.records.columns import FloatArray


def scraped_gauges(sources: Sequence[Samples]) -> Gauges | None:
    """Means and maxima over the samples of the servers (all replicas together); None where nothing was scraped."""
    from loratwin.telemetry import canonical  # not at the top: the load client imports this package too

    servers = [canonical(source) for source in sources if source.source.startswith("server")]
    known = {name: [series[name].values for series in servers if name in series] for name in ("running", "waiting")}
    if not servers or not all(known.values()):
        return None
    usage = [series["kv_usage"].values for series in servers if "kv_usage" in series]
    figures: dict[str, Any] = {
        **_over_window("running", _together(known["running"])),
        **_over_window("waiting", _together(known["waiting"])),
        **(_over_window("kv_usage", _together(usage) / len(usage)) if usage else {}),
    }
    return Gauges(**figures)


def scraped_prefix_counts(sources: Sequence[Samples], block_size: int) -> PrefixCounts | None:
    """What the servers' prefix caches counted over the window, in tokens; None where none tells.

    Parameters
    ----------
    block_size
        Tokens of a block: vLLM 0.8.5 counts in blocks.
    """
    from loratwin.telemetry import canonical, increase  # not at the top: the load client imports this package too

    servers = [canonical(source) for source in sources if source.source.startswith("server")]

    def total(name: str) -> float:
        grown = [increase(series[name]) for series in servers if name in series]
        return float(np.sum(grown)) if grown else float("nan")

    for queries, hits, tokens in (
        ("prefix_queries", "prefix_hits", 1),
        ("prefix_query_blocks", "prefix_hit_blocks", block_size),
    ):
        query_count, hit_count = total(queries), total(hits)
        if np.isfinite(query_count) and np.isfinite(hit_count):
            return PrefixCounts(round(query_count) * tokens, round(hit_count) * tokens)
    return None


def _together(values: Sequence[FloatArray]) -> FloatArray:
    """Sum over servers; their samples are taken at the same ticks, and a server may miss the last."""
    shortest = min(map(len, values))
    total: FloatArray = np.sum([series[:shortest] for series in values], axis=0)
    return total


def _over_window(name: str, values: FloatArray) -> dict[str, float]:
    values = values[~np.isnan(values)]
    if not len(values):
        return {}
    return {f"{name}_mean": float(values.mean()), f"{name}_max": float(values.max())}
