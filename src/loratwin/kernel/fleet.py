"""Several servers behind a router that looks at them: one loop over the arrivals.

Each request comes at its time; the servers that may get it are advanced to what the router sees of them (the last
scrape, and now), the rule chooses (`routing`), and the request joins the queue of one. A server is advanced by whole
steps, those that start before the time in question; what the step under way will bring is not seen. That is exact:
a server alone takes the same steps as in `advance`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.engine import run_until
from loratwin.kernel.jit import entry, jit
from loratwin.kernel.residency import USED
from loratwin.kernel.routing import (
    ACTIVE_NOW,
    BLOCKS_NOW,
    DONE_NOW,
    IDLE_IN_SLOTS,
    IN_SLOTS,
    IS_ACTIVE,
    IS_IN_HOST,
    IS_IN_SLOT,
    NUM_SIGNALS,
    WAITING_NOW,
    Holders,
    RouterRule,
    Watched,
    choose,
    counts_in_flight,
    looks_at_adapters,
    looks_at_servers,
)
from loratwin.kernel.rows import record_at
from loratwin.kernel.state import ARRIVED, FREE_BLOCKS, NOW, NUM_LEAVING, RUNNING, WAITING, State
from loratwin.kernel.types import F8, I1, I4, I8, AdapterCosts, EngineLimits, Requests, StepCost, StepTrace


class FleetServer(NamedTuple):
    """All that one server is; in compiled code a row of a table (`rows`)."""

    state: State
    requests: Requests  # as many as it may get; filled as they come
    limits: EngineLimits
    costs: AdapterCosts
    step_cost: StepCost


class Totals(NamedTuple):
    """Sums over each server's steps, shape (servers,). Means are over the window, the last step cut at its end."""

    running_mean: F8
    running_max: F8
    waiting_mean: F8
    waiting_max: F8
    blocks_mean: F8
    blocks_max: F8
    swap_ins: I8
    disk_loads: I8
    steps: I8


class Routed(NamedTuple):
    """Where each request went, shape (requests,)."""

    server: I4
    place: I4  # its number there


@jit
def _add_step(t: Totals, k: int, log: StepTrace, window_s: float) -> None:
    share = min(log.duration_s[0], window_s - log.start_s[0]) / window_s
    t.running_mean[k] += share * log.running[0]
    t.waiting_mean[k] += share * log.waiting[0]
    t.blocks_mean[k] += share * log.kv_blocks[0]
    t.running_max[k] = max(t.running_max[k], log.running[0])
    t.waiting_max[k] = max(t.waiting_max[k], log.waiting[0])
    t.blocks_max[k] = max(t.blocks_max[k], log.kv_blocks[0])
    t.swap_ins[k] += log.swap_ins[0]
    t.disk_loads[k] += log.disk_loads[0]
    t.steps[k] += 1


@jit
def _observe(server: FleetServer, k: int, signals: I8) -> None:
    """What the engine says of itself when a step has ended."""
    c = server.state.tally
    signals[k, WAITING_NOW] = c[WAITING]
    signals[k, BLOCKS_NOW] = server.limits.num_blocks - c[FREE_BLOCKS]
    signals[k, DONE_NOW] = c[ARRIVED] - c[WAITING] - c[RUNNING] + c[NUM_LEAVING]


@jit
def _observe_adapters(server: FleetServer, k: int, signals: I8, flags: I1, start: int) -> None:
    """What it says of its adapters."""
    q, slots, host = server.state.queue, server.state.residency.slots, server.state.residency.host
    active = idle = 0
    for a in range(slots.holds.shape[0]):
        is_active = (q.running[a] > 0) | (q.head[a] >= 0)
        flags[start + a] = is_active * IS_ACTIVE | slots.holds[a] * IS_IN_SLOT | host.holds[a] * IS_IN_HOST
        active += is_active
        idle += slots.holds[a] & (q.running[a] == 0)
    signals[k, ACTIVE_NOW] = active
    signals[k, IN_SLOTS] = slots.place[USED]
    signals[k, IDLE_IN_SLOTS] = idle


@jit
def _observe_all(server: FleetServer, k: int, w: Watched, signals: I8, flags: I1, adapters: bool) -> None:
    _observe(server, k, signals)
    if adapters:
        _observe_adapters(server, k, signals, flags, w.flag_start[k])


