"""Routers by name: how each picks the server of a request. What each does in its own words: docs/reference/routers.md.

Some need only the request's number, its adapter and what was drawn: they share requests out beforehand (`choose`). The
others look at the servers (`rule`): the kernel asks them request by request.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from hashlib import blake2b

import numpy as np

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet.placement import Placement
from loratwin.fleet.split import adapter_rows, entry_by_fraction
from loratwin.kernel import Holders, RouterRule
from loratwin.kernel.routing import ACTIVE, ACTIVE_TWICE, LEAST_IN_FLIGHT, RESIDENCY, SCORERS, TWO_CHOICES
from loratwin.workload import BASE, Workload
from loratwin.workload.arrays import F8, I4

GOLDEN = (5**0.5 - 1) / 2
"""Multiples of it, without their whole part, are spread evenly over [0, 1) however many there are."""

Choice = Callable[[Holders, F8, I4, F8], I4]
"""Entries of the holders, their fractions, the row of each request, its number in [0, 1) -> entry of each request."""

WEIGHTS = ("queue", "kv", "lora", "load")
"""Scorers that a router of weighted scores can have."""


@dataclass(frozen=True)
class Router:
    """A way to pick servers.

    Parameters
    ----------
    title
        What it does, in a few words.
    choose
        Shares requests out beforehand; None: it looks at the servers.
    rule
        What the kernel asks, where it looks at them.
    replicas
        Of an adapter's servers only so many, by rendezvous hash; 0: all.
    uses_fractions
        It follows the fractions of a placement.
    """

    title: str
    choose: Choice | None = None
    rule: RouterRule | None = None
    replicas: int = 0
    uses_fractions: bool = False


def by_fraction(holders: Holders, fraction: F8, rows: I4, numbers: F8) -> I4:
    """The holder in whose part of [0, 1) the number lies."""
    return entry_by_fraction(holders.first, fraction, rows, numbers)


def evenly(holders: Holders, fraction: F8, rows: I4, numbers: F8) -> I4:
    """Any holder, all as likely."""
    count = np.diff(holders.first)[rows]
    chosen: I4 = (holders.first[rows] + np.minimum((numbers * count).astype(np.int64), count - 1)).astype(np.int32)
    return chosen


def in_turn(holders: Holders, fraction: F8, rows: I4, numbers: F8) -> I4:
    """Requests are counted, whatever their adapter; the count modulo the number of holders says which."""
    chosen: I4 = (holders.first[rows] + np.arange(len(rows)) % np.diff(holders.first)[rows]).astype(np.int32)
    return chosen


def in_weighted_turn(holders: Holders, fraction: F8, rows: I4, numbers: F8) -> I4:
    """By fraction, without chance: the n-th request of an adapter has n times the golden ratio as its number."""
    order = np.argsort(rows, kind="stable")
    nth = np.empty(len(rows), np.int64)
    nth[order] = np.arange(len(rows)) - np.searchsorted(rows[order], rows[order])
    spread: F8 = np.mod((nth + 0.5) * GOLDEN, 1.0).astype(np.float64)
    return by_fraction(holders, fraction, rows, spread)


ROUTERS: dict[str, Router] = {
    "fractions": Router("by the placement's fractions, at random", by_fraction, uses_fractions=True),
    "weighted": Router("by the placement's fractions, in turn", in_weighted_turn, uses_fractions=True),
    "random": Router("any server that holds the adapter", evenly),
    "round-robin": Router("servers that hold the adapter in turn, one count for all requests", in_turn),
    "hash-1": Router("one server by rendezvous hash of the adapter's name", evenly, replicas=1),
    "hash-2": Router("two servers by rendezvous hash, at random", evenly, replicas=2),
    "least-in-flight": Router("fewest requests unanswered", rule=RouterRule(LEAST_IN_FLIGHT)),
    "two-choices": Router("two at random of those that have the adapter", rule=RouterRule(TWO_CHOICES)),
    "dynamo": Router("fewest unanswered of two by rendezvous hash", rule=RouterRule(LEAST_IN_FLIGHT), replicas=2),
    "llm-d": Router("scores of queue 2 and KV use 2", rule=RouterRule(SCORERS, queue=2, kv=2)),
    "llm-d-lora-before-2625": Router(
        "scores of queue 2, KV use 2, activity 4 (every adapter counted twice)",
        rule=RouterRule(SCORERS, ACTIVE_TWICE, queue=2, kv=2, lora=4),
    ),
    "llm-d-lora": Router(
        "scores of queue 2, KV use 2, activity 4", rule=RouterRule(SCORERS, ACTIVE, queue=2, kv=2, lora=4)
    ),
    "llm-d-residency": Router(
        "scores of queue 2, KV use 2, residency 4", rule=RouterRule(SCORERS, RESIDENCY, queue=2, kv=2, lora=4)
    ),
}

SAME = {
    "loraserve": "fractions",
    "production-stack": "round-robin",
    "aibrix": "random",
    "kubeai": "least-in-flight",
    "ray": "two-choices",
    "kserve": "llm-d-lora",
}
"""What does the same under another name."""


def find_router(name: str, weights: Mapping[str, float] | None = None) -> Router:
    """A router by its name, or the name of a product that routes so.

    Parameters
    ----------
    weights
        Of scorers (`WEIGHTS`), instead of the usual ones.

    Raises
    ------
    UnknownNameError
        No such router, or no such scorer.
    InputError
        Weights for a router that has none, negative, or all 0.
    """
    known = {**ROUTERS, **{other: ROUTERS[own] for other, own in SAME.items()}}
    if name not in known:
        raise UnknownNameError("router", name, known)
    router = known[name]
    if not weights:
        return router
    if router.rule is None or router.rule.kind != SCORERS:
        scoring = [other for other, one in ROUTERS.items() if one.rule is not None and one.rule.kind == SCORERS]
        raise InputError(f"--weights: router {name!r} has no scorers; {', '.join(scoring)} have")
    for scorer, weight in weights.items():
        if scorer not in WEIGHTS:
            raise UnknownNameError("scorer", scorer, WEIGHTS)
        if not 0 <= weight < float("inf"):
            raise InputError(f"--weights: {scorer}={weight:g}: a weight is 0 or more")
    rule = RouterRule(**{**router.rule._asdict(), **{scorer: float(weight) for scorer, weight in weights.items()}})
    if not any((rule.queue, rule.kv, rule.lora, rule.load)):
        raise InputError("--weights: all are 0, so every server would score the same")
    return replace(router, rule=rule)


def holders_of(placement: Placement, workload: Workload, router: Router) -> tuple[Holders, F8]:
    """The servers that may get each adapter's requests, by the workload's numbers, and the fraction of each entry.

    Servers that hold an adapter in reserve (fraction 0) get none.

    Raises
    ------
    InputError
        As `adapter_rows`; or the fractions are uneven and the router cannot follow them.
    """
    rows = adapter_rows(placement, workload)
    local = _local_numbers(placement, workload, rows)
    entries = [_of_adapter(placement, int(row)) for row in (*rows, BASE)]
    if not router.uses_fractions and router.rule is None:
        _check_even(placement, entries, router)
    if router.replicas:
        names = [*workload.adapters.name, ""]
        entries = [_by_hash(placement, row, name, router.replicas) for row, name in zip(entries, names, strict=True)]
    flat = np.concatenate([np.zeros(0, np.intp), *entries])
    first = np.concatenate([[0], np.cumsum([len(row) for row in entries])]).astype(np.int64)
    return Holders(first, placement.server[flat], local[flat]), placement.fraction[flat]


def _of_adapter(placement: Placement, row: int) -> np.ndarray:
    found = placement.entries_for(row)
    entries: np.ndarray = found.start + np.flatnonzero(placement.fraction[found] > 0)
    return entries


def _local_numbers(placement: Placement, workload: Workload, rows: I4) -> I4:
    """Number of each entry's adapter on its server, as `part_of_server` counts them; -1: none, or not asked for."""
    number = np.full(len(placement.adapters) + 1, -1, np.int64)
    number[rows] = np.arange(len(rows))
    wanted = number[placement.adapter]
    local = np.full(len(wanted), -1, np.int32)
    for server in range(placement.num_servers):
        here = np.flatnonzero((placement.server == server) & (wanted >= 0))
        local[here[np.argsort(wanted[here])]] = np.arange(len(here), dtype=np.int32)
    return local


def _check_even(placement: Placement, entries: list[np.ndarray], router: Router) -> None:
    for row in entries:
        parts = placement.fraction[row]
        if len(parts) and parts.max() - parts.min() > 1e-3:
            adapter = int(placement.adapter[row[0]])
            name = "base" if adapter == BASE else placement.adapters[adapter]
            wanted = " / ".join(f"{part:.3g}" for part in parts)
            raise InputError(
                f"the router ({router.title}) cannot express the fractions {wanted} of {name!r}: "
                "take --router fractions or weighted, one that looks at the servers, or a placement of even fractions"
            )


def _by_hash(placement: Placement, row: np.ndarray, adapter: str, replicas: int) -> np.ndarray:
    """The entries whose servers score highest: rendezvous hashing (Thaler, Ravishankar 1996) of both names."""

    def score(entry: int) -> bytes:
        return blake2b(f"{adapter}\0{placement.servers[placement.server[entry]].name}".encode(), digest_size=8).digest()

    return np.array(sorted(sorted(row.tolist(), key=score, reverse=True)[:replicas]), np.intp)
