"""The servers that a benchmark asks, and which of their models stands for which adapter of the workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from loratwin.errors import InputError
from loratwin.formatting import first_of
from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold
from loratwin.workload.adapter_folder import natural, stand_ins


@dataclass(frozen=True)
class PlacedServer:
    """One of several servers that hold different adapters, as a plan has it.

    Parameters
    ----------
    name
        As `gpu-0`.
    config
        What it was started with.
    adapters
        Numbers of the workload's adapters that it holds, ascending.
    """

    name: str
    config: EngineConfig
    adapters: tuple[int, ...]

    def with_limits(self, limits: Mapping[str, Any]) -> tuple[EngineConfig, tuple[str, ...]]:
        """Its configuration with what the server itself says, and a note for each difference."""
        differ = {name: value for name, value in limits.items() if getattr(self.config, name) not in (None, value)}
        notes = tuple(
            f"{self.name} runs with {name} = {value}, planned was {getattr(self.config, name)}"
            for name, value in differ.items()
        )
        return self.config.replace(**limits), notes


@dataclass(frozen=True)
class RunningServers:
    """Servers that answer.

    Parameters
    ----------
    names
        The servers' name of each adapter of the workload, in order; the last is the LLM's own.
    config
        Of each server, of the first where they differ. What nobody told is the engine's default, and `notes` say so.
    kv_tokens
        Tokens that the KV cache of each holds; None: it does not say. Empty: nothing is known.
    server_args
        What they were started with; empty: not known.
    server_env
        Their environment variables that say how they compute, as NAME=value; None: not known.
    assumed
        Fields of `config` that nobody told.
    step_logs
        Folder of each server's step log; empty: none.
    planned
        Of each server, where they hold different adapters; empty: all serve the same.
    """

    urls: tuple[str, ...]
    names: tuple[str, ...]
    config: EngineConfig
    kv_tokens: tuple[int | None, ...] = ()
    engine_version: str = ""
    gpu: str = ""
    server_args: tuple[str, ...] = ()
    server_env: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    step_logs: tuple[Path, ...] = ()
    planned: tuple[PlacedServer, ...] = ()

    @property
    def llm(self) -> str:
        """The LLM's name on the servers."""
        return self.names[-1]

    def noting_names(self, wanted: Sequence[str]) -> RunningServers:
        """The same with a note where the servers' names differ from the workload's, `wanted`."""
        pairs = [(name, served) for name, served in zip(wanted, self.names, strict=False) if name != served]
        if not pairs:
            return self
        (name, served), num = pairs[0], len(pairs)
        note = f"{num} adapters of the workload stand for others on the server: {name} is {served}, ..."
        return replace(self, notes=(*self.notes, note))

    def holding(self, ranks: Sequence[int]) -> RunningServers:
        """The same with room for adapters of these ranks, where nobody told it: the servers do serve them."""
        highest = max(ranks, default=0)
        if "max_lora_rank" not in self.assumed or highest <= self.config.max_lora_rank:
            return self
        rank = ranks_that_hold(highest)[0]
        note = f"max_lora_rank is taken to be {rank}, which the workload's adapters need"
        return replace(self, config=self.config.replace(max_lora_rank=rank), notes=(*self.notes, note))


_MOST_NAMED = 8


def assign_adapters(wanted: Sequence[str], served: Sequence[str], given: Sequence[str] = ()) -> tuple[str, ...]:
    """The server's adapter for each adapter of the workload.

    Names given by the user come first; then equal names; else the server's adapters in their natural order.

    Raises
    ------
    InputError
        There are too few, or a given one is not served.
    """
    if given:
        return _given(wanted, served, given)
    taken = stand_ins(wanted, served)
    if taken is None:
        missing = [name for name in wanted if name not in served]
        raise InputError(
            f"the workload has {len(wanted)} adapters and the server {len(served)} (it lacks {missing[0]!r}, ...); "
            "register more (loratwin adapters make, --lora-modules), or take a workload with fewer"
        )
    return taken


def _given(wanted: Sequence[str], served: Sequence[str], given: Sequence[str]) -> tuple[str, ...]:
    for name in given:
        if served and name not in served:
            known = first_of(sorted(served, key=natural), _MOST_NAMED)
            raise InputError(f"--adapters: the server has no {name!r}; it has {known}")
    if len(given) < len(wanted):
        raise InputError(f"--adapters: {len(given)} names for the workload's {len(wanted)} adapters")
    return tuple(given[: len(wanted)])
