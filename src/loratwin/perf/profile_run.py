"""The profile run of vLLM's first engine (V0), replayed tensor by tensor: what it leaves for the KV cache.

Before it makes the KV cache, the engine runs `max_num_seqs` prompts of `max_num_batched_tokens` tokens in all, which
sample with top-k and top-p, and charges the KV cache with what that took. Read in vLLM 0.4.2 to 0.7.3
(`worker/worker.py`, `worker/model_runner.py`, `model_executor/layers/sampler.py`, `lora/layers.py`):

- the sampler sorts all logits: values, indices (8 bytes), and PyTorch's sort (`Sort.cu`) has copies of both. That makes
  38 bytes for each logit in float32 (50 below 128 sequences), as the measured starts of four LLMs confirm
  (`batch_sweep_and_replication.csv`), and 30 in float16;
- with LoRA, the logits of the added vocabulary are made for every slot and every sequence, twice (one is a transposed
  copy), before the sampler runs. At 4096 sequences that is 4 MiB for each slot;
- up to 0.6.3 all that the allocator holds is charged, so it counts whether the sampler's tensors fit into what the
  tensors before them left: the 4 MiB disappear where they do.

Only tensors of megabytes are replayed. The scheduler and the steps of V0 are not modelled (engine.md 4.1).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from loratwin.engines.versions import ProfileRun
from loratwin.llms import LlmShapes
from loratwin.perf.allocator import MIB, CachingAllocator

CUBLAS_WORKSPACE = 32 * MIB
"""What PyTorch gives cuBLAS on Hopper (8 MiB elsewhere), from its own allocator, for good."""


class Sizes(NamedTuple):
    """What the profile run is of."""

    sequences: int
    tokens: int
    slots: int
    extra_vocabulary: int  # rows that every slot adds to the vocabulary; 0 where LoRA is off or leaves it alone


def charged_bytes(llm: LlmShapes, how: ProfileRun, sizes: Sizes, lora_tensors: Iterable[int]) -> int:
    """Bytes that the KV cache is charged with beyond the weights.

    Parameters
    ----------
    lora_tensors
        Bytes of the tensors that LoRA adds or enlarges, in the order in which they are made; the embedding, if it is
        among them, is a weight and does not count.
    """
    memory = CachingAllocator()
    for num_bytes in lora_tensors:
        memory.take(num_bytes)
    _forward(memory, llm, sizes.tokens)
    _logits(memory, llm, sizes)
    _sort(memory, sizes.sequences * (llm.vocab_size + sizes.extra_vocabulary), how, llm, sizes.sequences)
    weights = llm.vocab_size * llm.hidden_size * llm.dtype_bytes
    added = (_head_rows(llm, sizes) - llm.vocab_size) * llm.hidden_size * llm.dtype_bytes
    embedding = weights if sizes.extra_vocabulary else 0
    return (memory.reserved if how.charges_reserved else memory.peak) + added - embedding


def _head_rows(llm: LlmShapes, sizes: Sizes) -> int:
    """Rows of the head: padded to 64, with LoRA on it to 256."""
    unit = 256 if sizes.extra_vocabulary else 64
    return -(-(llm.vocab_size + sizes.extra_vocabulary) // unit) * unit


def _forward(memory: CachingAllocator, llm: LlmShapes, tokens: int) -> None:
    """Two layers, after which the tensors of all others find room in what is left of these."""
    row = tokens * llm.dtype_bytes
    hidden = residual = memory.take(row * llm.hidden_size)
    workspace = None
    for first in (True, False):
        normed = memory.take(row * llm.hidden_size) if first else hidden
        qkv = memory.take(row * (llm.query_size + 2 * llm.kv_size))
        workspace = workspace or memory.take(CUBLAS_WORKSPACE)
        output = memory.take(row * llm.query_size)
        memory.give(memory.take(row * llm.query_size))  # FlashAttention's own output, copied
        attended = memory.take(row * llm.hidden_size)
        memory.give(output, qkv, normed)
        gate_up = memory.take(row * 2 * llm.intermediate_size)
        product = memory.take(row * llm.intermediate_size)
        hidden = memory.take(row * llm.hidden_size)
        memory.give(product, gate_up, attended)
    memory.give(residual)


def _logits(memory: CachingAllocator, llm: LlmShapes, sizes: Sizes) -> None:
    sampled = memory.take(sizes.sequences * llm.hidden_size * llm.dtype_bytes)
    memory.take(sizes.sequences * _head_rows(llm, sizes) * llm.dtype_bytes)
    if sizes.extra_vocabulary:
        added = sizes.extra_vocabulary * sizes.sequences * llm.dtype_bytes
        lora, transposed = memory.take((sizes.slots + 1) * added), memory.take((sizes.slots + 1) * added)
        memory.give(transposed, lora)
    memory.give(sampled)


def _sort(memory: CachingAllocator, numbers: int, how: ProfileRun, llm: LlmShapes, sequences: int) -> None:
    """Sort so many logits; everything that the sampler makes afterwards fits into what the sort leaves."""
    item = llm.dtype_bytes
    if how.float_logits:
        item = 4
        memory.take(numbers * item)
    memory.take(numbers * item)
    memory.take(numbers * 8)
    for num_bytes in _workspace(item, sequences):
        memory.take(numbers * num_bytes)


def _workspace(item: int, sequences: int) -> tuple[int, ...]:
    """Bytes for each number that PyTorch's sort takes beside its results.

    From 128 rows on it sorts each by itself (indices, and a second buffer of values and indices); fewer as one list,
    in which (index, row) pairs are sorted along, and back.
    """
    buffers = item + 8
    return (8, buffers) if sequences >= 128 else (8, 8, item, buffers)
