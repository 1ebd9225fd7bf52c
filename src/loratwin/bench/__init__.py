"""The load client: sends a workload to real servers and measures, one record for each run.

The load itself is sent by a process of its own (`worker`), which writes to a journal in mapped memory (`exchange`);
this process watches, scrapes the servers (`telemetry`), and makes the record (`result`).

    from loratwin.bench import GivenServers, load_requests, measure

    run = measure(load_requests("traffic.yaml"), GivenServers("http://127.0.0.1:8000"), "measured.json")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from loratwin.bench.benchmark import load_requests, measure
    from loratwin.bench.exchange.requests import parse_url
    from loratwin.bench.listener import Listener, Progress
    from loratwin.bench.options import Options, key_headers
    from loratwin.bench.servers import GivenServers, LaunchedServers, RunningServers
    from loratwin.bench.session import measure_window, recover, was_interrupted
    from loratwin.bench.target import Target, assign_adapters

_HOMES = {
    "benchmark": ("load_requests", "measure"),
    "exchange.requests": ("parse_url",),
    "listener": ("Listener", "Progress"),
    "options": ("Options", "key_headers"),
    "servers": ("GivenServers", "LaunchedServers", "RunningServers"),
    "session": ("measure_window", "recover", "was_interrupted"),
    "target": ("Target", "assign_adapters"),
}
"""Imported when asked for: the process that sends the load is of this package, too, and must stay small."""

__all__ = [
    "GivenServers",
    "LaunchedServers",
    "Listener",
    "Options",
    "Progress",
    "RunningServers",
    "Target",
    "assign_adapters",
    "key_headers",
    "load_requests",
    "measure",
    "measure_window",
    "parse_url",
    "recover",
    "was_interrupted",
]


if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for module, names in _HOMES.items():
            if name in names:
                return getattr(import_module(f"{__name__}.{module}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
