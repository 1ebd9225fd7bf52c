"""A whole fleet under a router: every request with its times, and what each server had to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np

from loratwin.errors import CapacityError, InputError
from loratwin.fleet.placement import Placement
from loratwin.fleet.routers import Router, find_router, holders_of
from loratwin.fleet.split import order_by_server, routing_numbers, split_by_server
from loratwin.kernel import FleetTrace, Requests, Scrapes, run_fleet
from loratwin.metrics import AdapterFigures, gauges, per_adapter
from loratwin.perf import Profile, load_profile
from loratwin.records import AdapterTable, Gauges, PrefixCounts, Provenance, RequestTable, Run
from loratwin.simulate.engine import checked_kv_tokens, server_model, server_notes, simulate
from loratwin.simulate.outcome import each_once
from loratwin.simulate.workers import Progress, Workers, silent
from loratwin.version import __version__
from loratwin.workload import BASE, Workload
from loratwin.workload.arrays import F8, I4
from loratwin.workload.streams import stream

SCRAPE_S = 0.05
"""Between two looks at a server's /metrics, llm-d-router's own (docs/reference/routers.md)."""


@dataclass(frozen=True, eq=False)
class FleetRun:
    """What became of a workload on a fleet.

    Parameters
    ----------
    run
        All requests, each with its server (`requests.replica`); figures of `loratwin.metrics` are those of the fleet.
    placement
        Which adapters are where.
    router
        Its name.
    gauges
        Of each server, over the window.
    """

    run: Run
    placement: Placement
    router: str
    gauges: tuple[Gauges, ...]

    def adapters(self) -> AdapterFigures:
        """Figures of each adapter over the whole fleet: TTFT, and whether it starves."""
        return per_adapter(self.run)

    def requests_of(self) -> I4:
        """Requests that each server got, shape (num_servers,)."""
        assert self.run.requests.replica is not None
        counts: I4 = np.bincount(self.run.requests.replica, minlength=self.placement.num_servers).astype(np.int32)
        return counts

    def tokens_per_s(self) -> np.ndarray:
        """Prompt and output tokens per second that each server was asked for, shape (num_servers,)."""
        table = self.run.requests
        assert table.replica is not None
        tokens = table.prompt_tokens.astype(np.float64) + table.output_tokens
        return np.bincount(table.replica, weights=tokens, minlength=self.placement.num_servers) / self.run.window_s


class _Part(NamedTuple):
    """What is kept of one server's run; columns of shape (its requests,)."""

    admitted_s: np.ndarray
    first_token_s: np.ndarray
    finish_s: np.ndarray
    num_preemptions: np.ndarray
    refused: np.ndarray
    output_tokens: np.ndarray
    cached_tokens: np.ndarray
    prefix_cache: PrefixCounts | None
    gauges: Gauges
    kv_tokens: int
    notes: tuple[str, ...]


def simulate_fleet(
    placement: Placement,
    workload: Workload,
    router: str = "fractions",
    *,
    weights: Mapping[str, float] | None = None,
    scrape_s: float = SCRAPE_S,
    profiles: Mapping[str, Profile] | None = None,
    processes: int = 1,
    progress: Progress = silent,
) -> FleetRun:
    """Simulate all servers of a placement and the router before them.

    A router that shares requests out beforehand lets each server be simulated alone, on several cores; one that looks
    at the servers is asked request by request, in one process.

    Parameters
    ----------
    router
        One of `routers.ROUTERS`, or a product's name (`routers.SAME`).
    weights
        Of a router's scorers, by name; None: its own.
    scrape_s
        Seconds between two scrapes of a server, each at a phase of its own; 0: the router sees all as of now.
    profiles
        By the name that the placement gives; None: looked up.
    processes
        That simulate servers; the result does not depend on it.
    progress
        Is told how many servers are done.

    Raises
    ------
    InputError
        The placement is of another workload, the router is unknown or cannot do what the placement asks for, or
        clients wait for answers.
    CapacityError
        A server does not start; its name is said.
    """
    workload.check_rated("a fleet")
    if workload.sharing is not None and workload.sharing.waits:
        raise InputError("a fleet needs requests that come at their times, and some of these follow others")
    if not 0 <= scrape_s < float("inf"):
        raise InputError(f"scrape_s = {scrape_s:g}: it must be 0 or a positive number of seconds")
    chosen = find_router(router, weights)
    names = {server.profile for server in placement.servers}
    known = {name: (profiles or {}).get(name) or load_profile(name) for name in names}
    simulated = _looking if chosen.rule is not None else _apart
    return simulated(placement, workload, router, chosen, known, scrape_s, processes, progress)


