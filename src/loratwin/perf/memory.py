"""GPU memory of a vLLM server with LoRA: slots, KV cache, and whether it starts (engine.md 1.4 and 2.2).

KV bytes = utilization x GPU memory - weights - sampler peak - other - what the LoRA buffers reserve; in vLLM's first
engine, utilization x GPU memory - weights - other - what its profile run took (`loratwin.perf.profile_run`).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from loratwin.engines.versions import ProfileRun
from loratwin.errors import InputError
from loratwin.llms import LlmShapes, Server, cache_size, lora_tensors
from loratwin.perf.allocator import reserved_bytes
from loratwin.perf.profile_run import Sizes, charged_bytes
from loratwin.records import EngineConfig

GIB = 1 << 30


class MemoryModel(BaseModel):
    """What memory cannot be told from shapes alone, for one GPU, engine version and LLM."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gpu_gib: PositiveFloat  # memory that the driver shows, GiB
    other_gib: NonNegativeFloat  # CUDA context, activations beyond the sampler's peak, library workspaces, GiB
    sampler_copies: NonNegativeFloat  # float32 copies of (sequences x vocabulary) alive at the sampler's peak
    extra_vocabulary: NonNegativeInt  # rows added to the embedding for each slot (`lora_extra_vocab_size`)
    graph_gib: NonNegativeFloat = 0.0  # CUDA graphs, where the engine counts them in its share (vLLM 0.25 on)
    tensor_parallel: PositiveInt = 1  # GPUs that share the LLM; the figures here are of each of them
    kv_gib: PositiveFloat | None = None  # size of the KV cache if it is given, as on CPU (VLLM_CPU_KVCACHE_SPACE)


class ReplayedMemory(BaseModel):
    """What shapes cannot tell of vLLM's first engine (V0) on one GPU: its profile run is replayed."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    gpu_gib: PositiveFloat  # memory that the driver shows, GiB
    other_gib: NonNegativeFloat  # what the engine charges and PyTorch does not hold: kernels, handles, GiB
    extra_vocabulary: NonNegativeInt  # rows that `lora_extra_vocab_size` adds to the embedding for each slot
    profile_run: ProfileRun
    tensor_parallel: Literal[1] = 1


class KvCapacity(NamedTuple):
    """What a server has left for keys and values."""

    tokens: int  # tokens that the KV cache holds; 0 when nothing is left
    starts: bool
    reason: str  # why it does not start; empty when it does


@lru_cache(maxsize=4096)
def lora_reserved_bytes(llm: LlmShapes, slots: int, rank: int, extra_vocabulary: int, tensor_parallel: int = 1) -> int:
    """Bytes that `slots` slots take from the KV cache, the allocator's waste included; 0 without LoRA."""
    if slots == 0:
        return 0
    reserved = reserved_bytes(
        size for size in lora_tensors(llm, slots, rank, extra_vocabulary, tensor_parallel) if size
    )
    embedding = llm.vocab_size * llm.hidden_size * llm.dtype_bytes if llm.lora_on_vocabulary else 0
    return reserved - embedding


def kv_capacity(llm: LlmShapes, memory: MemoryModel | ReplayedMemory, config: EngineConfig) -> KvCapacity:
    """KV tokens of a server, and whether it starts.

    A server starts when one request of `max_model_len` tokens fits (vLLM refuses otherwise).

    Raises
    ------
    InputError
        Adapters on a version of the first engine whose account of them is not known.
    """
    if isinstance(memory, ReplayedMemory):
        available, lora = _replayed(llm, memory, config)
    else:
        available, lora = _by_formula(llm, memory, config)
    needed = config.max_model_len or llm.max_model_len
    server = Server(needed, config.max_num_batched_tokens, config.block_size, memory.tensor_parallel)
    tokens = cache_size(llm, available - lora, server).tokens
    if tokens >= needed:
        return KvCapacity(tokens, True, "")
    if available < 0:
        reason = f"the weights and the sampler's peak do not fit {memory.gpu_gib:g} GiB"
    elif available < lora:
        reason = (
            f"{config.max_loras} slots of rank {config.max_lora_rank} take {lora / GIB:.1f} GiB "
            f"and only {available / GIB:.1f} GiB are left beside the weights"
        )
    else:
        reason = f"{tokens} KV tokens are left, fewer than one request of max_model_len = {needed}"
    return KvCapacity(tokens, False, reason)


def _by_formula(llm: LlmShapes, memory: MemoryModel, config: EngineConfig) -> tuple[float, int]:
    """Bytes of one GPU left for LoRA and the KV cache, and those that LoRA takes."""
    if memory.kv_gib is not None:
        return memory.kv_gib * GIB, 0
    t = memory.tensor_parallel
    lora = lora_reserved_bytes(llm, config.max_loras, config.max_lora_rank, memory.extra_vocabulary, t)
    return _beside_weights(llm, memory, config), lora


def _beside_weights(llm: LlmShapes, memory: MemoryModel, config: EngineConfig) -> float:
    """Bytes of one GPU left for LoRA and the KV cache; every GPU samples from the whole vocabulary."""
    rows = min(config.max_num_seqs, config.max_num_batched_tokens)
    sampler = memory.sampler_copies * rows * llm.vocab_size * 4
    granted = memory.gpu_gib * GIB * config.gpu_memory_utilization - llm.weight_bytes_on_gpu(memory.tensor_parallel)
    return granted - ((memory.other_gib + memory.graph_gib) * GIB + sampler)


def _replayed(llm: LlmShapes, memory: ReplayedMemory, config: EngineConfig) -> tuple[float, int]:
    """The same for vLLM's first engine; LoRA takes what the profile run takes more with it than without."""
    if config.max_loras and not memory.profile_run.charges_reserved:
        raise InputError(
            f"max_loras = {config.max_loras}: how vLLM 0.6.5 to 0.7 charges adapter slots is not known, it must be 0"
        )
    granted = memory.gpu_gib * GIB * config.gpu_memory_utilization - llm.weight_bytes_on_gpu(1)
    without = _profile_run_bytes(llm, memory, config, 0)
    lora = _profile_run_bytes(llm, memory, config, config.max_loras) - without
    return granted - memory.other_gib * GIB - without, lora


def _profile_run_bytes(llm: LlmShapes, memory: ReplayedMemory, config: EngineConfig, slots: int) -> int:
    extra = memory.extra_vocabulary if slots and llm.lora_on_vocabulary else 0
    rows = min(config.max_num_seqs, config.max_num_batched_tokens)
    tensors = lora_tensors(llm, slots, config.max_lora_rank, extra, 1) if slots else ()
    sizes = Sizes(rows, config.max_num_batched_tokens, slots, extra)
    return charged_bytes(llm, memory.profile_run, sizes, (size for size in tensors if size))
