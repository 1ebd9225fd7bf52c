"""Where a GPU's memory goes, part by part, and so how large the KV cache is and whether the server starts.

KV bytes = utilization x GPU memory - weights - slots - peak of the profile run - graphs (where they count) - other. The
peak is the larger of a step of `max_num_batched_tokens` tokens and of sampling for `max_num_seqs` sequences (engine.md
1.4, 1.8). Afterwards come graphs, where they do not count, and sampling for as many sequences as can run.
"""

from __future__ import annotations

from math import hypot
from typing import NamedTuple

from loratwin.engines.versions import engine_version, generation_of
from loratwin.errors import InputError
from loratwin.llms import CacheSettings, CacheSize, LlmShapes, cache_size, lora_tensors
from loratwin.perf.memory import GIB, AssumedMemory, MemoryModel, ReplayedMemory, lora_reserved_bytes
from loratwin.perf.memory_rules import NOT_SORTING
from loratwin.perf.profile_run import Sizes, charged_bytes
from loratwin.records import EngineConfig
from loratwin.records.config import KV_NUMBER_BYTES

Memory = MemoryModel | ReplayedMemory

LEVEL_90 = 1.645
"""Standard errors on each side of an interval of 90 %."""

FITTED_ERROR_GIB = 0.05
"""Of what a fitted profile says is left: a tenth of a per cent (engine.md 1.4)."""

MOST_GRAPH_TOKENS = 512
"""Steps up to so many tokens are captured (engine.md 1.5)."""

GRAPH_FEATURES = 4096
"""Features of a layer that `several_graph_mib` is stated for."""

SURELY = 0.85
"""Part of what is taken after the KV cache that must be too much: graphs are not known better (engine.md 1.8)."""

WHOLE_GRAPHS = (0, 11, 0)
"""From this version on steps of decodes alone have graphs of their own."""


class MemoryPart(NamedTuple):
    """A part of a GPU's memory, in GiB, and how far off it can be (a standard error)."""

    name: str
    gib: float
    error_gib: float = 0.0


class KvCapacity(NamedTuple):
    """What a server has left for keys and values."""

    tokens: int  # tokens that the KV cache holds; 0 when nothing is left
    starts: bool
    reason: str  # why it does not start; empty when it does
    low: int = 0  # interval of 90 % of the tokens
    high: int = 0


class MemoryAccount(NamedTuple):
    """Where the memory of one GPU goes.

    Attributes
    ----------
    gpu_gib
        All of it, as the driver shows it.
    granted_gib
        What the server may fill.
    parts
        What it takes before the KV cache: weights, slots, activations, graphs, other.
    kv_gib, kv_low_gib, kv_high_gib
        Left for the KV cache, with an interval of 90 %; never below 0.
    after
        What is taken after it: graphs that do not count.
    room_gib
        What there is for that.
    cache
        What the KV cache holds.
    capacity
        Its tokens with their interval, and whether the server starts.
    max_model_len
        Longest request, in tokens.
    """

    gpu_gib: float
    granted_gib: float
    parts: tuple[MemoryPart, ...]
    kv_gib: float
    kv_low_gib: float
    kv_high_gib: float
    after: tuple[MemoryPart, ...]
    room_gib: float
    cache: CacheSize
    capacity: KvCapacity
    max_model_len: int

    @property
    def concurrency(self) -> float:
        """Requests of `max_model_len` tokens that the cache holds."""
        return self.cache.concurrency


def kv_capacity(llm: LlmShapes, memory: Memory, config: EngineConfig) -> KvCapacity:
    """KV tokens of a server, and whether it starts.

    A server starts when one request of `max_model_len` tokens fits (vLLM refuses otherwise) and what it takes after the
    KV cache fits too.

    Raises
    ------
    InputError
        Adapters on a version of the first engine whose account of them is not known.
    """
    return memory_account(llm, memory, config).capacity


def memory_account(llm: LlmShapes, memory: Memory, config: EngineConfig) -> MemoryAccount:
    """Where the memory of each GPU goes.

    Raises
    ------
    InputError
        As `kv_capacity`.
    """
    granted, parts = _granted(memory, config), _parts(llm, memory, config)
    left = granted - sum(part.gib for part in parts)
    if config.kv_cache_memory_bytes:
        granted, left = granted - left + config.kv_cache_memory_bytes / GIB, config.kv_cache_memory_bytes / GIB
    spread = LEVEL_90 * hypot(_gpu_error(memory) * config.gpu_memory_utilization, *(part.error_gib for part in parts))
    spread = 0.0 if config.kv_cache_memory_bytes else spread
    ends = [max(0.0, gib) for gib in (left, left - spread, left + spread)]
    server = _server(llm, memory, config)
    cache, low, high = (cache_size(llm, gib * GIB, server) for gib in ends)
    after, room = _after(llm, memory, config, granted)
    reason = _short_of(granted, parts, left, cache.tokens, server.max_model_len, config, memory) or _no_room(
        after, room
    )
    return MemoryAccount(
        memory.gpu_gib, granted, parts, ends[0], ends[1], ends[2], after, room, cache,
        KvCapacity(cache.tokens, not reason, reason, low.tokens, high.tokens), server.max_model_len,
    )  # fmt: skip


