"""What a trace is once it is read, and what its reader has to say of the file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I4 = NDArray[np.int32]
I8 = NDArray[np.int64]

MAX_TOKENS = 10_000_000
"""No length is longer than this."""

NO_ADAPTER = -1
"""Adapter index of requests that use the LLM without an adapter."""


class SharedBlocks(NamedTuple):
    """Blocks that prompts begin with: two with the same number hold the same tokens after the same beginning."""

    offset: I8
    """Where each request's blocks begin and end in `block`, shape (num_requests + 1,)."""
    block: I8
    """Numbers of the blocks of all requests, one after the other; shape (num_blocks,)."""
    tokens: int
    """Tokens of a block."""

    def of(self, row: int) -> list[int]:
        """Blocks of one request."""
        blocks: list[int] = self.block[self.offset[row] : self.offset[row + 1]].tolist()
        return blocks

    def take(self, rows: NDArray[np.intp]) -> SharedBlocks:
        """Those of some requests, in the order given."""
        length = np.diff(self.offset)[rows]
        offset = np.concatenate([[0], np.cumsum(length)]).astype(np.int64)
        inside = np.arange(offset[-1]) - np.repeat(offset[:-1], length)
        return SharedBlocks(offset, self.block[np.repeat(self.offset[rows], length) + inside], self.tokens)


@dataclass(frozen=True)
class TraceFacts:
    """What is in a file: counts, sums and times of all that could be read, and what was left out."""

    path: str
    format: str
    rows: int
    """Requests in the file, readable or not."""
    requests: int
    """Requests of the trace."""
    prompt_tokens: int | None
    """Sum over the requests of the trace; None: the file does not tell."""
    output_tokens: int | None
    rows_prompt_tokens: int | None
    """Sum over all rows, with those that were left out (failed requests have prompts, too)."""
    rows_output_tokens: int | None
    first_s: float | None
    """First arrival in seconds, as in the file (or after its first row, where it has times of day)."""
    last_s: float | None
    rows_last_s: float | None
    """Last time of any row, with those that were left out, on the same clock."""
    origin: str | None
    """Time of day (UTC) that is 0 s."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Rows that are not in the trace, by reason."""
    clipped: Mapping[str, int] = field(default_factory=dict)
    """Requests whose lengths were changed, by reason."""
    adapters: Mapping[str, int] = field(default_factory=dict)
    """Requests of each adapter by name; "" are those without one."""
    notes: tuple[str, ...] = ()
    """What a reader should know: lengths that are estimated, images that are not counted."""

    @property
    def changes(self) -> tuple[str, ...]:
        """What was left out or clipped, one sentence each; to be said wherever the trace is used."""
        out = tuple(f"{count:,} of {self.rows:,} rows left out: {why}" for why, count in self.left_out.items())
        clipped = tuple(f"{count:,} of {self.rows:,} rows clipped: {why}" for why, count in self.clipped.items())
        return out + clipped + self.notes

    def as_json(self) -> dict[str, Any]:
        """As plain data, for JSON."""
        plain = dict(vars(self))
        return plain | {key: dict(plain[key]) for key in ("left_out", "clipped", "adapters")} | {"notes": self.notes}


@dataclass(frozen=True, eq=False)
class Trace:
    """Requests of a trace in order of arrival. Arrays have shape (num_requests,) and are read-only."""

    arrival_s: F8 | None
    """Seconds after the first request, or as written in the file; None: the file has lengths only."""
    prompt_tokens: I4 | None
    output_tokens: I4 | None
    adapter: I4 | None
    """Index into `adapter_names`, -1 where the cell is empty; None: the trace has no such column."""
    adapter_names: tuple[str, ...]
    blocks: SharedBlocks | None
    """What prompts share, where the file tells it (Mooncake)."""
    facts: TraceFacts
