"""Tuned weights in words and as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratwin.fleet.tuning import Tried, Tuned
from loratwin.formatting import aligned, milliseconds, number
from loratwin.metrics import Interval
from loratwin.records.plain import as_plain
from loratwin.version import __version__

MOST_ROWS = 10
"""Weightings that a terminal is given; JSON has all."""

OBJECTIVES = {
    "worst_adapter": "mean TTFT of the adapter that waits longest",
    "ttft_p99": "TTFT p99 of all requests",
    "ttft_mean": "mean TTFT of all requests",
}

_HEADER = ("weights", "starved", "worst adapter", "TTFT p99", "TTFT", "tokens/s")


def tuned_lines(tuned: Tuned) -> list[str]:
    """The table, what the best is worth against the usual, and what to take."""
    shown = tuned.tried[:MOST_ROWS]
    rows = [*shown, *(() if tuned.usual in shown else (tuned.usual,))]
    tried = len(tuned.tried)
    return [
        f"{tried} weightings of {tuned.router}, {len(tuned.seeds)} seeds each, the same requests for all; "
        f"smallest: {OBJECTIVES[tuned.objective]}.",
        "",
        *aligned([_HEADER, *(_row(row, tuned) for row in rows)]).split("\n"),
        *([f"... and {tried - len(shown)} more (--json)"] if tried > len(shown) else []),
        "",
        *_evidence(tuned),
    ]


def weights_text(weights: Mapping[str, float]) -> str:
    """As `--weights` takes them: `queue=2,kv=2,lora=4`."""
    return ",".join(f"{name}={value:g}" for name, value in weights.items() if value or name != "load")


def _row(row: Tried, tuned: Tuned) -> tuple[str, ...]:
    usual = " (usual)" if row is tuned.usual else ""
    return (
        weights_text(row.weights) + usual,
        f"{row.figures.starved / len(tuned.seeds):.3g}",
        milliseconds(row.figures.worst_adapter),
        milliseconds(row.figures.ttft_p99),
        milliseconds(row.figures.ttft_mean),
        number(row.figures.throughput),
    )


def _evidence(tuned: Tuned) -> list[str]:
    usual = weights_text(tuned.usual.weights)
    if tuned.best is tuned.usual:
        return [f"The usual weights are the best of these: --weights {usual}"]
    difference, relative = tuned.difference, tuned.relative
    lines = [
        f"{weights_text(tuned.best.weights)} against the usual, on {len(tuned.check_seeds)} other seeds: "
        f"{difference.mean:+,.1f} ms ({100 * relative.mean:+.1f} %), 95 % interval {_range(difference)} ms.",
        f"Adapters starved on them: {tuned.starved[1]}, with the usual {tuned.starved[0]}.",
    ]
    if tuned.is_better:
        return [*lines, f"Take --weights {weights_text(tuned.weights)}"]
    return [*lines, f"That is not shown to be better: keep --weights {usual}"]


def _range(interval: Interval) -> str:
    return f"{interval.low:+,.1f} to {interval.high:+,.1f}"


def tuned_json(tuned: Tuned) -> dict[str, Any]:
    """All weightings with their figures, and the evidence."""
    return as_plain(
        {
            "format": 1,
            "kind": "tuned router",
            "loratwin_version": __version__,
            "router": tuned.router,
            "objective": tuned.objective,
            "grid": {name: list(values) for name, values in tuned.grid.items()},
            "seeds": list(tuned.seeds),
            "check_seeds": list(tuned.check_seeds),
            "weights": dict(tuned.weights),
            "is_better": tuned.is_better,
            "usual": _tried_json(tuned.usual),
            "best": _tried_json(tuned.best),
            "difference_ms": vars(tuned.difference),
            "relative_difference": vars(tuned.relative),
            "starved_usual": tuned.starved[0],
            "starved_best": tuned.starved[1],
            "tried": [_tried_json(row) for row in tuned.tried],
        }
    )


def _tried_json(row: Tried) -> dict[str, Any]:
    starved, worst, p99, mean, throughput = row.figures
    return {
        "weights": dict(row.weights),
        "starved_adapters": starved,
        "starved_adapters_most": row.starved_most,
        "worst_adapter_ttft_mean_ms": worst,
        "ttft_p99_ms": p99,
        "ttft_mean_ms": mean,
        "total_throughput": throughput,
    }
