"""What the load client is told, as a file in the journal's folder; an API key is not in it but in the environment."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from loratwin.bench.shared.requests import Api
from loratwin.errors import DataError
from loratwin.records import as_tuple, write_atomically

HEADERS_VARIABLE = "LORATWIN_BENCH_HEADERS"
"""Environment variable with HTTP headers as JSON: how an API key reaches the load client."""


@dataclass(frozen=True)
class Phase:
    """Requests before the window: to bring adapters in, or to warm the server up.

    Parameters
    ----------
    adapter, prompt_tokens, output_tokens
        One value for each request.
    server
        The same, where servers hold different adapters; empty: in turn.
    """

    name: str
    adapter: tuple[int, ...]
    prompt_tokens: tuple[int, ...]
    output_tokens: tuple[int, ...]
    in_flight: int
    server: tuple[int, ...] = ()


REFERENCE = "reference"
"""Name of the phases before and after the window that tell how fast the machine is."""

REFERENCE_FILE = "reference.json"
"""Seconds between tokens that they found, by field of `records.ReferenceLoad`."""

REFERENCE_IN_FLIGHT, REFERENCE_PROMPT, REFERENCE_OUTPUT = 4, 8, 32
"""Of a reference load: requests, of each server, and their tokens."""


def reference_phase(num_servers: int) -> Phase:
    """The reference load: the LLM itself, so that it leaves the adapters' slots alone; more requests than can end."""
    num = 8192 * num_servers
    return Phase(
        REFERENCE, (-1,) * num, (REFERENCE_PROMPT,) * num, (REFERENCE_OUTPUT,) * num,
        REFERENCE_IN_FLIGHT * num_servers,
    )  # fmt: skip


@dataclass(frozen=True)
class Job:
    """A benchmark, but for its requests, which are in the journal.

    Parameters
    ----------
    urls
        One for each server.
    names
        The adapters' names on the server, in the workload's order; the last is the LLM's own.
    in_flight
        Requests in flight (closed loop); 0: open loop.
    prompts
        "random", or a file.
    reference_s
        Seconds of a reference load before the window and after it (`reference`); 0: none.
    """

    urls: tuple[str, ...]
    names: tuple[str, ...]
    window_s: float
    api: Api = "completions"
    in_flight: int = 0
    prompts: str = "random"
    prompt_seed: int = 0
    phases: tuple[Phase, ...] = ()
    phase_timeout_s: float = 600.0
    reference_s: float = 0.0

    def save(self, folder: Path) -> None:
        """Write it down."""
        write_atomically(folder / "job.json", json.dumps(asdict(self)))

    @classmethod
    def load(cls, folder: Path) -> Job:
        """Read it.

        Raises
        ------
        DataError
            There is none, or it is damaged.
        """
        try:
            plain = json.loads((folder / "job.json").read_text())
            phases = tuple(Phase(**{key: as_tuple(value) for key, value in phase.items()}) for phase in plain["phases"])
            return cls(**{**{key: as_tuple(value) for key, value in plain.items()}, "phases": phases})
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise DataError(f"{folder}: no benchmark, or damaged: {error}") from None
