"""What PyTorch's caching allocator reserves for a sequence of tensors.

vLLM charges the KV cache with everything the process holds after profiling, so the waste inside the allocator's
segments counts. The LoRA buffers are hundreds of tensors of a few megabytes, just the size at which two do not fit one
20 MiB segment: over the starts of `kv_capacity.csv` the waste is up to 0.8 GiB. Replaying the allocator's published
rules (PyTorch documentation and `c10/cuda/CUDACachingAllocator`) explains those starts to 0.1 %:

- sizes are rounded up to 512 bytes;
- at most 1 MiB: from 2 MiB segments, the rest of a block stays usable;
- below 10 MiB: from 20 MiB segments; larger: a segment of its own, rounded up to 2 MiB; the rest of either is usable
  if above 1 MiB;
- the smallest free block that fits is taken.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable

MIB = 1 << 20


def _segment(size: int) -> int:
    if size <= MIB:
        return 2 * MIB
    return 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB


def reserved_bytes(sizes: Iterable[int]) -> int:
    """Bytes that the allocator holds after tensors of these sizes (bytes) were made in turn and none was freed."""
    reserved = 0
    free: dict[bool, list[int]] = {True: [], False: []}  # by "small", each sorted
    for raw in sizes:
        size = -(-raw // 512) * 512
        small = size <= MIB
        blocks = free[small]
        fit = bisect_left(blocks, size)
        if fit < len(blocks):
            block = blocks.pop(fit)
        else:
            block = _segment(size)
            reserved += block
        rest = block - size
        if rest >= 512 if small else rest > MIB:
            insort(blocks, rest)
    return reserved
