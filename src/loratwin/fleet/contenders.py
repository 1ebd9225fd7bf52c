"""Ways of placing that are judged alike: the same requests, the twin's verdict, the best slots for each.

Sources: the greedy and MaxBackbone are those of arXiv 2602.24044, the learned models of the first replaced by the twin,
and the measured throughput of the second by the twin's; the others: `baselines.py`. First fit asks the twin, too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import nan

import numpy as np

from loratwin.fleet.balance import Entries
from loratwin.fleet.baselines import DEALERS, with_base, zig_zag
from loratwin.fleet.judge import Judge, Server
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.traffic import Share
from loratwin.fleet.worst import worst_adapters
from loratwin.plan.choice import Candidate
from loratwin.simulate import simulate
from loratwin.workload import BASE, Workload, faster
from loratwin.workload.arrays import F8

GRID = (8, 16, 32, 64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 576)
"""Numbers of adapters at which the published greedy tests a server."""

AT_A_TIME = 8
"""Servers that are judged at a time: the first that fails is enough."""

SATURATED = 4.0
"""How many servers' worth of requests show what one can do at most."""


@dataclass(frozen=True)
class Baseline:
    """What a method came to.

    Parameters
    ----------
    servers
        The fewest with which all work; None: none was found.
    entries
        The placement; None: none was found.
    fullest_to_mean
        By tokens.
    replicas
        Adapters on servers, counted on each: those that are split or copied count several times.
    margin
        How far all rates can grow on the server that has the least room (1: not at all), with the best slots for each.
    worst_adapter, worst_ttft_p99_ms
        Who waits longest, with the best slots for each.
    """

    name: str
    servers: int | None
    entries: Entries | None
    fullest_to_mean: float
    replicas: int = 0
    margin: float = nan
    worst_adapter: str = ""
    worst_ttft_p99_ms: float = nan


def none_found(name: str) -> Baseline:
    """A method that has no placement that works."""
    return Baseline(name, None, None, nan)


def outcome_of(judge: Judge, load: F8, name: str, packed: Packed | None) -> Baseline:
    """The figures of a placement that works; None: of none.

    Parameters
    ----------
    load
        Of each adapter, and last without adapter.
    """
    if packed is None:
        return none_found(name)
    loads = packed.entries.loads(load, len(packed.kinds))
    mean = float(loads.mean())
    best = Packer(judge, load, tuple(range(BASE, len(load) - 1))).finished(_without_empty(packed))
    worst = worst_adapters(judge, best)[0]
    return Baseline(
        name,
        len(packed.kinds),
        packed.entries,
        float(loads.max()) / mean if mean > 0 else nan,
        int((packed.entries.adapter != BASE).sum()),
        min(candidate.margin for candidate in best.candidates),
        worst.name,
        worst.ttft_p99_ms,
    )


def _without_empty(packed: Packed) -> Packed:
    used = sorted(set(packed.entries.server.tolist()))
    place = {server: i for i, server in enumerate(used)}
    entries = Entries.of([(a, place[j], part) for a, j, part in packed.entries.rows()])
    return Packed(entries, tuple(packed.kinds[j] for j in used), tuple(packed.candidates[j] for j in used))


def verified(judge: Judge, entries: Entries, number: int) -> Packed | None:
    """The placement as it is, with limits that work for each server; None: some server has none."""
    servers = Packer.servers(entries, [0] * number)
    order = sorted(range(number), key=lambda j: (-len(servers[j].content), j))
    found: dict[int, Candidate] = {}
    for at in range(0, number, AT_A_TIME):
        some = order[at : at + AT_A_TIME]
        configs = judge.working([servers[j] for j in some], "baselines")
        known = [config for config in configs if config is not None]
        if len(known) < len(some):
            return None
        for j, candidate in zip(some, judge.judged([servers[j] for j in some], known), strict=True):
            best = candidate if judge.works(candidate) else judge.best(servers[j])
            if best is None:
                return None
            found[j] = best
    return Packed(entries, (0,) * number, tuple(found[j] for j in range(number)))


def fewest_by(judge: Judge, load: F8, name: str, least: int, most: int) -> Packed | None:
    """The fewest servers (of the first kind) with which a method's placement works, from a number on; None: none."""
    adapters = judge.oracle.traffic.adapters
    for number in range(least, most + 1):
        packed = verified(judge, DEALERS[name](load, adapters.rank, adapters.name, number), number)
        if packed is not None:
            return packed
    return None


def _fits(judge: Judge, adapters: Sequence[int], what: str) -> bool:
    """Whether a server with these whole adapters works, as it is judged in the end."""
    server = Server(0, tuple(sorted(Share(a, 0.0, 1.0) for a in adapters)))
    (config,) = judge.working([server], what)
    return config is not None and judge.works(judge.judged([server], [config], what)[0])