def _apart(
    placement: Placement,
    workload: Workload,
    name: str,
    router: Router,
    profiles: Mapping[str, Profile],
    scrape_s: float,
    processes: int,
    progress: Progress,
) -> FleetRun:
    """Share the requests out, then simulate each server alone."""
    assert router.choose is not None
    server = servers_beforehand(placement, workload, router)
    order = order_by_server(server, placement.num_servers)
    parts = split_by_server(placement, workload, server, order)
    with Workers(partial(_part, placement, profiles), processes) as workers:
        done = workers.map(list(enumerate(parts)), progress)
    prefix_cache = _counted([part.prefix_cache for part in done])
    kept = _Part._fields[: 6 if prefix_cache is None else 7]
    columns = {name: np.concatenate([getattr(part, name) for part in done]) for name in kept}
    table = {}
    for column, values in columns.items():
        table[column] = np.empty_like(values)
        table[column][order] = values
    notes = each_once(note for part in done for note in part.notes)
    kv_tokens = sum(part.kv_tokens for part in done)
    gauges = tuple(part.gauges for part in done)
    return _fleet_run(placement, workload, name, profiles, server, table, gauges, kv_tokens, notes, prefix_cache)


def servers_beforehand(placement: Placement, workload: Workload, router: Router) -> I4:
    """The server of each request under a router that does not look at them, shape (num_requests,)."""
    assert router.choose is not None
    holders, fraction = holders_of(placement, workload, router)
    rows = _rows(workload)
    entry = router.choose(holders, fraction, rows, routing_numbers(workload.seed, workload.num_requests))
    return holders.server[entry]


def router_numbers(workload: Workload) -> F8:
    """What a router that looks at the servers draws for each request, in [0, 1), shape (num_requests, 2)."""
    return stream(workload.seed, "fleet", "router").random((workload.num_requests, 2))


def _rows(workload: Workload) -> I4:
    """Row of the holders for each request: the last is for those without adapter."""
    return np.where(workload.adapter == BASE, len(workload.adapters), workload.adapter).astype(np.int32)


def _part(placement: Placement, profiles: Mapping[str, Profile], task: tuple[int, Workload]) -> _Part:
    """Simulate one server; its steps are not kept."""
    server = placement.servers[task[0]]
    try:
        run = simulate(task[1], profiles[server.profile], server.config)
    except CapacityError as error:
        raise CapacityError(f"{server.name}: {error}") from None
    table = run.requests
    assert table.num_preemptions is not None and run.kv_tokens is not None
    columns = (table.admitted_s, table.first_token_s, table.finish_s, table.num_preemptions, table.refused)
    cached = np.zeros(len(table), np.int32) if table.cached_tokens is None else table.cached_tokens
    return _Part(
        *columns, table.output_tokens, cached, run.prefix_cache, gauges(run), run.kv_tokens, run.provenance.notes
    )


def _counted(caches: Sequence[PrefixCounts | None]) -> PrefixCounts | None:
    """What the prefix caches of all servers were asked and had; None: no server has one."""
    there = [cache for cache in caches if cache is not None]
    if not there:
        return None
    return PrefixCounts(sum(cache.queries for cache in there), sum(cache.hits for cache in there))


