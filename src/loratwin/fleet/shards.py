"""A placement as servers to start: each a shard with its arguments and its adapters."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import DEFAULT, engine_of, find_engine
from loratwin.errors import InputError
from loratwin.fleet.placement import Placement
from loratwin.perf import Profile, load_profile
from loratwin.plan.deploy import profiled_options, server_options
from loratwin.workload import BASE

_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


@dataclass(frozen=True)
class Shard:
    """One server.

    Parameters
    ----------
    name
        Its name, also in Kubernetes.
    version
        Of the engine that was planned for.
    llm
        Where the weights are found.
    options
        Lines of vLLM's options, all values written out, without the adapters.
    profiled
        Those of them that the servers of the profile had, beside what was planned.
    values
        Those that formats have keys for, by the names that all engines share.
    adapters
        Names, in the order of their numbers.
    """

    name: str
    version: str
    llm: str
    options: tuple[str, ...]
    profiled: tuple[str, ...]
    values: Mapping[str, object]
    adapters: tuple[str, ...]
    gpus: int

    def modules(self, folder: str) -> list[str]:
        """What `--lora-modules` takes."""
        return [f"{name}={folder}/{name}" for name in self.adapters]


def shards_of(placement: Placement, profiles: Mapping[str, Profile] | None = None) -> tuple[Shard, ...]:
    """The servers of a placement.

    Raises
    ------
    InputError
        A name cannot stand in Kubernetes, or a server is none of vLLM.
    """
    names = {server.profile for server in placement.servers}
    known = {name: (profiles or {}).get(name) or load_profile(name) for name in names}
    return tuple(_shard(placement, k, known[server.profile]) for k, server in enumerate(placement.servers))


def _shard(placement: Placement, k: int, profile: Profile) -> Shard:
    server = placement.servers[k]
    if not _NAME.fullmatch(server.name):
        raise InputError(f"server {server.name!r}: a name to deploy is of a-z, 0-9 and -, as gpu-0, 63 at most")
    engine = engine_of(profile.engine)
    if engine is not find_engine(DEFAULT):
        raise InputError(f"server {server.name!r} is {engine.title}; what is deployed here is vLLM")
    held = placement.adapter[placement.entries_of(k)]
    adapters = tuple(placement.adapters[i] for i in held.tolist() if i != BASE)
    lines = server_options(profile, server.config, len(adapters))
    words = tuple(word for line in lines for word in ServerArguments(engine).put(**line).words)
    theirs = tuple(word for option in profiled_options(profile, words) for word in shlex.split(option))
    values = {name: value for line in lines for name, value in line.items()}
    llm = profile.llm.given or profile.llm.repository or profile.llm.name
    name, version, gpus = server.name, profile.engine.rpartition("-")[2], profile.memory.tensor_parallel
    return Shard(name, version, llm, (*words, *theirs), theirs, values, adapters, gpus)
