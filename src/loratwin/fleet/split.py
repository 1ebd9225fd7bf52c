"""Requests shared out over the servers of a placement by its fractions: nothing random but numbers drawn beforehand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.fleet.placement import Placement
from loratwin.workload import BASE, Workload
from loratwin.workload.arrays import F8, I4, Adapters
from loratwin.workload.streams import stream


def routing_numbers(seed: int, num_requests: int) -> F8:
    """One number in [0, 1) for each request, shape (num_requests,): the same for every placement."""
    return stream(seed, "fleet", "routing").random(num_requests)


def adapter_rows(placement: Placement, workload: Workload) -> I4:
    """Index in the placement of each adapter of the workload, shape (num_adapters,): they are found by name.

    Raises
    ------
    InputError
        The placement does not know an adapter, or has no server for traffic without one.
    """
    index: Mapping[str, int] = {name: i for i, name in enumerate(placement.adapters)}
    for name in workload.adapters.name:
        if name not in index:
            raise InputError(f"the placement has no adapter {name!r}, for which the workload has requests")
    if np.any(workload.adapter == BASE) and not (len(placement.adapter) and placement.adapter[0] == BASE):
        raise InputError("the placement has no server for requests without adapter (base), and the workload has some")
    return np.array([index[name] for name in workload.adapters.name], np.int32)


def server_of_requests(placement: Placement, workload: Workload, numbers: F8) -> I4:
    """The server of each request, by the fractions of its adapter.

    Parameters
    ----------
    numbers
        Of `routing_numbers`, shape (num_requests,): a request whose adapter has fractions 0.3 and 0.7 goes to the first
        server where its number is below 0.3.

    Returns
    -------
    Array of shape (num_requests,), indices of servers.

    Raises
    ------
    InputError
        As `adapter_rows`.
    """
    rows = np.append(adapter_rows(placement, workload), np.int32(BASE))[workload.adapter]  # -1 is the last
    used = np.flatnonzero(placement.fraction > 0)
    first = np.searchsorted(placement.adapter[used], np.arange(BASE, len(placement.adapters) + 1))
    return placement.server[used][entry_by_fraction(first, placement.fraction[used], rows - BASE, numbers)]


def entry_by_fraction(first: NDArray[np.integer], fraction: F8, rows: I4, numbers: F8) -> I4:
    """The entry of each request in whose part of [0, 1) its number lies.

    Parameters
    ----------
    first
        Where each row of entries begins, and last where the last one ends: shape (num_rows + 1,).
    fraction
        Of each entry; those of a row add up to 1.
    rows, numbers
        Of each request, shape (num_requests,).
    """
    total = np.cumsum(fraction)
    before = np.append(0.0, total)[first[rows]]
    entry = np.searchsorted(total, before + numbers, side="right")
    chosen: I4 = np.clip(entry, first[rows], first[rows + 1] - 1).astype(np.int32)  # rounding: never another row's
    return chosen


def split_requests(placement: Placement, workload: Workload, numbers: F8) -> tuple[Workload, ...]:
    """The requests of each server as a workload of its own, with the adapters that live there.

    Parameters
    ----------
    numbers
        Of `routing_numbers`, shape (num_requests,).

    Returns
    -------
    One workload for each server. Rates are those of the adapters times the fractions.

    Raises
    ------
    InputError
        As `adapter_rows`; or clients send when they are answered, so that requests cannot be shared out beforehand.
    """
    workload.check_rated("a fleet")
    return split_by_server(placement, workload, server_of_requests(placement, workload, numbers))


def order_by_server(chosen: I4, num_servers: int) -> NDArray[np.intp]:
    """Index that sorts requests by their servers, and each server's by arrival; shape (num_requests,)."""
    small = num_servers <= np.iinfo(np.uint16).max  # these numpy sorts by their digits, many times as fast
    return np.argsort(chosen.astype(np.uint16) if small else chosen, kind="stable")


def split_by_server(
    placement: Placement, workload: Workload, chosen: I4, order: NDArray[np.intp] | None = None
) -> tuple[Workload, ...]:
    """The same where it is known which server gets each request.

    Parameters
    ----------
    chosen
        Server of each request, shape (num_requests,).
    order
        Of `order_by_server`; None: found here.
    """
    order = order_by_server(chosen, placement.num_servers) if order is None else order
    ends = np.searchsorted(chosen[order], np.arange(placement.num_servers + 1))
    rows = adapter_rows(placement, workload)
    return tuple(
        _part(placement, workload, rows, server, order[ends[server] : ends[server + 1]])
        for server in range(placement.num_servers)
    )


def part_of_server(placement: Placement, workload: Workload, server: int, chosen: I4) -> Workload:
    """The requests of one server, with the adapters that live there.

    Parameters
    ----------
    server
        Its index.
    chosen
        Server of each request, shape (num_requests,).
    """
    return _part(placement, workload, adapter_rows(placement, workload), server, np.flatnonzero(chosen == server))


def _part(placement: Placement, workload: Workload, rows: I4, server: int, requests: np.ndarray) -> Workload:
    entries = placement.entries_of(server)
    fraction = np.zeros(len(placement.adapters) + 1)  # the last: without adapter
    fraction[placement.adapter[entries]] = placement.fraction[entries]
    lives_here = np.zeros(len(placement.adapters) + 1, bool)
    lives_here[placement.adapter[entries]] = True
    hosted = np.flatnonzero(lives_here[rows]).astype(np.int32)
    new_index = np.full(len(workload.adapters) + 1, BASE, np.int32)  # the last: base stays base
    new_index[hosted] = np.arange(len(hosted), dtype=np.int32)
    adapters: Adapters = workload.adapters.take(hosted)
    return replace(
        workload,
        arrival_s=workload.arrival_s[requests],
        adapter=new_index[workload.adapter[requests]],
        prompt_tokens=workload.prompt_tokens[requests],
        output_tokens=workload.output_tokens[requests],
        sharing=None if workload.sharing is None else workload.sharing.take(requests),
        adapters=replace(adapters, rate_per_s=adapters.rate_per_s * fraction[rows[hosted]]),
        base_rate_per_s=workload.base_rate_per_s * float(fraction[-1]),
    )