def _looking(
    placement: Placement,
    workload: Workload,
    name: str,
    router: Router,
    profiles: Mapping[str, Profile],
    scrape_s: float,
    processes: int,
    progress: Progress,
) -> FleetRun:
    """Ask the router request by request, the servers as far as it sees them."""
    assert router.rule is not None
    if workload.sharing is not None:
        raise InputError(f"router {name!r} looks at the servers, and there the twin knows no shared prompts")
    holders, _ = holders_of(placement, workload, router)
    nothing = split_by_server(placement, _without_requests(workload), np.zeros(0, np.int32))
    tokens, models = [], []
    notes: list[str] = []
    for server, part in zip(placement.servers, nothing, strict=True):
        profile = profiles[server.profile]
        try:
            tokens.append(checked_kv_tokens(part, profile, server.config))
        except CapacityError as error:
            raise CapacityError(f"{server.name}: {error}") from None
        models.append(server_model(part, profile, server.config, tokens[-1]))
        notes += server_notes(
            profile, server.config, len(part.adapters), workload.prompt_tokens, workload.output_tokens
        )
    output = _outputs(placement, workload, profiles)
    requests = Requests(workload.arrival_s, workload.adapter, workload.prompt_tokens, output)
    phase_s = stream(workload.seed, "fleet", "scrapes").random(placement.num_servers) * scrape_s
    numbers = router_numbers(workload)
    trace = run_fleet(requests, models, holders, router.rule, numbers, Scrapes(scrape_s, phase_s))
    progress(placement.num_servers)
    table = {column: getattr(trace, column) for column in _Part._fields[:5]} | {"output_tokens": output}
    gauges = tuple(_gauges(trace, k, model.limits.num_blocks + 1) for k, model in enumerate(models))
    return _fleet_run(placement, workload, name, profiles, trace.server, table, gauges, sum(tokens), each_once(notes))


def _without_requests(workload: Workload) -> Workload:
    none = np.zeros(0, np.int32)
    return replace(workload, arrival_s=np.zeros(0), adapter=none, prompt_tokens=none, output_tokens=none)


def _outputs(placement: Placement, workload: Workload, profiles: Mapping[str, Profile]) -> I4:
    """Output tokens, cut where the shortest context of all servers ends."""
    limit = min(each.config.max_model_len or profiles[each.profile].llm.max_model_len for each in placement.servers)
    longest = int(workload.prompt_tokens.max(initial=0))
    if longest >= limit:
        raise InputError(f"a prompt of {longest} tokens does not fit max_model_len = {limit}")
    cut: I4 = np.minimum(workload.output_tokens, limit - workload.prompt_tokens).astype(np.int32)
    return cut


def _gauges(trace: FleetTrace, k: int, blocks: int) -> Gauges:
    """One server's, as `metrics.gauges` has them of steps."""
    totals: Any = trace.totals
    return Gauges(
        running_mean=float(totals.running_mean[k]),
        running_max=float(totals.running_max[k]),
        waiting_mean=float(totals.waiting_mean[k]),
        waiting_max=float(totals.waiting_max[k]),
        kv_usage_mean=float(totals.blocks_mean[k]) / blocks,
        kv_usage_max=float(totals.blocks_max[k]) / blocks,
        swap_ins=int(totals.swap_ins[k]),
        disk_loads=int(totals.disk_loads[k]),
        num_steps=int(totals.steps[k]),
    )


def _fleet_run(
    placement: Placement,
    workload: Workload,
    router: str,
    profiles: Mapping[str, Profile],
    server: I4,
    table: Mapping[str, Any],
    gauges: tuple[Gauges, ...],
    kv_tokens: int,
    notes: tuple[str, ...],
    prefix_cache: PrefixCounts | None = None,
) -> FleetRun:
    """One record of all, with what its requests share: it can be replayed as it was."""
    profile = profiles[placement.servers[0].profile]
    run = Run(
        kind="simulated",
        window_s=workload.window_s,
        requests=RequestTable(
            arrival_s=workload.arrival_s,
            adapter=workload.adapter,
            prompt_tokens=workload.prompt_tokens,
            replica=server,
            **table,
        ),
        adapters=AdapterTable(workload.adapters.name, workload.adapters.rank, workload.adapters.rate_per_s),
        config=placement.servers[0].config,
        kv_tokens=kv_tokens,
        provenance=Provenance(
            created_by="loratwin.fleet",
            loratwin_version=__version__,
            engine_version=profile.engine,
            profile=profile.name,
            profile_hash=profile.digest,
            workload_hash=workload.digest,
            seed=workload.seed,
            notes=(f"{placement.num_servers} servers behind the router {router!r}", *notes),
        ),
        gauges=_sum(gauges),
        prefix_cache=prefix_cache,
        client_overhead_s=profile.frontend.overhead_s,
        sharing=workload.sharing,
    )
    return FleetRun(run, placement, router, gauges)


def _sum(gauges: tuple[Gauges, ...]) -> Gauges:
    """Of all servers together; KV usage is their mean."""
    total: dict[str, Any] = {name: sum(getattr(one, name) or 0 for one in gauges) for name in vars(gauges[0])}
    usage = {name: total[name] / len(gauges) for name in ("kv_usage_mean", "kv_usage_max")}
    return Gauges(**{**total, **usage})
