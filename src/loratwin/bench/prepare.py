"""Before anything starts: the journal with all requests in it, the job of the load client, what the record will say."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from itertools import chain
from math import ceil
from pathlib import Path

import numpy as np

from loratwin.bench.options import Options
from loratwin.bench.record_context import RecordContext, save_context
from loratwin.bench.running import RunningServers
from loratwin.bench.shared.job import Job, Phase
from loratwin.bench.shared.journal import RequestJournal, Shape, bins_per_octave
from loratwin.bench.shared.routing import Routing
from loratwin.bench.shared.sharing import save_sharing
from loratwin.errors import InputError
from loratwin.records import AdapterTable, Provenance, Samples
from loratwin.workload import Workload

_PRELOAD_IN_FLIGHT = 4
_WARM_UP_IN_FLIGHT = 8
"""Of an open loop; a closed one has a number of its own."""


def prepare(workload: Workload, servers: RunningServers, options: Options, folder: Path) -> None:
    """Make the journal with all requests in it, before anything starts.

    Raises
    ------
    InputError
        The disk is full, the folder is there already, there is nothing to send, or the server must refuse some of it.
    """
    if not workload.num_requests:
        raise InputError("the workload has no requests in the window: nothing to measure")
    _check_sharing(workload, options)
    if options.routing is not None and options.in_flight:
        raise InputError("--in-flight: a fleet needs requests that come at their times (open loop)")
    if options.prompts == "random":  # the lengths of other prompts are what the server counts
        _check_lengths(workload, servers.config.max_model_len)
    try:
        folder.mkdir(parents=False)
    except FileExistsError:
        raise unfinished(folder) from None
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    try:
        _fill(workload, servers, options, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _check_sharing(workload: Workload, options: Options) -> None:
    """Prompts that share are made of random tokens; a chat's template would change the tokens of an answer."""
    if workload.sharing is None:
        return
    if options.prompts != "random":
        raise InputError("--prompts: the workload says what prompts share (prefix, sessions), so they must be random")
    if workload.sharing.waits and options.api == "chat":
        raise InputError("--api chat: a conversation (sessions) is repeated token by token; take --api completions")
    if workload.sharing.waits and options.in_flight:
        raise InputError("--in-flight: the next turn of a conversation (sessions) comes when the last is answered")


def _check_lengths(workload: Workload, max_model_len: int | None) -> None:
    """Requests that cannot fit would all fail, and what is measured would be another workload."""
    tokens = workload.prompt_tokens.astype(np.int64) + workload.output_tokens
    if max_model_len is None or not (too_long := int(np.count_nonzero(tokens > max_model_len))):
        return
    raise InputError(
        f"{too_long:,} of {workload.num_requests:,} requests are longer than the server's max_model_len = "
        f"{max_model_len:,} (the longest has {tokens.max():,} tokens): shorten the lengths of the workload, or give "
        "the server a longer context"
    )


def unfinished(folder: Path) -> InputError:
    """What is said where another benchmark left its folder."""
    return InputError(
        f"{folder} holds an unfinished benchmark: loratwin bench --recover {folder} makes a record of it; "
        "or remove the folder"
    )


def _fill(workload: Workload, servers: RunningServers, options: Options, folder: Path) -> None:
    num_adapters = len(workload.adapters)
    parts = max(1, ceil(workload.window_s))
    journal = RequestJournal.create(
        folder, Shape(workload.num_requests, num_adapters, parts, bins_per_octave(num_adapters))
    )
    if not options.in_flight:
        journal.fill("scheduled_s", workload.arrival_s)
    journal.fill("adapter", workload.adapter)
    journal.fill("prompt_tokens", workload.prompt_tokens)
    journal.fill("output_tokens", workload.output_tokens)
    journal.counters[0] = workload.num_requests
    if workload.sharing is not None:
        save_sharing(workload.sharing, folder)
    if options.routing is not None:
        options.routing.save(folder)
    _job(workload, servers, options).save(folder)
    save_context(folder, context_of(workload, servers, options, ()))


def _job(workload: Workload, servers: RunningServers, options: Options) -> Job:
    return Job(
        urls=servers.urls,
        names=servers.names,
        window_s=workload.window_s,
        api=options.api,
        in_flight=options.in_flight,
        prompts=options.prompts,
        prompt_seed=options.prompt_seed,
        phases=tuple(_phases(workload, len(servers.urls), options)),
        phase_timeout_s=options.phase_timeout_s,
        reference_s=options.reference_s,
    )


def _phases(workload: Workload, num_servers: int, options: Options) -> Iterator[Phase]:
    """Each server sees each of its adapters once, in order, so that those in the slots afterwards are the last ones."""
    routing = options.routing or _all_alike(len(workload.adapters), num_servers)
    if options.preload and len(workload.adapters):
        held = [routing.servers_of(adapter).tolist() for adapter in range(len(workload.adapters))]
        adapters = tuple(adapter for adapter, servers in enumerate(held) for _ in servers)
        num = len(adapters)
        yield Phase("adapters", adapters, (8,) * num, (1,) * num, _PRELOAD_IN_FLIGHT, tuple(chain(*held)))
    if num := min(options.warm_up, workload.num_requests):
        first = (column[:num].tolist() for column in (workload.adapter, workload.prompt_tokens, workload.output_tokens))
        adapter, prompt, output = map(tuple, first)
        held = [routing.servers_of(number).tolist() for number in adapter]
        server = tuple(servers[i % len(servers)] for i, servers in enumerate(held))
        yield Phase("warm-up", adapter, prompt, output, options.in_flight or _WARM_UP_IN_FLIGHT, server)


def _all_alike(num_adapters: int, num_servers: int) -> Routing:
    """Every server holds every adapter."""
    rows = num_adapters + 1
    first = np.arange(rows + 1, dtype=np.int64) * num_servers
    return Routing(first, np.tile(np.arange(num_servers, dtype=np.int32), rows), np.zeros(0))


def context_of(
    workload: Workload, servers: RunningServers, options: Options, samples: tuple[Samples, ...]
) -> RecordContext:
    """What the record says beside what is measured."""
    adapters = AdapterTable(workload.adapters.name, workload.adapters.rank, workload.adapters.rate_per_s)
    kv_tokens = servers.kv_tokens[0] if servers.kv_tokens else None
    return RecordContext(adapters, servers.config, kv_tokens, _provenance(workload, servers, options), samples)


def _provenance(workload: Workload, servers: RunningServers, options: Options) -> Provenance:
    from loratwin.version import __version__

    loop = f"closed loop, {options.in_flight} in flight" if options.in_flight else "open loop"
    return Provenance(
        created_by="loratwin bench",
        loratwin_version=__version__,
        engine_version=servers.engine_version,
        llm=servers.llm,
        gpu=servers.gpu,
        server_args=servers.server_args,
        server_env=servers.server_env,
        assumed=servers.assumed,
        workload_hash=workload.digest,
        seed=workload.seed,
        notes=(f"{options.api}, {loop}, prompts: {options.prompts} (seed {options.prompt_seed})", *servers.notes),
    )
