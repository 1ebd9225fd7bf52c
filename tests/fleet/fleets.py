"""Small fleets that tests share."""

from __future__ import annotations

from loratwin.fleet import Placement, Server
from loratwin.records import EngineConfig


def servers(number: int, slots: int = 4) -> tuple[Server, ...]:
    """Servers gpu-0, gpu-1, ..."""
    return tuple(Server(f"gpu-{i}", "a/b/c", EngineConfig(max_loras=slots), 2.5) for i in range(number))


def placement() -> Placement:
    """Three adapters on three servers: one split, one with a reserve, and base traffic."""
    shares = {"hot": {"gpu-0": 0.3, "gpu-1": 0.7}, "warm": {"gpu-0": 1.0, "gpu-2": 0.0}, "cold": {"gpu-2": 1.0}}
    return Placement.of(servers(3), {**shares, "base": {"gpu-1": 0.5, "gpu-2": 0.5}}, base="base")
