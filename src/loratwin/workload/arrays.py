"""A workload as arrays: which request arrives when, for which adapter, and how long it is.

This is all that the twin, the load client and the emulator ever see of a workload; nothing random is left in it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.records.config import ranks_that_hold
from loratwin.records.read_only import F8, I4, ReadOnlyArrays
from loratwin.records.sharing import Sharing
from loratwin.traces import NO_ADAPTER

__all__ = ["BASE", "F8", "I4", "OPEN", "Adapters", "ArrivalPattern", "Sharing", "Workload", "arrival_order"]

BASE = NO_ADAPTER
"""Adapter index of requests that use the LLM without an adapter."""


@dataclass(frozen=True, eq=False)
class Adapters(ReadOnlyArrays):
    """The adapters of a workload. Each array has shape (num_adapters,)."""

    name: tuple[str, ...]
    rank: I4
    rate_per_s: F8
    """Nominal requests per second of each adapter: what the specification asks for, not what was drawn."""
    group: I4
    """Index of the adapter's group in the specification."""

    def __len__(self) -> int:
        return len(self.name)

    def take(self, indices: I4) -> Adapters:
        """These adapters, in this order."""
        names = tuple(self.name[i] for i in indices)
        return Adapters(names, self.rank[indices], self.rate_per_s[indices], self.group[indices])


class ArrivalPattern(NamedTuple):
    """What makes requests arrive, beyond their times."""

    in_flight: int = 0
    """Clients that send again when they are answered (a closed loop: `arrival_s` is 0); 0: all come at their times."""
    think_s: float = 0.0
    """Seconds between an answer and the client's next request."""
    until_answered: bool = False
    """The run is over when all are answered, if that is before the window's end."""


OPEN = ArrivalPattern()
"""Requests come at their times, whatever the server does."""


@dataclass(frozen=True, eq=False)
class Workload(ReadOnlyArrays):
    """Requests in order of arrival (ties: by adapter index; a closed loop or batch: in the order of sending).

    Each array has shape (num_requests,).
    """

    arrival_s: F8
    """Seconds from the start of the window, ascending, in [0, window_s)."""
    adapter: I4
    """Index into ``adapters``; -1: the base LLM."""
    prompt_tokens: I4
    output_tokens: I4
    adapters: Adapters
    window_s: float
    seed: int
    base_rate_per_s: float = 0.0
    """Nominal requests per second without adapter."""
    pattern: ArrivalPattern = OPEN
    sharing: Sharing | None = None
    """Which prompts begin alike, and which request waits for another's answer; None: nothing is shared."""
    notes: tuple[str, ...] = ()
    """What whoever uses it should know: rows of a trace that were left out, requests outside the window."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.sharing is not None and len(self.sharing) != len(self.arrival_s):
            raise ValueError(f"sharing of {len(self.sharing)} requests in a workload of {len(self.arrival_s)}")

    @property
    def num_requests(self) -> int:
        return len(self.arrival_s)

    @property
    def num_adapters(self) -> int:
        return len(self.adapters)

    @property
    def smallest_rank(self) -> int:
        """The smallest rank of slots that holds every adapter.

        Raises
        ------
        InputError
            An adapter's rank is above what vLLM allows.
        """
        return ranks_that_hold(int(self.adapters.rank.max(initial=1)))[0]

    def check_rated(self, what: str) -> None:
        """Refuse what needs rates, where clients send when they are answered or all at once.

        Raises
        ------
        InputError
            It is a closed loop or a batch.
        """
        if self.pattern != OPEN:
            kind = "closed loop" if self.pattern.in_flight else "batch"
            raise InputError(f"{what} needs traffic with rates, and this is a {kind} (arrivals: kind)")

    @property
    def requests_per_s(self) -> float:
        """Requests that arrive in the window / window."""
        return self.num_requests / self.window_s

    @property
    def total_rate_per_s(self) -> float:
        """Nominal requests per second, all adapters and base traffic together."""
        return float(self.adapters.rate_per_s.sum()) + self.base_rate_per_s

    @property
    def offered_tokens_per_s(self) -> float:
        """Prompt and output tokens of the requests that arrive in the window / window."""
        tokens = self.prompt_tokens.sum(dtype=np.int64) + self.output_tokens.sum(dtype=np.int64)
        return float(tokens) / self.window_s

    @property
    def digest(self) -> str:
        """Says whether two workloads are the same: SHA-256 of all that is in them, 16 hexadecimal digits."""
        pattern = () if self.pattern == OPEN else (tuple(self.pattern),)
        facts = hashlib.sha256(repr((self.window_s, self.adapters.name, *pattern)).encode())
        for values in (self.arrival_s, self.adapter, self.prompt_tokens, self.output_tokens, self.adapters.rank):
            facts.update(values.tobytes())
        for shared in () if self.sharing is None else self.sharing.arrays():
            facts.update(shared.tobytes())
        return facts.hexdigest()[:16]

    def take_adapters(self, indices: Sequence[int] | I4) -> Workload:
        """The same requests, but only those of some adapters (renumbered 0, 1, ... in the order given) and of the base.

        Raises
        ------
        InputError
            An index is out of range or given twice.
        """
        chosen = _checked_indices(indices, len(self.adapters))
        new_index = np.full(len(self.adapters) + 1, BASE - 1, dtype=np.int32)
        new_index[chosen] = np.arange(len(chosen), dtype=np.int32)
        new_index[BASE] = BASE  # index -1 is the extra last place
        adapter = new_index[self.adapter]
        keep = np.flatnonzero(adapter >= BASE)
        if self.pattern == OPEN:
            keep = keep[arrival_order(self.arrival_s[keep], adapter[keep])]
        return replace(
            self,
            arrival_s=self.arrival_s[keep],
            adapter=adapter[keep],
            prompt_tokens=self.prompt_tokens[keep],
            output_tokens=self.output_tokens[keep],
            adapters=self.adapters.take(chosen),
            sharing=None if self.sharing is None else self.sharing.take(keep),
        )


def arrival_order(arrival_s: F8, adapter: I4) -> NDArray[np.intp] | slice:
    """Index that sorts requests by arrival, ties by adapter and then by the order given; cheap when already sorted."""
    gaps = np.diff(arrival_s)
    if np.all(gaps > 0):
        return slice(None)
    order = np.argsort(arrival_s, kind="stable")  # merges the sorted runs of the groups
    if np.all(np.diff(arrival_s[order]) > 0):
        return order
    return np.lexsort((adapter, arrival_s))


def _checked_indices(indices: Sequence[int] | I4, num_adapters: int) -> I4:
    chosen = np.asarray(indices, dtype=np.int32).reshape(-1)
    if chosen.size and (chosen.min() < 0 or chosen.max() >= num_adapters):
        bad = chosen[(chosen < 0) | (chosen >= num_adapters)][0]
        raise InputError(f"adapter index {bad}: must be from 0 to {num_adapters - 1}")
    if len(np.unique(chosen)) != len(chosen):
        raise InputError("adapter indices: an index is given twice")
    return chosen