def greedy(judge: Judge, load: F8, most: int) -> Packed | None:
    """The published greedy: next fit in zig-zag order by rank, tested by the twin at the points of a grid."""
    queue = zig_zag(judge.oracle.traffic.adapters.rank, load)
    homes: list[list[int]] = []
    while queue:
        fitting = 0
        for point in (*(each for each in GRID if each < len(queue)), len(queue)):
            if not _fits(judge, queue[:point], "greedy"):
                break
            fitting = point
            if point >= GRID[-1]:
                break
        if not fitting or len(homes) >= most:
            return None
        homes.append(queue[:fitting])
        queue = queue[fitting:]
    return _placed(judge, homes, load)


def first_fit(judge: Judge, load: F8, most: int) -> Packed | None:
    """Whole adapters by falling load, each to the first server on which the twin has it work beside those there.

    Server by server, which comes to the same: what does not fit beside those before it is left for the next one. One
    that asks for less is taken to fit where one that asks for more does, so that it is found by bisection.
    """
    order = sorted(range(len(load) - 1), key=lambda a: (-load[a], a))
    homes = first_fit_homes(order, lambda held: _fits(judge, held, "first fit"), most)
    return None if homes is None else _placed(judge, homes, load)


def first_fit_homes(order: Sequence[int], fits: Callable[[Sequence[int]], bool], most: int) -> list[list[int]] | None:
    """What each server holds; None: one adapter does not fit anywhere, or there would have to be more than most."""
    queue, homes = list(order), list[list[int]]()
    while queue:
        if len(homes) >= most or not fits(queue[:1]):
            return None
        homes.append(_first_that_fit(queue, fits))
        queue = [a for a in queue if a not in set(homes[-1])]
    return homes


def _first_that_fit(queue: Sequence[int], fits: Callable[[Sequence[int]], bool]) -> list[int]:
    """Those that a server takes of adapters that come by falling load."""
    held: list[int] = []
    at = 0
    while at < len(queue):
        taken = _most(lambda number, held=tuple(held), at=at: fits([*held, *queue[at : at + number]]), len(queue) - at)  # type: ignore[misc]
        held += queue[at : at + taken]
        at += taken
        left = len(queue) - at
        if left:  # of the last so many the first
            at = len(queue) - _most(lambda number, held=tuple(held): fits([*held, queue[-number]]), left)  # type: ignore[misc]
    return held


def _most(works: Callable[[int], bool], most: int) -> int:
    """The largest number up to which it works; 0: not even with one."""
    if not works(1):
        return 0
    if works(most):
        return most
    good, bad = 1, most
    while bad - good > 1:
        middle = (good + bad) // 2
        good, bad = (middle, bad) if works(middle) else (good, middle)
    return good


def max_backbone(judge: Judge, load: F8, least: int, most: int, share: float = 1.0) -> Packed | None:
    """Whole adapters as listed, each to the last server while it is asked for no more than the LLM alone can do.

    Parameters
    ----------
    least
        Servers that there must be, by which the traffic is scaled that shows what the LLM can do.
    share
        Of what the LLM alone can do.
    """
    capacity = share * backbone_tokens_per_s(judge, least)
    homes: list[list[int]] = []
    level = np.inf
    for a in range(len(load) - 1):
        if level + load[a] > capacity:
            homes.append([])
            level = 0.0
        homes[-1].append(a)
        level += float(load[a])
    if len(homes) > most or (load[:-1] > capacity).any():
        return None
    return _placed(judge, homes, load)


def backbone_tokens_per_s(judge: Judge, least: int) -> float:
    """Prompt and output tokens per second of one server without adapters that always has requests waiting.

    In the second half of the window: in the first its batch fills.
    """
    share = min(1.0, SATURATED / least)
    packer = Packer(judge, judge.oracle.traffic.tokens_per_s(), tuple(range(BASE, len(judge.oracle.traffic.adapters))))
    server = Server(
        0, packer.even_share(1, 0).content if share == 1 else packer.even_share(round(1 / share), 0).content
    )
    asked = faster(_without_adapters(judge.oracle.bench(server).workloads[0]), max(1.0, SATURATED / least))
    settings = judge.settings[0]
    found = []
    for sequences in settings.sequence_options():
        config = judge.empty_config(0).replace(max_num_seqs=sequences)
        table = simulate(asked, judge.oracle.profiles[0], config).requests
        late = (table.finish_s > asked.window_s / 2) & (table.finish_s <= asked.window_s)
        found.append(float((table.prompt_tokens + table.output_tokens)[late].sum()) / (asked.window_s / 2))
    return max(found)


def _without_adapters(workload: Workload) -> Workload:
    return replace(
        workload,
        adapter=np.full(workload.num_requests, BASE, np.int32),
        adapters=workload.adapters.take(np.zeros(0, np.int32)),
        base_rate_per_s=workload.total_rate_per_s,
    )


def _placed(judge: Judge, homes: Sequence[Sequence[int]], load: F8) -> Packed | None:
    """Whole adapters on their servers, traffic without adapter on all; None: that does not work as it is."""
    rows = [(a, j, 1.0) for j, own in enumerate(homes) for a in own]
    return verified(judge, with_base(rows, load, len(homes)), len(homes))
