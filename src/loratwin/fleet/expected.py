"""What each server of a placement should show on its `/metrics`, by the twin: as planned, and with all rates higher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from math import inf
from typing import NamedTuple

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.placement import Placement
from loratwin.fleet.simulation import FleetRun, simulate_fleet
from loratwin.metrics import finished, starvation, ttft_s
from loratwin.metrics.percentiles import percentiles
from loratwin.perf import Profile
from loratwin.plan.search import Progress
from loratwin.workload import Workload
from loratwin.workload.variants import faster


class Range(NamedTuple):
    """A figure of a server over the window."""

    usual: float
    """At the rates as planned, mean over the draws."""
    most: float
    """The highest of all draws, with the rates higher by the headroom."""


@dataclass(frozen=True)
class Expected:
    """Of one server.

    Parameters
    ----------
    requests_per_s
        That finish.
    waiting, running
        Requests in the queue and in the batch, means over the window.
    kv_usage
        Part of the KV cache in use, mean over the window, 0 to 1.
    ttft_p99_s
        At the engine, of its requests that got a first token, seconds; infinite: it starves; NaN: nobody got one.
    preemptions_per_s
        Requests that lose their blocks.
    """

    server: str
    requests_per_s: Range
    waiting: Range
    running: Range
    kv_usage: Range
    ttft_p99_s: Range
    preemptions_per_s: Range


_FIGURES = tuple(each.name for each in fields(Expected))[1:]


def expected_figures(
    placement: Placement,
    workloads: Sequence[Workload],
    headroom: float,
    *,
    profiles: Mapping[str, Profile] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[Expected, ...]:
    """Simulate the fleet by its fractions, for each draw, at the rates as they are and with headroom.

    Parameters
    ----------
    workloads
        Draws of the same workload.
    headroom
        Part by which all rates are higher, for the most that a figure should reach.
    profiles, processes
        As `simulate_fleet` has them.
    progress
        Is told how many simulations of servers are done, of how many.

    Raises
    ------
    InputError
        As `simulate_fleet`; or a server does not keep up with its requests, so that there is no range to expect.
    """
    done, total = 0, 2 * len(workloads) * placement.num_servers
    figures: dict[float, list[list[dict[str, float]]]] = {1.0: [], 1.0 + headroom: []}
    for factor, rows in figures.items():
        for workload in workloads:
            asked = faster(workload, factor)
            run = simulate_fleet(placement, asked, profiles=profiles, processes=processes)
            rows.append([_figures(run, k) for k in range(placement.num_servers)])
            done += placement.num_servers
            if progress is not None:
                progress(done, total, "what to expect")
    found = tuple(
        _expected(server.name, [row[k] for row in figures[1.0]], [row[k] for row in figures[1.0 + headroom]])
        for k, server in enumerate(placement.servers)
    )
    _check(found, headroom)
    return found


def _expected(name: str, usual: Sequence[Mapping[str, float]], most: Sequence[Mapping[str, float]]) -> Expected:
    ranges = {
        figure: Range(float(np.mean([row[figure] for row in usual])), max(row[figure] for row in most))
        for figure in _FIGURES
    }
    return Expected(name, **ranges)


def _figures(run: FleetRun, server: int) -> dict[str, float]:
    table, gauges = run.run.requests, run.gauges[server]
    assert table.replica is not None
    own = replace(run.run, requests=table.take(table.replica == server), gauges=gauges)
    assert own.requests.num_preemptions is not None
    waited = ttft_s(own, "engine")
    waited = waited[~np.isnan(waited)]
    return {
        "requests_per_s": float(finished(own).sum()) / own.window_s,
        "waiting": gauges.waiting_mean,
        "running": gauges.running_mean,
        "kv_usage": gauges.kv_usage_mean,
        "ttft_p99_s": inf if starvation(own).starved else percentiles(waited, [99])[0],
        "preemptions_per_s": float(own.requests.num_preemptions.sum()) / own.window_s,
    }


def _check(found: Sequence[Expected], headroom: float) -> None:
    for each in found:
        if each.ttft_p99_s.most == inf:
            raise InputError(
                f"{each.server} does not keep up with all rates {100 * headroom:g} % higher, so that there is nothing "
                "to expect of it: place fewer adapters there, or take less --headroom"
            )
