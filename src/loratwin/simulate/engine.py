"""Run the twin: a workload on a server of a profile gives a simulated `Run`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.engines.flags import check_speed_known, speed_notes
from loratwin.engines.versions import check_config
from loratwin.errors import CapacityError, InputError
from loratwin.kernel import ClientLoop, EngineLimits, EngineTrace, Requests, ServerModel, run_engine
from loratwin.perf import KvCapacity, Profile, kv_capacity, step_time_of
from loratwin.records import AdapterTable, EngineConfig, PrefixCounts, Provenance, RequestTable, Run, StepSeries
from loratwin.version import __version__
from loratwin.workload import Sharing, Workload
from loratwin.workload.arrays import F8
from loratwin.workload.arrivals import MAX_REQUESTS

UNLIMITED = 0

MOST_STEP_TOKENS = 2**24
MOST_COUNT = 2**31 - 1
MOST_KV_TOKENS = 2**34


def simulate(workload: Workload, profile: Profile, config: EngineConfig, kv_tokens: int | None = None) -> Run:
    """Simulate one server over the workload's window.

    Parameters
    ----------
    workload
        The requests; nothing in the simulation is random.
    profile
        Coefficients of the GPU, engine and LLM.
    config
        What the server is started with.
    kv_tokens
        Size of the KV cache in tokens; None: predicted from shapes and memory.

    Returns
    -------
    Run
        Every request with its times, every engine step, and notes where it leaves the profile's domain. What is
        simulated, and its source, is DESIGN.md's contract of the engine.

    Raises
    ------
    CapacityError
        The server would not start, or LoRA is off and adapters are asked for.
    InputError
        An adapter's rank is above `max_lora_rank`, every prompt is longer than the LLM allows, or the server is larger
        than any.
    """
    tokens = checked_kv_tokens(workload, profile, config, kv_tokens)
    requests, too_long, notes = _requests(workload, config, profile)
    trace = _run(requests, workload, profile, config, tokens)
    if _used_up(workload, trace):
        return simulate(_again(workload), profile, config, kv_tokens)
    table, sharing = _request_table(requests, trace, workload), _shared_by(workload, trace, too_long)
    if len(too_long) and not workload.pattern.in_flight and not _waits(workload):
        table, sharing = _with_refused(table, workload, too_long), workload.sharing
    return replace(_record(workload, profile, config, tokens, table, trace, workload.notes + notes), sharing=sharing)


def _used_up(workload: Workload, trace: EngineTrace) -> bool:
    """Whether clients of a closed loop found no more requests though the window was not over."""
    pattern = workload.pattern
    if not pattern.in_flight or pattern.until_answered or not workload.num_requests:
        return False
    return bool(np.isfinite(trace.arrival_s[-1]))


def _again(workload: Workload) -> Workload:
    """The same requests once more after the last, as the load client sends them."""
    if 2 * workload.num_requests > MAX_REQUESTS:
        raise InputError(f"a closed loop of more than {MAX_REQUESTS:,} requests: take a shorter window_s")
    twice = np.tile(np.arange(workload.num_requests), 2)
    return replace(
        workload,
        arrival_s=np.tile(workload.arrival_s, 2),
        adapter=np.tile(workload.adapter, 2),
        prompt_tokens=np.tile(workload.prompt_tokens, 2),
        output_tokens=np.tile(workload.output_tokens, 2),
        sharing=None if workload.sharing is None else workload.sharing.take(twice),
    )


def checked_kv_tokens(workload: Workload, profile: Profile, config: EngineConfig, kv_tokens: int | None = None) -> int:
    """KV tokens of a server that holds the workload's adapters: as given, or predicted.

    Raises
    ------
    CapacityError, InputError
        As `simulate`.
    """
    check_config(config, profile.engine)
    check_speed_known(config)
    _check_sizes(config)
    capacity = served_capacity(profile, config)
    if kv_tokens is None and not capacity.starts:
        raise CapacityError(f"the server does not start: {capacity.reason}")
    _check_ranks(workload, config)
    tokens = capacity.tokens if kv_tokens is None else kv_tokens
    if tokens > MOST_KV_TOKENS:
        raise InputError(f"{tokens:.3g} KV tokens: the twin takes {MOST_KV_TOKENS:,} at most; is the memory in GiB?")
    return tokens


def served_capacity(profile: Profile, config: EngineConfig) -> KvCapacity:
    """KV tokens of a server of this profile, and whether it starts."""
    return kv_capacity(profile.llm, profile.memory, config)


def usable_blocks(kv_tokens: int, config: EngineConfig) -> int:
    """KV blocks that requests can have, of a cache of so many tokens: vLLM keeps one for itself, the null block."""
    return kv_tokens // config.block_size - 1


def _check_sizes(config: EngineConfig) -> None:
    """The kernel's numbers are of 32 bits, and it has a table of all sizes of a step."""
    limits = {"max_num_batched_tokens": MOST_STEP_TOKENS, "max_in_flight": MOST_COUNT, "max_cpu_loras": MOST_COUNT}
    for name, most in limits.items():
        if (getattr(config, name) or 0) > most:
            raise InputError(f"{name} = {getattr(config, name)}, but the twin takes {most:,} at most")


