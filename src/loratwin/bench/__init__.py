"""The load client: sends a workload to real servers and measures, one record for each run.

The load itself is sent by a process of its own (`worker`), which writes to a journal in mapped memory (`exchange`);
this process watches, scrapes the servers (`telemetry`), and makes the record (`result`).
"""

from loratwin.bench.exchange.requests import Endpoint, parse_url
from loratwin.bench.options import Options, Progress
from loratwin.bench.session import measure, recover
from loratwin.bench.target import Target, assign_adapters

__all__ = ["Endpoint", "Options", "Progress", "Target", "assign_adapters", "measure", "parse_url", "recover"]
