"""Run servers behind a router to the end and collect what became of each request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from loratwin.errors import InputError
from loratwin.kernel.fleet import FleetServer, Routed, Totals, serve
from loratwin.kernel.routing import NUM_SIGNALS, Holders, RouterRule, Watched
from loratwin.kernel.rows import leaves, row_of
from loratwin.kernel.state import new_state
from loratwin.kernel.trace import REQUEST_TYPES, STEP_TYPES, check_limits, fixed, one_type
from loratwin.kernel.types import F8, I4, AdapterCosts, EngineLimits, Requests, StepCost, StepTrace


class ServerModel(NamedTuple):
    """What the twin knows of one server before the run."""

    limits: EngineLimits
    costs: AdapterCosts  # of the adapters that live there, in the order of their numbers there
    step_cost: StepCost


class Scrapes(NamedTuple):
    """When the router asks the servers: each every so many seconds, for the first time at its own phase."""

    every_s: float  # 0: it sees everything as of now
    phase_s: F8  # (servers,), drawn beforehand


class FleetTrace(NamedTuple):
    """What happened to each request, shape (requests,), NaN: never; and sums over each server's steps."""

    server: I4
    admitted_s: F8
    first_token_s: F8
    finish_s: F8
    num_preemptions: I4
    refused: np.ndarray
    totals: Totals


def run_fleet(
    requests: Requests,
    servers: Sequence[ServerModel],
    holders: Holders,
    rule: RouterRule,
    numbers: F8,
    scrapes: Scrapes,
) -> FleetTrace:
    """Simulate servers and the router before them until the window ends, the same for all.

    Parameters
    ----------
    requests
        In order of arrival, adapters as in the rows of `holders`.
    numbers
        Drawn beforehand, in [0, 1), shape (requests, 2): ties, and which two are looked at.

    Raises
    ------
    InputError
        See `check_limits`; or a request that no server may get.
    """
    for server in servers:
        check_limits(requests, server.limits)
    _check_holders(requests, holders)
    requests = Requests._make(map(fixed, requests, REQUEST_TYPES))
    capacity = _place(len(requests.arrival_s), len(servers))
    states = [_new_server(server, requests, capacity) for server in servers]
    n, num = len(requests.arrival_s), len(servers)
    watched = _watch(states, scrapes)
    totals = Totals(*np.zeros((6, num)), *np.zeros((3, num), np.int64))
    routed = Routed(*np.full((2, n), -1, np.int32))
    log = StepTrace(*(np.empty(1, dtype) for dtype in STEP_TYPES))
    window_s = float(servers[0].limits.window_s)
    columns = (fixed(numbers, np.float64), float(scrapes.every_s), window_s, watched, totals, routed)
    holders = Holders(fixed(holders.first, np.int64), fixed(holders.server, np.int32), fixed(holders.local, np.int32))
    rule = RouterRule(int(rule.kind), int(rule.affinity), *map(float, rule[2:]))
    rows, next_request = np.stack([row_of(state) for state in states]), 0
    while next_request <= n:
        next_request = serve(rows, states[0], log, requests, holders, rule, *columns, next_request)
        if next_request < n:
            for k in np.flatnonzero(watched.sent >= [len(state.requests.adapter) for state in states]).tolist():
                states[k] = _grown(states[k], requests, servers[k])
                rows[k] = row_of(states[k])
    return _collect(states, routed, totals)


def _place(num_requests: int, num_servers: int) -> int:
    """Requests for which each server has place at first: an even share and some more."""
    return num_requests // num_servers + 64


def _check_holders(requests: Requests, holders: Holders) -> None:
    rows = np.where(requests.adapter >= 0, requests.adapter, len(holders.first) - 2)
    nobody = np.flatnonzero(np.diff(holders.first)[rows] == 0)
    if len(nobody):
        raise InputError(f"no server holds adapter {requests.adapter[nobody[0]]}, and request {nobody[0]} asks for it")


def _new_server(server: ServerModel, requests: Requests, capacity: int) -> FleetServer:
    """An idle server with place for so many requests, none of which has come.

    They share nothing, so a prefix cache would at most find again what was preempted: it is left out.
    """
    longest = np.full(capacity, int(requests.output_tokens.max(initial=1)), np.int32)
    adapter, prompt = np.zeros((2, capacity), np.int32)
    rest = (np.zeros(0, dtype) for dtype in REQUEST_TYPES[4:])  # its own: to be written to, as all of a server's
    empty = Requests(np.full(capacity, np.inf), adapter, prompt, longest, *rest)
    limits = server.limits._replace(rules=server.limits.rules._replace(prefix_caching=0))
    _, limits, costs, step_cost = one_type(empty, limits, server.costs, server.step_cost)
    state = new_state(empty, limits, len(costs.swap_in_s), 0, with_pool=False)
    costs = AdapterCosts(*(np.array(seconds) for seconds in costs))
    return FleetServer(state, empty, limits, costs, step_cost)


def _grown(old: FleetServer, requests: Requests, model: ServerModel) -> FleetServer:
    """The same server with place for twice as many requests."""
    new = _new_server(model, requests, 2 * len(old.requests.adapter))
    for before, after in zip(leaves(old), leaves(new), strict=True):
        if isinstance(before, np.ndarray) and len(before):
            after[: len(before)] = before
    return new


def _watch(states: Sequence[FleetServer], scrapes: Scrapes) -> Watched:
    """Nothing sent, nothing seen."""
    num = len(states)
    starts = np.concatenate([[0], np.cumsum([len(state.costs.swap_in_s) for state in states])]).astype(np.int64)
    return Watched(
        sent=np.zeros(num, np.int64),
        in_flight=np.zeros(num, np.int64),
        next_s=np.full(num, np.inf),
        seen_s=np.full(num, -np.inf),
        phase_s=np.array(scrapes.phase_s, np.float64),
        before=np.zeros((num, NUM_SIGNALS), np.int64),
        seen=np.zeros((num, NUM_SIGNALS), np.int64),
        flags_before=np.zeros(starts[-1], np.int8),
        flags_seen=np.zeros(starts[-1], np.int8),
        flag_start=starts,
        num_blocks=np.array([state.limits.num_blocks for state in states]),
        max_loras=np.array([state.limits.max_loras for state in states]),
    )


def _collect(states: Sequence[FleetServer], routed: Routed, totals: Totals) -> FleetTrace:
    n = len(routed.server)
    columns: dict[str, Any] = {name: np.full(n, np.nan) for name in ("admitted_s", "first_token_s", "finish_s")}
    columns |= {"num_preemptions": np.zeros(n, np.int32), "refused": np.zeros(n, bool)}
    order = np.argsort(routed.server, kind="stable")
    ends = np.searchsorted(routed.server[order], np.arange(len(states) + 1))
    for k, server in enumerate(states):
        here = order[ends[k] : ends[k + 1]]
        for name, column in columns.items():
            column[here] = getattr(server.state, name)[routed.place[here]]
    return FleetTrace(server=routed.server, totals=totals, **columns)