def _server(llm: LlmShapes, memory: Memory, config: EngineConfig) -> CacheSettings:
    longest = config.max_model_len or llm.max_model_len
    number = KV_NUMBER_BYTES[config.kv_cache_dtype]
    server = CacheSettings(longest, config.max_num_batched_tokens, config.block_size, memory.tensor_parallel, number)
    return server._replace(version=engine_version(memory.engine)) if isinstance(memory, AssumedMemory) else server


def _granted(memory: Memory, config: EngineConfig) -> float:
    if isinstance(memory, MemoryModel) and memory.kv_gib is not None:
        return memory.kv_gib
    return memory.gpu_gib * config.gpu_memory_utilization


def _gpu_error(memory: Memory) -> float:
    return memory.gpu_error_gib if isinstance(memory, AssumedMemory) else 0.0


def _parts(llm: LlmShapes, memory: Memory, config: EngineConfig) -> tuple[MemoryPart, ...]:
    """What is taken before the KV cache is sized."""
    if isinstance(memory, ReplayedMemory):
        return _replayed(llm, memory, config)
    if memory.kv_gib is not None:
        return ()
    t = memory.tensor_parallel
    reserved = lora_reserved_bytes(
        llm, config.max_loras, config.max_lora_rank, memory.extra_vocabulary, t, config.fully_sharded_loras
    )
    lora = reserved / GIB
    head = (MemoryPart("weights", llm.weight_bytes_on_gpu(t) / GIB), MemoryPart("slots", lora, 0.03 * lora))
    if isinstance(memory, AssumedMemory):
        return (*head, *_assumed(llm, memory, config))
    sampler = memory.sampler_copies * _rows(config) * llm.vocab_size * 4 / GIB
    return (
        MemoryPart("weights", head[0].gib), MemoryPart("slots", lora), MemoryPart("activations", sampler),
        MemoryPart("graphs", memory.graph_gib), MemoryPart("other", memory.other_gib, FITTED_ERROR_GIB),
    )  # fmt: skip


def _rows(config: EngineConfig) -> int:
    """Sequences of the profile run."""
    return min(config.max_num_seqs, config.max_num_batched_tokens)


def _assumed(llm: LlmShapes, memory: AssumedMemory, config: EngineConfig) -> tuple[MemoryPart, ...]:
    kept = (_rotary_bytes(llm) + memory.state_copies * 4 * config.max_num_seqs * llm.vocab_size) / GIB
    peak, error = _peak_gib(llm, memory, config)
    graphs = graphs_gib(llm, memory, config) if memory.graphs_counted else 0.0
    share = 0.5 if config.enforce_eager else 1.0  # half of it is what was compiled and captured
    return (
        MemoryPart("activations", peak, error),
        MemoryPart("graphs", graphs, 0.4 * graphs),
        MemoryPart("other", memory.other_gib * share + kept, memory.other_error_gib),
    )


def _peak_gib(llm: LlmShapes, memory: AssumedMemory, config: EngineConfig) -> tuple[float, float]:
    """Peak of the profile run and its error: the larger of its step and its sampling, beside the hidden states."""
    number, tokens = llm.dtype_bytes, config.max_num_batched_tokens
    hidden = tokens * llm.hidden_size * number
    step = tokens * number * (llm.hidden_size + 1.5 * _widest(llm, memory.tensor_parallel))
    sampling = memory.sampler_copies * 4 * _rows(config) * llm.vocab_size
    encoder = 0.3 if llm.vision_parameters else 0.0  # its dummy images, rarely more than what is sampled
    return (hidden + max(step, sampling)) / GIB, hypot(memory.sampler_error * sampling / GIB, 0.05, encoder)


def _widest(llm: LlmShapes, tensor_parallel: int) -> float:
    """Most numbers of a token that a layer makes on one GPU: gate and up, or q, k and v (engine.md 1.8)."""
    return max(
        sum(linear.slices_on(tensor_parallel)) * (linear.used if linear.experts else 1)
        for kind in llm.kinds
        for linear in kind.linears
    )


def _rotary_bytes(llm: LlmShapes) -> int:
    """Sines and cosines of every position, once for all layers."""
    return llm.max_model_len * llm.head_dim * llm.dtype_bytes


def graphs_gib(llm: LlmShapes, memory: AssumedMemory, config: EngineConfig) -> float:
    """CUDA graphs of a server: so much for each graph of each layer (engine.md 1.8)."""
    mib = memory.graph_mib + memory.several_graph_mib * llm.hidden_size / GRAPH_FEATURES
    mib += memory.lora_graph_mib if config.max_loras else 0.0
    return number_of_graphs(memory.engine, config) * llm.num_layers * mib / 1024


