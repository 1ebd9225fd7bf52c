"""How many tokens fit the memory for keys, values and states: vLLM's groups of layers (engine.md 5.2).

All layers draw blocks from one pool. Layers that keep the same thing make groups of as many layers; a block of the pool
has a page for each layer of a group. A request takes, of each group that grows, a block for every so many tokens; of a
group with a window as many as the window and a batch can touch; of a state, one.
"""

from __future__ import annotations

from typing import NamedTuple

from loratwin.engines.versions import Version
from loratwin.errors import InputError
from loratwin.llms.layers import Cache
from loratwin.llms.shapes import LlmShapes

GROUPS: Version = (0, 9, 0)
"""From here on layers with a window are groups of their own; before, they keep every token."""

CHUNKS_IN_GROUPS: Version = (0, 19, 0)
"""From here on layers with chunks are (`VLLM_ALLOW_CHUNKED_LOCAL_ATTN_WITH_HYBRID_KV_CACHE` is on by default)."""

TOKENS_OF_REQUESTS: Version = (0, 22, 0)
"""From here on "GPU KV cache size" is concurrency times `max_model_len`; before, blocks of a group times tokens."""

IN_FLIGHT: Version = (0, 33, 0)
"""From here on a window keeps the tokens of two batches: of the one that runs, and of the one scheduled meanwhile."""


class CacheSize(NamedTuple):
    """What fits.

    Attributes
    ----------
    tokens
        As vLLM logs them ("GPU KV cache size").
    blocks
        Of the pool.
    block_bytes
        Bytes of one on a GPU.
    request_blocks
        Of one request of `max_model_len` tokens.
    block_tokens
        Tokens of a block of the layers that keep every token.
    """

    tokens: int
    blocks: int
    block_bytes: int
    request_blocks: int
    block_tokens: int

    @property
    def concurrency(self) -> float:
        """Requests of `max_model_len` tokens that fit."""
        return self.blocks / self.request_blocks


class CacheSettings(NamedTuple):
    """What the size of the cache depends on beside the LLM and the memory."""

    max_model_len: int
    max_num_batched_tokens: int
    block_size: int = 16
    tensor_parallel: int = 1
    number_bytes: float | None = None  # of keys and values (`--kv-cache-dtype`); None: the checkpoint's
    version: Version = (0, 33, 0)


class _Group(NamedTuple):
    """Layers that keep the same: how many, bytes of a page of one, blocks of a request of `max_model_len`."""

    layers: int
    page: int
    blocks: int
    block_tokens: int


def cache_size(llm: LlmShapes, available: float, server: CacheSettings) -> CacheSize:
    """What fits `available` bytes of one GPU.

    Raises
    ------
    InputError
        An LLM that keeps nothing.
    """
    kept = _kept(llm, server)
    if not kept:
        raise InputError(f"{llm.name}: no layer keeps keys and values, or a state")
    if all(cache.grows for cache, _ in kept):
        return _one_group(kept, available, server, llm)
    groups = _groups(kept, server, llm)
    return _several(groups, available, server) if groups else _by_bytes(kept, available, server, llm)


def _kept(llm: LlmShapes, server: CacheSettings) -> list[tuple[Cache, int]]:
    """What layers keep, and how many of them; as full attention where the version has no groups for it."""
    counts: dict[Cache, int] = {}
    for kind in llm.kinds:
        for cache in _with_states_joined(kind.attention.caches):
            sliding = cache.kind == "sliding" and server.version < GROUPS
            chunked = cache.kind == "chunked" and server.version < CHUNKS_IN_GROUPS
            if sliding or chunked or (cache.window is not None and cache.window >= server.max_model_len):
                cache = cache.model_copy(update={"kind": "full", "window": None})
            counts[cache] = counts.get(cache, 0) + kind.count
    return list(counts.items())


def _with_states_joined(caches: tuple[Cache, ...]) -> list[Cache]:
    """The states of a layer are one page."""
    states = [cache for cache in caches if cache.kind == "state"]
    if len(states) < 2:
        return list(caches)
    sizes = {cache.units for cache in states}
    common = min(sizes)
    numbers = sum(cache.units * cache.size * (cache.number_bytes or 2) for cache in states)
    joined = Cache(kind="state", units=common, size=max(1, int(numbers / common)), number_bytes=1)
    return [*(cache for cache in caches if cache.kind != "state"), joined]


