"""KV blocks one by one, for the prefix cache (engine.md 1.9): who owns them, what is in them, which is taken next.

Without a prefix cache blocks are alike, and counting them is enough; nothing here is used then.

What is in a full block is told by the place of its last token: two requests of an adapter have the same block where
their paths through the texts have the same text at that place. So a block's hash is a pair of numbers, its content
(adapter and text, or the request alone) and its number in the request, and no chain need be followed. Blocks of one
hash stand in a bucket in the order in which they got it: the oldest is found.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from loratwin.kernel.jit import jit
from loratwin.kernel.types import I4, I8, EngineLimits, Requests

UNKNOWN = np.int64(-(2**62))
"""Content of a block that has no hash."""

_SPREAD = np.int64(0x9E3779B97F4A7C1)
"""Odd, so that contents in sequence go to buckets far apart (Fibonacci hashing)."""


class BlockPool(NamedTuple):
    """All blocks, and the blocks of each seat. Arrays by block have shape (num_blocks + 1,); the last is no block."""

    next: I4  # queue of free blocks, the next to be taken first; the last place holds its ends
    prev: I4
    owners: I4
    content: I8
    number: I4  # in its request
    bucket_next: I4  # the next younger block of the bucket, -1: none
    bucket: I4  # (a power of two,) the oldest block, -1: none
    table: I4  # (max_num_seqs + 1, most blocks of a request) blocks of a seat
    num_owned: I4  # (max_num_seqs + 1,)
    num_hashed: I4  # (max_num_seqs + 1,) the first so many have their hash
    found: I4  # (most blocks of a request,) what the last look-up found
    path: I4  # (texts one below another,) of the request that is looked up
    due_next: I4  # (max_num_seqs + 1,) decoding seats that need a block in the same steps, in admission order
    due_prev: I4
    due_head: I4  # (block_size,) see `Seats.phase`
    due_tail: I4
    cached_tokens: I4  # (requests,) found at the first admission


def new_pool(requests: Requests, limits: EngineLimits, on: bool) -> BlockPool:
    """All blocks free; empty arrays where blocks are only counted."""
    longest, all_blocks = _sizes(requests, limits.block_size) if on else (0, 0)
    num = min(limits.num_blocks, all_blocks) if on else 0  # more than all requests take are never touched
    seats = limits.max_num_seqs + 1 if on else 0
    after, before = np.arange(1, num + 2, dtype=np.int32), np.arange(-1, num, dtype=np.int32)
    after[num], before[0] = 0, num
    return BlockPool(
        next=after,
        prev=before,
        owners=np.zeros(num + 1, np.int32),
        content=np.full(num + 1, UNKNOWN),
        number=np.zeros(num + 1, np.int32),
        bucket_next=np.full(num + 1, -1, np.int32),
        bucket=np.full(1 << int(num).bit_length(), -1, np.int32),
        table=np.empty((seats, longest), np.int32),
        num_owned=np.zeros(seats, np.int32),
        num_hashed=np.zeros(seats, np.int32),
        found=np.zeros(longest, np.int32),
        path=np.zeros(_depth(requests.text_parent) if on else 0, np.int32),
        due_next=np.full(seats, -1, np.int32),
        due_prev=np.full(seats, -1, np.int32),
        due_head=np.full(limits.block_size if on else 0, -1, np.int32),
        due_tail=np.full(limits.block_size if on else 0, -1, np.int32),
        cached_tokens=np.zeros(len(requests.arrival_s) if on else 0, np.int32),
    )


def _sizes(requests: Requests, block_size: int) -> tuple[int, int]:
    """Blocks of the longest request, and of all of them."""
    tokens = np.add(requests.prompt_tokens, requests.output_tokens, dtype=np.int64) - 1
    blocks = -(-tokens // block_size)
    return int(blocks.max(initial=0)), int(blocks.sum())


def _depth(parent: I4) -> int:
    """Texts on the longest path."""
    depth, at = 0, np.arange(len(parent), dtype=np.int32)
    while len(at):
        depth += 1
        above = parent[at]
        at = np.unique(above[above >= 0])
    return depth


@jit
def _text_at(r: Requests, request: int, place: int) -> int:
    """The text that the token at a place of a request belongs to; -1: it is the request's own."""
    text = np.int64(r.text[request]) if r.text.shape[0] > 0 else np.int64(-1)
    if text < 0 or place >= r.text_end[text]:
        return -1
    up = np.int64(r.text_parent[text])
    while up >= 0 and place < r.text_end[up]:
        text = up
        up = np.int64(r.text_parent[text])
    return text


@jit
def _content(r: Requests, request: int, text: int) -> int:
    """What is in a block whose last token belongs to this text (-1: to the request alone)."""
    if text < 0:
        return -1 - np.int64(request)
    return (np.int64(r.adapter[request]) + 1) * r.text_end.shape[0] + text


@jit
def _bucket_of(p: BlockPool, content: int, number: int) -> int:
    mixed = (content * 1_000_003 + number) * _SPREAD
    return (mixed >> 20) & (p.bucket.shape[0] - 1)


