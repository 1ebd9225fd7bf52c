"""How a workload is sent, and what is told to whoever watches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from loratwin.bench.exchange.requests import Api


@dataclass(frozen=True)
class Options:
    """How a workload is sent.

    Parameters
    ----------
    in_flight
        Requests in flight (closed loop); 0: open loop, at the workload's own times.
    warm_up
        Requests before the window.
    preload
        Bring every adapter in before the window, with a request of one token.
    headers
        HTTP headers, as an API key; never written to a file.
    """

    api: Api = "completions"
    in_flight: int = 0
    prompts: str = "random"
    prompt_seed: int = 0
    warm_up: int = 16
    preload: bool = True
    scrape_every_s: float = 1.0
    phase_timeout_s: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What is going on, for whoever watches."""

    phase: str
    elapsed_s: float
    of_s: float
    sent: int = 0
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    tokens: int = 0


Watch = Callable[[Progress], None]