def _entry(cache: Cache, server: CacheSettings, llm: LlmShapes) -> int:
    number = server.number_bytes or llm.kv_number_bytes or llm.dtype_bytes
    return cache.bytes_on(server.tensor_parallel, number)


def _one_group(kept: list[tuple[Cache, int]], available: float, server: CacheSettings, llm: LlmShapes) -> CacheSize:
    """All layers keep every token: a block has a page of each of them."""
    size = server.block_size
    block = sum(count * _entry(cache, server, llm) * size // cache.every for cache, count in kept)
    blocks = max(0, int(available // block))
    return CacheSize(blocks * size, blocks, block, -(-server.max_model_len // size), size)


def _groups(kept: list[tuple[Cache, int]], server: CacheSettings, llm: LlmShapes) -> list[_Group]:
    """Groups whose pages have the same bytes; none where that cannot be."""
    pages = _pages(kept, server, llm)
    if pages is None:
        return []
    page = max(pages.values())
    found = []
    for cache, count in kept:
        tokens = server.block_size
        if cache.kind != "state":
            if page % pages[cache]:
                tokens = _block_tokens(kept, server, llm)  # padded
            else:
                tokens = _block_tokens(kept, server, llm) * (page // pages[cache])
        found.append(
            _Group(count, page, _blocks_of_request(cache, tokens, server), tokens if cache.kind != "state" else 0)
        )
    return found


def _block_tokens(kept: list[tuple[Cache, int]], server: CacheSettings, llm: LlmShapes) -> int:
    """Tokens of a block: as many as make a page of attention at least that of a state."""
    states = [_entry(cache, server, llm) for cache, _ in kept if cache.kind == "state"]
    entries = [_entry(cache, server, llm) for cache, _ in kept if cache.kind != "state"]
    if not states or not entries:
        return server.block_size
    unit = max(server.block_size, 128 if any(cache.kind == "latent" for cache, _ in kept) else 0)
    return unit * -(-max(states) // (unit * max(entries)))


def _pages(kept: list[tuple[Cache, int]], server: CacheSettings, llm: LlmShapes) -> dict[Cache, int] | None:
    """Bytes of a page of each, before they are made the same; None: some have entries of several tokens."""
    if any(cache.every > 1 for cache, _ in kept):
        return None
    tokens = _block_tokens(kept, server, llm)
    return {cache: _entry(cache, server, llm) * (1 if cache.kind == "state" else tokens) for cache, _ in kept}


def _blocks_of_request(cache: Cache, tokens: int, server: CacheSettings) -> int:
    longest, batch = server.max_model_len, server.max_num_batched_tokens
    if server.version >= IN_FLIGHT:
        batch *= 2
    if cache.kind == "state":
        return 1
    if cache.kind == "sliding":
        return -(-min((cache.window or 1) - 1 + batch, longest) // tokens) + 1
    if cache.kind == "chunked":
        return -(-min((cache.window or 1) + batch, longest) // tokens)
    return -(-longest // tokens)


def _several(kept: list[_Group], available: float, server: CacheSettings) -> CacheSize:
    """Groups of as many layers as the smallest kind has, or as the largest where they are nearly as many."""
    counts = [group.layers for group in kept]
    layers = max(counts) if max(counts) < 1.5 * min(counts) else min(counts)
    block = layers * max(group.page for group in kept)
    blocks = max(0, int(available // block))
    numbers = [-(-group.layers // layers) for group in kept]
    request = sum(number * group.blocks for number, group in zip(numbers, kept, strict=True))
    tokens = min(group.block_tokens for group in kept if group.block_tokens)
    if server.version >= TOKENS_OF_REQUESTS:
        return CacheSize(int(blocks / request * server.max_model_len), blocks, block, request, tokens)
    return CacheSize(blocks // sum(numbers) * tokens, blocks, block, request, tokens)


def _by_bytes(kept: list[tuple[Cache, int]], available: float, server: CacheSettings, llm: LlmShapes) -> CacheSize:
    """Pages of many sizes, packed into one block: as if every byte could be used."""
    size = server.block_size
    request = sum(
        count * _entry(cache, server, llm) * _blocks_of_request(cache, size, server) * size // cache.every
        for cache, count in kept
        if cache.kind != "state"
    )
    request += sum(count * _entry(cache, server, llm) for cache, count in kept if cache.kind == "state")
    blocks_of_request = -(-server.max_model_len // size)
    block = max(1, -(-request // blocks_of_request))
    blocks = max(0, int(available // block))
    return CacheSize(int(available / request * server.max_model_len), blocks, block, blocks_of_request, size)
