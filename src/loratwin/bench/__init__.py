"""The load client: sends a workload to real servers and measures, one record for each run.

The load itself is sent by a process of its own (`worker`), which writes to a journal in mapped memory (`shared`);
this process watches, scrapes the servers (`telemetry`), and makes the record (`result`).

    from loratwin.bench import GivenServers, load_requests, measure

    run = measure(load_requests("traffic.yaml"), GivenServers("http://127.0.0.1:8000"), "measured.json")
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loratwin.lazy import lazy_names

if TYPE_CHECKING:
    from loratwin.bench.benchmark import load_requests, measure, recovered
    from loratwin.bench.listener import SILENT, Listener, Progress
    from loratwin.bench.options import Options, key_headers
    from loratwin.bench.servers import GivenServers, LaunchedServers, choose_servers
    from loratwin.bench.session import recover, was_interrupted
    from loratwin.bench.shared.routing import Routing

_HOMES = {
    "benchmark": ("load_requests", "measure", "recovered"),
    "listener": ("SILENT", "Listener", "Progress"),
    "options": ("Options", "key_headers"),
    "servers": ("GivenServers", "LaunchedServers", "choose_servers"),
    "session": ("recover", "was_interrupted"),
    "shared.routing": ("Routing",),
}
"""Imported when asked for: the process that sends the load is of this package, too, and must stay small."""

__all__ = [
    "SILENT",
    "GivenServers",
    "LaunchedServers",
    "Listener",
    "Options",
    "Progress",
    "Routing",
    "choose_servers",
    "key_headers",
    "load_requests",
    "measure",
    "recover",
    "recovered",
    "was_interrupted",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = lazy_names(__name__, _HOMES)