@jit
def _advance(
    server: FleetServer, k: int, w: Watched, t: Totals, log: StepTrace, until_s: float, adapters: bool
) -> None:
    """Take the steps that start before a time; `before` is what was told when the last of them started."""
    s, window_s = server.state, server.limits.window_s
    while True:
        if s.clock[NOW] < until_s:
            _observe_all(server, k, w, w.before, w.flags_before, adapters)
        if not run_until(s, server.requests, server.limits, server.costs, server.step_cost, log, until_s):
            break
        _add_step(t, k, log, window_s)
    idle = s.tally[WAITING] + s.tally[RUNNING] == 0 and s.tally[ARRIVED] == w.sent[k]
    w.next_s[k] = np.inf if idle else s.clock[NOW]


@jit
def _look(server: FleetServer, k: int, w: Watched, now_s: float, scraped: bool, adapters: bool) -> None:
    """Note what is told at a time: by a scrape, or by the answers that the router has got."""
    ended = server.state.clock[NOW] <= now_s
    if scraped:
        if ended:
            _observe_all(server, k, w, w.seen, w.flags_seen, adapters)
        else:
            for i in range(NUM_SIGNALS):
                w.seen[k, i] = w.before[k, i]
            if adapters:
                for a in range(w.flag_start[k], w.flag_start[k + 1]):
                    w.flags_seen[a] = w.flags_before[a]
        w.seen_s[k] = now_s
        return
    c = server.state.tally
    done = c[ARRIVED] - c[WAITING] - c[RUNNING] + c[NUM_LEAVING] if ended else w.before[k, DONE_NOW]
    w.in_flight[k] = w.sent[k] - done


@jit
def _last_scrape_s(w: Watched, k: int, now_s: float, scrape_s: float) -> float:
    """The latest time up to now at which a server was scraped; -inf: not yet."""
    if now_s < w.phase_s[k]:
        return -np.inf
    if scrape_s == 0.0:
        return now_s
    scraped_s = w.phase_s[k] + np.floor((now_s - w.phase_s[k]) / scrape_s) * scrape_s
    return min(scraped_s, now_s)


@jit
def _deliver(server: FleetServer, place: int, r: Requests, request: int, local: int) -> None:
    """A request joins those that the server knows of."""
    server.state.arrival_s[place] = r.arrival_s[request]
    server.requests.adapter[place] = local
    server.requests.prompt_tokens[place] = r.prompt_tokens[request]
    server.requests.output_tokens[place] = r.output_tokens[request]


@entry
def serve(
    rows: I8,
    example: FleetServer,
    log: StepTrace,
    r: Requests,
    h: Holders,
    rule: RouterRule,
    numbers: F8,
    scrape_s: float,
    window_s: float,
    w: Watched,
    t: Totals,
    routed: Routed,
    first: int,
) -> int:
    """Route requests from `first` on; the number of the one whose server has no place left, or of requests + 1.

    After the last all servers are advanced to the window's end.

    Parameters
    ----------
    rows
        The servers, shape (servers, leaves, 3), in the types of `example`.
    log
        Columns of length 1.
    r
        All requests in order of arrival, adapters as in the rows of `h`.
    numbers
        Drawn beforehand, in [0, 1), shape (requests, 2).
    scrape_s
        Time between two scrapes of a server; 0: the router sees all as of now.
    """
    n, num_servers = r.arrival_s.shape[0], rows.shape[0]
    scraped, adapters, counted = looks_at_servers(rule), looks_at_adapters(rule), counts_in_flight(rule)
    for request in range(first, n + 1):
        last = request == n
        now_s = window_s if last else min(r.arrival_s[request], window_s)
        row = 0 if last else (r.adapter[request] if r.adapter[request] >= 0 else h.first.shape[0] - 2)
        begin = 0 if last else h.first[row]
        end = num_servers if last else h.first[row + 1]
        for e in range(begin, end):
            k = np.int64(e if last else h.server[e])
            for what in range(2):
                if what == 0:
                    until_s = _last_scrape_s(w, k, now_s, scrape_s)
                    if last or not scraped or until_s <= w.seen_s[k]:
                        continue
                else:
                    until_s = now_s
                    if not last and not counted:
                        continue
                server = record_at(rows, k, example)
                if w.next_s[k] < until_s:
                    _advance(server, k, w, t, log, until_s, adapters)
                if not last:
                    _look(server, k, w, until_s, what == 0, adapters)
        if last:
            break
        chosen = choose(rule, h, row, w, numbers[request, 0], numbers[request, 1])
        k = np.int64(h.server[chosen])
        server = record_at(rows, k, example)
        if w.sent[k] == server.state.arrival_s.shape[0]:
            return request
        _deliver(server, w.sent[k], r, request, h.local[chosen])
        routed.server[request], routed.place[request] = k, w.sent[k]
        w.sent[k] += 1
        if w.next_s[k] == np.inf:
            w.next_s[k] = now_s
    return n + 1