def number_of_graphs(engine: str, config: EngineConfig) -> int:
    """Graphs that a server captures: by size, whole and in pieces, with adapters and without (engine.md 1.5)."""
    if config.enforce_eager:
        return 0
    behaviour = generation_of(engine).behaviour
    most = MOST_GRAPH_TOKENS
    if behaviour.graph_tokens_per_seq:
        most = min(most, behaviour.graph_tokens_per_seq * config.max_num_seqs)
    fine = behaviour.graph_fine_tokens or most + 1
    sizes = [1, 2, 4, *range(8, min(fine, most + 1), 8), *range(fine, most + 1, 16)]
    whole = sum(size <= config.max_num_seqs for size in sizes) if engine_version(engine) >= WHOLE_GRAPHS else 0
    pieces = sum(size <= most for size in sizes)
    return int(pieces + whole) * (2 if config.max_loras and behaviour.base_graphs else 1)


def _after(
    llm: LlmShapes, memory: Memory, config: EngineConfig, granted: float
) -> tuple[tuple[MemoryPart, ...], float]:
    """What is taken after the KV cache, and the room that there is for it: what the server may not fill.

    What the profile run took at its peak is free for graphs, but sampling for `max_num_seqs` sequences needs it again.
    """
    if not isinstance(memory, AssumedMemory) or memory.kv_gib is not None:
        return (), 0.0
    room = memory.gpu_gib - granted - memory.context_gib
    graphs = 0.0 if memory.graphs_counted else graphs_gib(llm, memory, config)
    peak = _peak_gib(llm, memory, config)[0]
    sampling = NOT_SORTING * _rows(config) * llm.vocab_size / GIB
    return (MemoryPart("graphs", graphs, 0.4 * graphs), MemoryPart("sampler warm-up", max(0.0, sampling - peak))), room


def _short_of(
    granted: float,
    parts: tuple[MemoryPart, ...],
    left: float,
    tokens: int,
    needed: int,
    config: EngineConfig,
    memory: Memory,
) -> str:
    """Why the KV cache is too small; empty where it is not."""
    if isinstance(memory, AssumedMemory) and memory.kv_gib is None and granted > memory.gpu_gib - memory.context_gib:
        free = memory.gpu_gib - memory.context_gib
        return (
            f"{granted:.1f} GiB are asked for, and {free:.1f} of {memory.gpu_gib:g} GiB are free beside a CUDA context"
        )
    if tokens >= needed:
        return ""
    slots = sum(part.gib for part in parts if part.name == "slots")
    if left + slots < 0:
        return f"the weights and the sampler's peak do not fit {memory.gpu_gib:g} GiB"
    if left < 0:
        return (
            f"{config.max_loras} slots of rank {config.max_lora_rank} take {slots:.1f} GiB "
            f"and only {left + slots:.1f} GiB are left beside the weights"
        )
    return f"{tokens} KV tokens are left, fewer than one request of max_model_len = {needed}"


def _no_room(after: tuple[MemoryPart, ...], room: float) -> str:
    """Why what comes after the KV cache does not fit; empty where it does."""
    taken = sum(part.gib for part in after)
    if SURELY * taken <= max(room, 0.0):
        return ""
    what = " and ".join(part.name for part in after if part.gib)
    return f"{what} take {taken:.1f} GiB after the KV cache, and {max(room, 0):.1f} GiB are left to them"


def _replayed(llm: LlmShapes, memory: ReplayedMemory, config: EngineConfig) -> tuple[MemoryPart, ...]:
    """The same for vLLM's first engine; LoRA takes what the profile run takes more with it than without."""
    if config.max_loras and not memory.profile_run.charges_reserved:
        raise InputError(
            f"max_loras = {config.max_loras}: how vLLM 0.6.5 to 0.7 charges adapter slots is not known, it must be 0"
        )
    without = _profile_run_bytes(llm, memory, config, 0)
    lora = _profile_run_bytes(llm, memory, config, config.max_loras) - without
    return (
        MemoryPart("weights", llm.weight_bytes_on_gpu(1) / GIB), MemoryPart("slots", lora / GIB),
        MemoryPart("activations", without / GIB), MemoryPart("other", memory.other_gib, FITTED_ERROR_GIB),
    )  # fmt: skip


def _profile_run_bytes(llm: LlmShapes, memory: ReplayedMemory, config: EngineConfig, slots: int) -> int:
    extra = memory.extra_vocabulary if slots and llm.lora_on_vocabulary else 0
    tensors = lora_tensors(llm, slots, config.max_lora_rank, extra, 1) if slots else ()
    sizes = Sizes(_rows(config), config.max_num_batched_tokens, slots, extra)
    return charged_bytes(llm, memory.profile_run, sizes, (size for size in tensors if size))