def _check_ranks(workload: Workload, config: EngineConfig) -> None:
    if not len(workload.adapters):
        return
    if config.max_loras == 0:
        raise CapacityError("max_loras is 0 (LoRA off) and the workload has adapters")
    highest = int(workload.adapters.rank.max())
    if highest > config.max_lora_rank:
        name = workload.adapters.name[int(workload.adapters.rank.argmax())]
        raise InputError(f"adapter {name!r} has rank {highest}, above max_lora_rank = {config.max_lora_rank}")


def _requests(
    workload: Workload, config: EngineConfig, profile: Profile
) -> tuple[Requests, NDArray[np.int64], tuple[str, ...]]:
    """The kernel's arrays, and which requests the front end refuses; outputs end at the longest context, as in vLLM.

    A prompt that leaves no room for a token is answered with HTTP 400 before the scheduler sees it; a client of a
    closed loop then sends its next one at once.
    """
    limit = config.max_model_len or profile.llm.max_model_len
    prompt, output = workload.prompt_tokens, workload.output_tokens
    requests = Requests(workload.arrival_s, workload.adapter, prompt, output, **_shared(workload.sharing))
    if not len(prompt) or int(prompt.max()) + int(output.max()) <= limit:
        return requests, _NOBODY, ()
    too_long = np.flatnonzero(prompt >= limit)
    notes: tuple[str, ...] = ()
    if len(too_long):
        served = prompt < limit
        if not served.any():
            raise InputError(f"every prompt is refused: the shortest has {int(prompt.min())} tokens, {_fits(limit)}")
        requests = Requests(
            workload.arrival_s[served], workload.adapter[served], prompt[served], output[served],
            **_shared(workload.sharing and workload.sharing.take(np.flatnonzero(served))),
        )  # fmt: skip
        longest = int(prompt.max())
        notes = (f"{len(too_long)} prompts refused: the longest has {longest} tokens, {_fits(limit)}",)
    cut = np.minimum(requests.output_tokens, limit - requests.prompt_tokens).astype(np.int32)
    num_cut = int(np.count_nonzero(cut < requests.output_tokens))
    notes += (f"{num_cut} outputs end at max_model_len = {limit}",) if num_cut else ()
    return requests._replace(output_tokens=cut), too_long, notes


_NOBODY = np.zeros(0, dtype=np.int64)


def _fits(limit: int) -> str:
    return f"max_model_len = {limit} leaves room for {limit - 1}"


def _with_refused(table: RequestTable, workload: Workload, too_long: NDArray[np.int64]) -> RequestTable:
    """All requests of the workload in their order, those that the front end refused among them."""
    served = np.delete(np.arange(workload.num_requests), too_long)

    def among(values: NDArray[Any], of_refused: Any) -> NDArray[Any]:
        every = np.empty(workload.num_requests, dtype=values.dtype)
        every[served], every[too_long] = values, of_refused
        return every

    assert table.num_preemptions is not None
    return RequestTable(
        arrival_s=among(table.arrival_s, workload.arrival_s[too_long]),
        admitted_s=among(table.admitted_s, np.nan),
        first_token_s=among(table.first_token_s, np.nan),
        finish_s=among(table.finish_s, np.nan),
        adapter=among(table.adapter, workload.adapter[too_long]),
        prompt_tokens=among(table.prompt_tokens, workload.prompt_tokens[too_long]),
        output_tokens=among(table.output_tokens, workload.output_tokens[too_long]),
        num_preemptions=among(table.num_preemptions, 0),
        refused=among(table.refused, True),
        cached_tokens=None if table.cached_tokens is None else among(table.cached_tokens, 0),
    )


def _shared(sharing: Sharing | None) -> dict[str, Any]:
    """What requests have in common and who follows whom, by field of the kernel's `Requests`."""
    if sharing is None:
        return {}
    texts = {"text": sharing.text, "text_parent": sharing.parent, "text_end": sharing.end_tokens}
    return {**texts, "follows": sharing.follows, "think_s": sharing.think_s} if sharing.waits else texts


def keeps_prefixes(workload: Workload, config: EngineConfig) -> bool:
    """Whether the twin's server has a prefix cache: as it was told, else where it can be of use."""
    on = config.enable_prefix_caching
    return workload.sharing is not None if on is None else on


def _run(requests: Requests, workload: Workload, profile: Profile, config: EngineConfig, kv_tokens: int) -> EngineTrace:
    model = server_model(workload, profile, config, kv_tokens)
    return run_engine(requests, model.limits, model.costs, len(workload.adapters), model.step_cost)


