"""Several servers on one GPU, each with its share of the memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import engine_of, find_engine
from loratwin.errors import InputError
from loratwin.launch.server import Server, start_server


@contextmanager
def start_replicas(
    count: int,
    engine_name: str,
    server_args: Sequence[str] | str | ServerArguments,
    *,
    name: str = "server",
    env_of: Callable[[int], Mapping[str, str]] = lambda i: {},
    **options: Any,
) -> Iterator[tuple[Server, ...]]:
    """Start `count` equal servers one after the other; all are stopped at the end of the `with`.

    Never at once: each measures at its start how much memory is in use, and would charge what another takes meanwhile
    to itself (vllm#55827). The memory asked for (`--gpu-memory-utilization u`, or the engine's default) is for all of
    them together. What a server counts decides what it must be told for an equal share u/n (`Engine.memory_share`):

    - vLLM since 0.9.1 subtracts what is used since it started: each is told u/n.
    - vLLM up to 0.9.0 subtracts all memory in use on the GPU: replica i, from 0, is told u (i + 1)/n.
    - SGLang counts in parts of the memory that is free when it starts: u/n / (1 - i u/n).

    vLLM before 0.20 keeps its CUDA graphs (3 GiB for an 8 B LLM) outside of its share, every version its CUDA
    context: leave room for those of each replica. `kv_tokens` of each server says what it got.

    Parameters
    ----------
    env_of
        Environment of each replica by its number, laid over `env`.
    **options
        Those of `start_server`; several replicas have free ports, and none can be given. Logs are NAME-0.log,
        NAME-1.log, ...

    Raises
    ------
    InputError, ServerError
        As `start_server`; the replicas already started are stopped.
    """
    if count < 1:
        raise InputError(f"{count} replicas: must be at least 1")
    arguments = ServerArguments.of(find_engine(engine_name), server_args)
    if count > 1 and (options.get("port") is not None or "port" in arguments):
        raise InputError("replicas cannot share one port: leave it out")
    env = options.pop("env", None) or {}
    total = _memory(arguments)
    with ExitStack() as stack:
        servers: list[Server] = []
        for i in range(count):
            version = servers[0].engine_version if servers else ""  # the first is told u/n in any case
            share = memory_share(version or engine_name, total, count, i)
            replica_arguments = arguments if count == 1 else arguments.put(gpu_memory_utilization=f"{share:.4f}")
            own_env = {**env, **env_of(i)}
            server = start_server(engine_name, replica_arguments, name=f"{name}-{i}", env=own_env, **options)
            servers.append(stack.enter_context(server))
        yield tuple(servers)


def memory_share(engine_version: str, total: float, count: int, i: int) -> float:
    """What replica `i` of `count` is told, so that each gets `total / count` of the GPU; see `start_replicas`."""
    return engine_of(engine_version).memory_share(engine_version, total, count, i)


def _memory(arguments: ServerArguments) -> float:
    stated = arguments.number("gpu_memory_utilization")
    total = arguments.engine.memory_default if stated is None else stated
    if not 0 < total <= 1:
        name = arguments.engine.options["gpu_memory_utilization"].name
        raise InputError(f"server arguments: {name} {total:g}: must be above 0 and at most 1")
    return total
