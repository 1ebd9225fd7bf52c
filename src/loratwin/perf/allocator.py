"""What PyTorch's caching allocator reserves for a sequence of tensors.

vLLM charges the KV cache with everything the process holds after profiling, so the waste inside the allocator's
segments counts. The LoRA buffers are hundreds of tensors of a few megabytes, just the size at which two do not fit one
20 MiB segment: over the starts of `kv_capacity.csv` the waste is up to 0.8 GiB. Replaying the allocator's published
rules (PyTorch documentation and `c10/cuda/CUDACachingAllocator`) explains those starts to 0.1 %:

- sizes are rounded up to 512 bytes;
- at most 1 MiB: from 2 MiB segments, the rest of a block stays usable;
- below 10 MiB: from 20 MiB segments; larger: a segment of its own, rounded up to 2 MiB; the rest of either is usable
  if above 1 MiB;
- the smallest free block that fits is taken;
- what is freed is kept, and joins its free neighbours.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable
from typing import NamedTuple

MIB = 1 << 20


def _segment(size: int) -> int:
    if size <= MIB:
        return 2 * MIB
    return 20 * MIB if size < 10 * MIB else -(-size // (2 * MIB)) * 2 * MIB


class Block(NamedTuple):
    """Memory that was taken from a segment."""

    start: int  # address, counted by us: segments never touch
    size: int
    small: bool  # from the pool of small tensors


class CachingAllocator:
    """PyTorch's caching allocator: what it holds, after tensors were made and freed.

    Attributes
    ----------
    reserved
        Bytes that it holds; what is freed stays with it.
    in_use, peak
        Bytes of blocks that tensors have, now and at most.
    """

    def __init__(self) -> None:
        self.reserved = self.in_use = self.peak = 0
        self._free: dict[bool, list[tuple[int, int]]] = {True: [], False: []}  # by "small": (size, start), sorted
        self._size_at: dict[int, int] = {}  # of free blocks, by where they start
        self._start_of: dict[int, int] = {}  # of free blocks, by where they end
        self._next_segment = 0

    def take(self, num_bytes: int) -> Block:
        """Make a tensor."""
        size = -(-num_bytes // 512) * 512
        small = size <= MIB
        blocks = self._free[small]
        fit = bisect_left(blocks, (size, 0))
        block_bytes, start = self._pop(blocks[fit], small) if fit < len(blocks) else self._reserve(size)
        rest = block_bytes - size
        if rest >= 512 if small else rest > MIB:
            self._put(start + size, rest, small)
        else:
            size = block_bytes
        self.in_use += size
        self.peak = max(self.peak, self.in_use)
        return Block(start, size, small)

    def give(self, *taken: Block) -> None:
        """Free tensors, in this order; free neighbours in a segment become one block."""
        for start, size, small in taken:
            self.in_use -= size
            before, after = self._start_of.get(start), self._size_at.get(start + size)
            if after is not None:
                self._pop((after, start + size), small)
                size += after
            if before is not None:
                self._pop((start - before, before), small)
                start, size = before, size + start - before
            self._put(start, size, small)

    def _reserve(self, size: int) -> tuple[int, int]:
        segment, start = _segment(size), self._next_segment
        self.reserved += segment
        self._next_segment += segment + 512
        return segment, start

    def _put(self, start: int, size: int, small: bool) -> None:
        insort(self._free[small], (size, start))
        self._size_at[start], self._start_of[start + size] = size, start

    def _pop(self, block: tuple[int, int], small: bool) -> tuple[int, int]:
        size, start = block
        del self._free[small][bisect_left(self._free[small], block)]
        del self._size_at[start], self._start_of[start + size]
        return block


def reserved_bytes(sizes: Iterable[int]) -> int:
    """Bytes that the allocator holds after tensors of these sizes (bytes) were made in turn and none was freed."""
    allocator = CachingAllocator()
    for size in sizes:
        allocator.take(size)
    return allocator.reserved
