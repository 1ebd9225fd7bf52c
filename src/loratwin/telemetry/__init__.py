"""What a server and its GPUs say while they work: `/metrics` and NVML, sampled on one clock; and what a server is.

with Scrape("http://127.0.0.1:8000", journal=folder / "server.scrapes") as scrape:
    zero_s = time.monotonic()
    ...
canonical(scrape.samples(zero_s, zero_s, zero_s + 60.0))["running"]
"""

from loratwin.engines.facts import ServerFacts, server_facts
from loratwin.telemetry.cadence import check_period
from loratwin.telemetry.gpu import GpuSampler, gpu_name
from loratwin.telemetry.journal import read_journal
from loratwin.telemetry.names import Counters, canonical, counters, increase
from loratwin.telemetry.scrape import Scrape

__all__ = [
    "Counters",
    "GpuSampler",
    "Scrape",
    "ServerFacts",
    "canonical",
    "check_period",
    "counters",
    "gpu_name",
    "increase",
    "read_journal",
    "server_facts",
]
