"""How a workload is sent."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import get_args

from loratwin.bench.shared.requests import Api
from loratwin.bench.shared.routing import Routing
from loratwin.errors import InputError
from loratwin.http import bearer
from loratwin.workload import ArrivalPattern

REFERENCE_S = 3.0
"""Seconds of a reference load of a benchmark."""


def _random_seed() -> int:
    """For prompts that no server has seen."""
    return int.from_bytes(os.urandom(4), "little")


@dataclass(frozen=True)
class Options:
    """How a workload is sent.

    Parameters
    ----------
    api
        "completions" or "chat".
    in_flight
        Requests in flight (closed loop); 0: open loop, at the workload's own times.
    prompts
        "random" (token ids of exact length), or a file: ShareGPT's .json, .jsonl with a `prompt`, or lines of text.
    prompt_seed
        Of random prompts; another each time by default, since a server that caches prefixes answers known ones faster.
    warm_up
        Requests before the window.
    preload
        Bring every adapter in before the window, with a request of one token.
    scrape_every_s
        Seconds between scrapes of `/metrics` and the GPU.
    phase_timeout_s
        Seconds that each of the phases before the window may take.
    reference_s
        Seconds of a small load, always the same, before the window and after it: how fast the machine was
        (`Run.reference`); 0: none.
    headers
        HTTP headers, as an API key; never written to a file.
    routing
        Which server gets which request; None: they are alike, and get them in turn.
    """

    api: Api = "completions"
    in_flight: int = 0
    prompts: str = "random"
    prompt_seed: int = field(default_factory=_random_seed)
    warm_up: int = 16
    preload: bool = True
    scrape_every_s: float = 1.0
    phase_timeout_s: float = 600.0
    reference_s: float = 0.0
    headers: Mapping[str, str] = field(default_factory=dict)
    routing: Routing | None = None

    def of(self, pattern: ArrivalPattern) -> Options:
        """With the workload's own closed loop, if it is one and no other number was asked for.

        Raises
        ------
        InputError
            Clients that think, or a run that is over when all are answered: a window is measured, without pauses.
        """
        if pattern.think_s or pattern.until_answered:
            raise InputError(
                "the load client measures a whole window, without pauses: a workload with think_s, with a number of "
                "requests or at_once can only be simulated"
            )
        return replace(self, in_flight=self.in_flight or pattern.in_flight)

    def check(self) -> None:
        """Refuse before a server is asked what would fail after it.

        Raises
        ------
        InputError, DataError
            Another API, a period that is too short, or a file without prompts.
        """
        from loratwin.telemetry import check_period  # not at the top: the load client imports this package too

        if self.api not in get_args(Api):
            raise InputError(f"--api {self.api!r}: completions or chat")
        check_period(self.scrape_every_s, "--scrape-every")
        if not 0 <= self.reference_s < float("inf"):
            raise InputError(f"reference_s = {self.reference_s:g}: it must be a number of seconds, 0 for none")
        if self.prompts != "random":
            _check_prompts(Path(self.prompts))


def _check_prompts(path: Path) -> None:
    """Read here for its faults only; the load client reads it again."""
    from loratwin.bench.worker.prompts import load_texts

    if not path.is_file():
        raise InputError(f"--prompts {str(path)!r}: no such file (or random)")
    load_texts(path)


def key_headers(variable: str) -> dict[str, str]:
    """HTTP headers with the API key in an environment variable; none if it is empty or not there.

    Raises
    ------
    InputError
        The key has characters that no header may have.
    """
    key = os.environ.get(variable, "")
    if not key.isascii() or not key.isprintable() or any(character.isspace() for character in key):
        raise InputError(f"the API key in {variable} has characters that no HTTP header may have")
    return bearer(key)