def server_model(workload: Workload, profile: Profile, config: EngineConfig, kv_tokens: int) -> ServerModel:
    """What the kernel knows of a server that holds the workload's adapters: limits, seconds of loads and of steps."""
    limits = EngineLimits(
        num_blocks=usable_blocks(kv_tokens, config),
        block_size=config.block_size,
        max_num_seqs=config.max_num_seqs,
        max_num_batched_tokens=config.max_num_batched_tokens,
        max_loras=max(1, config.max_loras),
        max_cpu_loras=config.host_cache(len(workload.adapters)),
        max_in_flight=config.max_in_flight or UNLIMITED,
        window_s=workload.window_s,
        rules=profile.behaviour.rules(kv_tokens // config.block_size, keeps_prefixes(workload, config)),
        loop=ClientLoop(workload.pattern.in_flight, workload.pattern.think_s + profile.frontend.overhead_s),
    )
    costs = profile.loading.costs(workload.adapters.rank, config.max_lora_rank)
    step_cost = step_time_of(profile, config)[0].resolve(
        config.max_loras, config.max_lora_rank, profile.behaviour, config.max_num_seqs
    )
    return ServerModel(limits, costs, step_cost)


def server_notes(
    profile: Profile, config: EngineConfig, num_adapters: int, prompt_tokens: np.ndarray, output_tokens: np.ndarray
) -> tuple[str, ...]:
    """What a reader must know of a server's run: the profile's own notes, and where the run leaves its domain."""
    departures = profile.domain.departures(config, num_adapters, _mean(prompt_tokens), _mean(output_tokens))
    return profile.notes + departures + step_time_of(profile, config)[1] + speed_notes(config)


def _record(
    workload: Workload,
    profile: Profile,
    config: EngineConfig,
    kv_tokens: int,
    table: RequestTable,
    trace: EngineTrace,
    notes: tuple[str, ...],
) -> Run:
    steps = trace.steps._asdict()
    said = server_notes(profile, config, len(workload.adapters), table.prompt_tokens, table.output_tokens)
    return Run(
        kind="simulated",
        window_s=_window_s(workload, trace),
        requests=table,
        adapters=AdapterTable(workload.adapters.name, workload.adapters.rank, workload.adapters.rate_per_s),
        config=config,
        kv_tokens=kv_tokens,
        provenance=Provenance(
            created_by="loratwin.simulate",
            loratwin_version=__version__,
            engine_version=profile.engine,
            profile=profile.name,
            profile_hash=profile.digest,
            seed=workload.seed,
            notes=said + notes,
        ),
        steps=StepSeries(**steps),
        prefix_cache=None if table.cached_tokens is None else PrefixCounts(trace.prefix_queries, trace.prefix_hits),
        client_overhead_s=profile.frontend.overhead_s,
    )


def _window_s(workload: Workload, trace: EngineTrace) -> float:
    """The workload's, or until the last answer where the run is over with it."""
    over = workload.pattern.until_answered and workload.num_requests
    answered = trace.refused | (trace.finish_s <= workload.window_s)
    return (
        float(np.nanmax(trace.finish_s)) if over and answered.all() and not trace.refused.all() else workload.window_s
    )


def _request_table(requests: Requests, trace: EngineTrace, workload: Workload) -> RequestTable:
    """Those that had their turn: in an open loop all, else as many as the server's speed allowed."""
    came = _came(trace.arrival_s, workload)
    return RequestTable(
        arrival_s=trace.arrival_s[came],
        admitted_s=trace.admitted_s[came],
        first_token_s=trace.first_token_s[came],
        finish_s=trace.finish_s[came],
        adapter=requests.adapter[came],
        prompt_tokens=requests.prompt_tokens[came],
        output_tokens=requests.output_tokens[came],
        num_preemptions=trace.num_preemptions[came],
        refused=trace.refused[came],
        cached_tokens=trace.cached_tokens[came] if len(trace.cached_tokens) else None,
    )


def _shared_by(workload: Workload, trace: EngineTrace, too_long: NDArray[np.int64]) -> Sharing | None:
    """What the requests of the table have in common, row by row."""
    if workload.sharing is None:
        return None
    served = np.delete(np.arange(workload.num_requests), too_long)
    return workload.sharing.take(served[_came(trace.arrival_s, workload)])


def _came(arrival_s: F8, workload: Workload) -> slice | NDArray[np.intp]:
    """Rows of the requests that arrived in the window, in the order of their arrival."""
    if _waits(workload):
        order = np.argsort(arrival_s, kind="stable")
        return order[: int(np.searchsorted(arrival_s[order], workload.window_s))]
    closed = workload.pattern.in_flight > 0
    return slice(int(np.searchsorted(arrival_s, workload.window_s)) if closed else None)


def _waits(workload: Workload) -> bool:
    """Whether arrivals depend on answers, so that their order is not the workload's."""
    return workload.sharing is not None and workload.sharing.waits


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")
