"""Routers, literally: what each is said to do, one request at a time, with dictionaries.

A router is asked with the servers that hold the adapter (in the order of their numbers), what it knows of each, and two
numbers in [0, 1) in the place of chance. Sources of the rules: docs/reference/routers.md.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field


@dataclass
class Known:
    """What a router knows of one server."""

    in_flight: int = 0  # its own count, as of now
    waiting: int = 0  # the rest as of the last scrape
    kv_usage: float = 0.0
    active: set[int] = field(default_factory=set)  # adapters of requests that wait or run
    in_slots: set[int] = field(default_factory=set)
    in_host: set[int] = field(default_factory=set)
    running: set[int] = field(default_factory=set)
    max_loras: int = 1


def one_of(candidates: list[int], number: float) -> int:
    return candidates[min(math.floor(number * len(candidates)), len(candidates) - 1)]


def least_in_flight(known: dict[int, Known], adapter: int, numbers: tuple[float, float]) -> int:
    fewest = min(server.in_flight for server in known.values())
    return one_of([k for k in known if known[k].in_flight == fewest], numbers[0])


def two_choices(known: dict[int, Known], adapter: int, numbers: tuple[float, float]) -> int:
    """Ray Serve's: who has the model; else who has fewest models; two of them, the shorter queue."""
    candidates = list(known)
    if adapter >= 0:
        candidates = [k for k in known if adapter in known[k].in_slots]
        if not candidates:
            fewest = min(len(server.in_slots) for server in known.values())
            candidates = [k for k in known if len(known[k].in_slots) == fewest]
    one = one_of(candidates, numbers[0])
    if len(candidates) == 1:
        return one
    other = one_of([k for k in candidates if k != one], numbers[1])
    return other if known[other].in_flight < known[one].in_flight else one


def lora_affinity(server: Known, adapter: int, twice: bool) -> float:
    """llm-d's lora-affinity-scorer: vLLM names the same adapters as running and as waiting."""
    running_models, waiting_models = server.active, server.active
    if adapter in running_models:
        return 1.0
    count = len(running_models) + len(waiting_models) if twice else len(running_models | waiting_models)
    if count < server.max_loras:
        return 0.8
    return 0.6 if adapter in waiting_models else 0.0


def lora_residency(server: Known, adapter: int) -> float:
    """llm-d's lora-load-state-scorer."""
    if adapter < 0:
        free = max(server.max_loras - len(server.active), 0)
        return free / server.max_loras if server.max_loras else 0.0
    if adapter in server.in_slots:
        return 1.0
    if adapter in server.in_host:
        return 0.7
    if len(server.in_slots) < server.max_loras:
        return 0.6
    return 0.3 if server.in_slots - server.running else 0.0


def scorers(
    known: dict[int, Known], adapter: int, numbers: tuple[float, float], weights: dict[str, float], affinity: str
) -> int:
    """llm-d: the highest sum of weighted scores."""
    most = max(server.waiting for server in known.values())
    least = min(server.waiting for server in known.values())
    total = {}
    for k, server in known.items():
        queue = 1.0 if most == least else (most - server.waiting) / (most - least)
        total[k] = weights["queue"] * queue + weights["kv"] * (1.0 - server.kv_usage)
        total[k] += weights["load"] * 0.5 * max(0.0, 1.0 - server.waiting / 128.0)
        if affinity == "residency":
            total[k] += weights["lora"] * lora_residency(server, adapter)
        elif affinity:
            total[k] += weights["lora"] * lora_affinity(server, adapter, affinity == "twice")
    best = max(total.values())
    return one_of([k for k in known if total[k] == best], numbers[0])