@jit
def _lookup(p: BlockPool, content: int, number: int) -> int:
    """The oldest block with this in it; -1: there is none."""
    block = np.int64(p.bucket[_bucket_of(p, content, number)])
    while block >= 0 and (p.content[block] != content or p.number[block] != number):
        block = np.int64(p.bucket_next[block])
    return block


@jit
def find_prefix(p: BlockPool, r: Requests, request: int, known: int, block_size: int) -> int:
    """Look up a waiting request's blocks, but for that of the last token; how many are found, in `p.found`."""
    depth = 0
    text = np.int64(r.text[request]) if r.text.shape[0] > 0 else np.int64(-1)
    while text >= 0:
        p.path[depth] = text
        depth += 1
        text = np.int64(r.text_parent[text])
    num = 0
    while num < (known - 1) // block_size:
        place = (num + 1) * block_size - 1
        while depth > 0 and place >= r.text_end[p.path[depth - 1]]:
            depth -= 1
        block = _lookup(p, _content(r, request, p.path[depth - 1] if depth > 0 else -1), num)
        if block < 0:
            break
        p.found[num] = block
        num += 1
    return num


@jit
def num_ownerless(p: BlockPool, num_found: int) -> int:
    """Blocks found that nobody owns: they are in the queue of free blocks."""
    num = 0
    for i in range(num_found):
        num += p.owners[p.found[i]] == 0
    return num


@jit
def _leave_queue(p: BlockPool, block: int) -> None:
    p.next[p.prev[block]] = p.next[block]
    p.prev[p.next[block]] = p.prev[block]


@jit
def _queue_behind(p: BlockPool, block: int, before: int) -> None:
    after = p.next[before]
    p.next[before], p.prev[block] = block, before
    p.next[block], p.prev[after] = after, block


@jit
def adopt_found(p: BlockPool, seat: int, num_found: int) -> None:
    """A request just admitted owns what was found."""
    for i in range(num_found):
        block = p.found[i]
        if p.owners[block] == 0:
            _leave_queue(p, block)
        p.owners[block] += 1
        p.table[seat, i] = block
    p.num_owned[seat] = p.num_hashed[seat] = num_found


@jit
def _forget(p: BlockPool, block: int) -> None:
    """A block's content is lost: nobody finds it any more."""
    if p.content[block] == UNKNOWN:
        return
    place = _bucket_of(p, p.content[block], np.int64(p.number[block]))
    at = p.bucket[place]
    if at == block:
        p.bucket[place] = p.bucket_next[block]
    else:
        while p.bucket_next[at] != block:
            at = p.bucket_next[at]
        p.bucket_next[at] = p.bucket_next[block]
    p.content[block] = UNKNOWN


@jit
def take_block(p: BlockPool, seat: int) -> None:
    """Give a seat the first free block."""
    block = p.next[p.owners.shape[0] - 1]
    _leave_queue(p, block)
    _forget(p, block)
    p.owners[block] = 1
    p.table[seat, p.num_owned[seat]] = block
    p.num_owned[seat] += 1


@jit
def hash_blocks(p: BlockPool, r: Requests, request: int, seat: int, tokens: int, block_size: int) -> None:
    """The blocks that the first tokens of a request fill can be found from now on."""
    number = np.int64(p.num_hashed[seat])
    while (number + 1) * block_size <= tokens:
        block = p.table[seat, number]
        content = _content(r, request, _text_at(r, request, (number + 1) * block_size - 1))
        p.content[block], p.number[block], p.bucket_next[block] = content, number, -1
        place = _bucket_of(p, content, number)
        at = p.bucket[place]
        if at < 0:
            p.bucket[place] = block
        else:
            while p.bucket_next[at] >= 0:
                at = p.bucket_next[at]
            p.bucket_next[at] = block
        number += 1
    p.num_hashed[seat] = number


@jit
def give_back(p: BlockPool, seat: int, unhashed_first: int) -> int:
    """A seat owns nothing any more; how many of its blocks are free now, the last one first."""
    end = p.owners.shape[0] - 1
    num = 0
    for i in range(p.num_owned[seat] - 1, -1, -1):
        block = p.table[seat, i]
        p.owners[block] -= 1
        if p.owners[block] == 0:
            num += 1
            first = unhashed_first > 0 and p.content[block] == UNKNOWN
            _queue_behind(p, block, end if first else p.prev[end])
    p.num_owned[seat] = p.num_hashed[seat] = 0
    return num


@jit
def enter_due(p: BlockPool, seat: int, phase: int) -> None:
    """A seat decodes from now on: behind those admitted before it."""
    tail = p.due_tail[phase]
    p.due_prev[seat], p.due_next[seat] = tail, -1
    if tail < 0:
        p.due_head[phase] = seat
    else:
        p.due_next[tail] = seat
    p.due_tail[phase] = seat


@jit
def leave_due(p: BlockPool, seat: int, phase: int) -> None:
    before, after = p.due_prev[seat], p.due_next[seat]
    if before < 0:
        p.due_head[phase] = after
    else:
        p.due_next[before] = after
    if after < 0:
        p.due_tail[phase] = before
    else:
        p.due_prev[after] = before
