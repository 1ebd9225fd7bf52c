"""The engines that there are. A further one is a module with an `Engine`, and a row here."""

from __future__ import annotations

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.engine import Engine
from loratwin.engines.sglang import SGLANG
from loratwin.engines.vllm import VLLM
from loratwin.errors import UnknownNameError
from loratwin.records import Provenance

ENGINES = {engine.name: engine for engine in (VLLM, SGLANG)}

DEFAULT = VLLM.name
"""Taken where nobody says which engine it is: the one that the twin knows."""


def find_engine(name: str) -> Engine:
    """The engine of this name.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    if name not in ENGINES:
        raise UnknownNameError("engine", name, ENGINES)
    return ENGINES[name]


def engine_of(version: str) -> Engine:
    """The engine of a version as records have it, "sglang-0.5.2"; the default where it names none."""
    return ENGINES.get(version.partition("-")[0], ENGINES[DEFAULT])


def recorded_arguments(provenance: Provenance) -> ServerArguments:
    """The arguments in a record, as those of the engine that it names."""
    return ServerArguments(engine_of(provenance.engine_version), provenance.server_args)
