"""What is known of the GPU memory of a vLLM server with LoRA (engine.md 1.4, 1.8 and 2.2).

What is known of it: `MemoryModel` where starts were measured, `AssumedMemory` where none were, `ReplayedMemory` of
vLLM's first engine. What follows for a server is in `loratwin.perf.account`.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from loratwin.engines.versions import ProfileRun
from loratwin.llms import LlmShapes, lora_tensors
from loratwin.perf.allocator import reserved_bytes

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


class AssumedMemory(MemoryModel):
    """What is known of a GPU, engine version and LLM that were not measured: parts of the memory and their errors."""

    engine: str  # version, which says what there is to captured graphs
    gpu_error_gib: NonNegativeFloat = 0.0  # standard errors of the parts, GiB
    other_error_gib: NonNegativeFloat = 0.0
    sampler_error: NonNegativeFloat = 0.05  # of its copies, relative
    state_copies: NonNegativeFloat = 0.0  # of (sequences x vocabulary), float32, that the runner keeps
    context_gib: NonNegativeFloat = 0.0  # CUDA context beside what the server may fill
    graph_mib: NonNegativeFloat = 0.0  # of one graph of one layer
    lora_graph_mib: NonNegativeFloat = 0.0  # more with slots
    several_graph_mib: NonNegativeFloat = 0.0  # more on two or more GPUs
    graphs_counted: bool = False  # taken off before the KV cache is sized, or captured beside it


@lru_cache(maxsize=4096)
def lora_reserved_bytes(
    llm: LlmShapes,
    slots: int,
    rank: int,
    extra_vocabulary: int,
    tensor_parallel: int = 1,
    fully_sharded: bool = False,
) -> int:
    """Bytes that `slots` slots take from the KV cache, the allocator's waste included; 0 without LoRA."""
    if slots == 0:
        return 0
    tensors = lora_tensors(llm, slots, rank, extra_vocabulary, tensor_parallel, fully_sharded=fully_sharded)
    reserved = reserved_bytes(size for size in tensors if size)
    embedding = llm.vocab_size * llm.hidden_size * llm.dtype_bytes if llm.lora_on_vocabulary else 0
    return reserved - embedding
