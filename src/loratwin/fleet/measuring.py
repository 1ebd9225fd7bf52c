"""A placement on real servers: the load client is the router, and the twin's fleet stands beside what it measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.files import load_placement
from loratwin.fleet.placement import Placement
from loratwin.fleet.routers import ROUTERS, Router, find_router, holders_of
from loratwin.fleet.simulation import router_numbers, servers_beforehand, simulate_fleet
from loratwin.fleet.split import adapter_rows
from loratwin.kernel.routing import LEAST_IN_FLIGHT
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.workload import Workload, recorded_workload

if TYPE_CHECKING:
    from loratwin.bench import GivenServers, Listener, Options, Routing
    from loratwin.bench.running import PlacedServer


def placement_to_measure(path: str | Path, others: Mapping[str, object]) -> Placement:
    """Read a placement to be measured.

    Parameters
    ----------
    others
        Options beside it -> values; those of servers that are all alike do not go with it, where they are given.

    Raises
    ------
    InputError
        As `load_placement`; or such an option is given.
    """
    if given := [option for option, value in others.items() if value]:
        raise InputError(
            f"--fleet: {', '.join(given)} {'is' if len(given) == 1 else 'are'} not for it: the plan says what each "
            "server is, and --url where it answers"
        )
    return load_placement(path)


def measure_fleet(
    placement: Placement,
    workload: Workload,
    urls: Sequence[str],
    output: str | Path = "bench.json",
    *,
    router: str = "fractions",
    options: Options | None = None,
    llm: str | None = None,
    lora_folder: str | Path | None = None,
    force: bool = False,
    listener: Listener | None = None,
) -> Run:
    """Send a workload to the servers of a placement, with the load client as the router; what `bench --fleet` does.

    Parameters
    ----------
    urls
        Address of each server, in the placement's order.
    output
        The record of all; each server has one of its own beside it, named after the server.
    router
        One that shares requests out beforehand, or counts what is in flight: `client_routers`.
    options, force, listener
        As of `loratwin.bench.measure`.
    llm, lora_folder
        As of `loratwin.bench.GivenServers`; each server is given the adapters that it holds.

    Raises
    ------
    InputError
        As `routing_of` and `servers_of`; or as `loratwin.bench.measure`.
    """
    from loratwin.bench import SILENT, Options, measure

    sent = replace(options or Options(), routing=routing_of(placement, workload, router))
    servers = servers_of(placement, workload, urls, llm, lora_folder)
    return measure(workload, servers, output, options=sent, force=force, listener=listener or SILENT)


def fleet_twin(placement: Placement, run: Run, router: str, profiles: Mapping[str, Profile] | None = None) -> Run:
    """The same requests through the twin's fleet, as `simulate_fleet` has it."""
    return simulate_fleet(placement, recorded_workload(run), router, profiles=profiles).run


def client_routers() -> tuple[str, ...]:
    """Routers that the load client can be: those that need nothing that it does not know itself."""
    return tuple(name for name, router in ROUTERS.items() if _known_here(router))


def _known_here(router: Router) -> bool:
    return router.rule is None or router.rule.kind == LEAST_IN_FLIGHT


def routing_of(placement: Placement, workload: Workload, name: str) -> Routing:
    """What the load client needs to know to be this router, with the same numbers drawn as the twin's.

    Raises
    ------
    InputError
        It looks into the servers, which the load client does not; or as `loratwin.fleet.simulate_fleet`.
    """
    from loratwin.bench import Routing

    workload.check_rated("a fleet")
    router = find_router(name)
    if not _known_here(router):
        raise InputError(
            f"--router {name}: it looks into the servers, which the load client does not: start that router and give "
            f"its address alone (--url), or take {', '.join(client_routers())}"
        )
    holders, _ = holders_of(placement, workload, router)
    chosen = None if router.choose is None else servers_beforehand(placement, workload, router)
    numbers = router_numbers(workload)[:, 0]
    return Routing(holders.first, holders.server, np.ascontiguousarray(numbers), chosen)


def servers_of(
    placement: Placement,
    workload: Workload,
    urls: Sequence[str],
    llm: str | None = None,
    lora_folder: str | Path | None = None,
) -> GivenServers:
    """The servers of a placement at their addresses.

    Raises
    ------
    InputError
        Not as many addresses as servers.
    """
    from loratwin.bench import GivenServers

    if len(urls) != placement.num_servers:
        names = ", ".join(server.name for server in placement.servers)
        raise InputError(
            f"--fleet: {len(urls)} addresses (--url) for {placement.num_servers} servers; one for each of {names}"
        )
    return GivenServers(urls, llm=llm, lora_folder=lora_folder, planned=_planned(placement, workload))


def _planned(placement: Placement, workload: Workload) -> tuple[PlacedServer, ...]:
    from loratwin.bench.running import PlacedServer

    number = np.full(len(placement.adapters) + 1, -1, np.int64)  # of the workload's adapters; the last: without one
    number[adapter_rows(placement, workload)] = np.arange(len(workload.adapters))
    held = [np.sort(number[placement.adapter[placement.entries_of(server)]]) for server in range(placement.num_servers)]
    return tuple(
        PlacedServer(server.name, server.config, tuple(numbers[numbers >= 0].tolist()))
        for server, numbers in zip(placement.servers, held, strict=True)
    )
