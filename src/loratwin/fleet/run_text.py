"""A simulated fleet in words and as plain data."""

from __future__ import annotations

from typing import Any

import numpy as np

from loratwin.fleet.simulation import FleetRun
from loratwin.formatting import number
from loratwin.metrics import AdapterFigures, summarize
from loratwin.records.plain import as_plain

MOST_ROWS = 10
"""Adapters that are shown: the worst ones."""


def fleet_run_lines(done: FleetRun, all_servers: bool = False) -> list[str]:
    """Headline, the servers (the busiest, or all), the worst adapters, notes."""
    figures, summary = done.adapters(), summarize(done.run)
    loads = done.tokens_per_s()
    lines = [
        f"{done.placement.num_servers} servers, router {done.router}: {number(summary.total_throughput)} of "
        f"{number(summary.offered_throughput)} tokens/s, TTFT {summary.ttft_mean_ms:,.0f} ms "
        f"(99 %: {summary.ttft_p99_ms:,.0f} ms), {len(figures.starving)} of {len(figures)} adapters starved",
        f"busiest server / mean: {_peak(loads):.2f} by tokens",
        "",
        *_server_lines(done, loads, all_servers),
        "",
        *_adapter_lines(figures),
    ]
    notes = [f"note: {note}" for note in done.run.provenance.notes[1:]]
    return [*lines, *([""] if notes else []), *notes]


def _peak(loads: np.ndarray) -> float:
    return float(loads.max() / loads.mean()) if loads.any() else float("nan")


def _server_lines(done: FleetRun, loads: np.ndarray, all_servers: bool) -> list[str]:
    requests, hosted = done.requests_of(), done.placement.num_hosted()
    order = range(len(loads)) if all_servers else np.argsort(-loads, kind="stable")[:MOST_ROWS].tolist()
    width = max(6, *(len(server.name) for server in done.placement.servers))
    lines = [f"{'server':{width}}  adapters  requests  tokens/s  running  waiting  KV used  swap-ins"]
    for k in order:
        seen = done.gauges[k]
        lines.append(
            f"{done.placement.servers[k].name:{width}}  {hosted[k]:8,}  {requests[k]:8,}  {loads[k]:8,.0f}  "
            f"{seen.running_mean:7.1f}  {seen.waiting_mean:7.1f}  {seen.kv_usage_mean:7.0%}  {seen.swap_ins:8,}"
        )
    return lines + _more(len(loads) - len(lines) + 1, "servers")


def _adapter_lines(figures: AdapterFigures) -> list[str]:
    """Starved ones first, then by mean TTFT."""
    slow = np.nan_to_num(figures.ttft_mean_ms, nan=-1.0)
    order = np.lexsort((-slow, ~figures.starved))[:MOST_ROWS].tolist()
    width = max(7, *(len(figures.name[i]) for i in order)) if order else 7
    lines = [f"{'adapter':{width}}  requests  served  TTFT ms      99 %"]
    for i in order:
        starved = "  starved" if figures.starved[i] else ""
        lines.append(
            f"{figures.name[i]:{width}}  {figures.requests[i]:8,}  {figures.served_share[i]:6.0%}  "
            f"{figures.ttft_mean_ms[i]:7,.0f}  {figures.ttft_p99_ms[i]:8,.0f}{starved}"
        )
    return lines + _more(len(figures) - len(lines) + 1, "adapters")


def _more(count: int, what: str) -> list[str]:
    return [f"... and {count:,} {what} more"] if count > 0 else []


def fleet_run_json(done: FleetRun) -> dict[str, Any]:
    """All figures; what is not known is null."""
    figures = done.adapters()
    rows = {name: value for name, value in vars(figures).items() if name not in ("name", "adapter")}
    loads, requests = done.tokens_per_s(), done.requests_of()
    servers = [
        {"name": server.name, "requests": requests[k], "tokens_per_s": loads[k], **vars(done.gauges[k])}
        for k, server in enumerate(done.placement.servers)
    ]
    data: dict[str, Any] = as_plain(
        {
            "format": 1,
            "kind": "simulated",
            "router": done.router,
            "summary": vars(summarize(done.run)),
            "busiest_over_mean": _peak(loads),
            "servers": servers,
            "adapters": {"name": list(figures.name), **rows},
            "notes": list(done.run.provenance.notes),
        }
    )
    return data
