"""The reference with a prefix cache: vLLM's block pool, literally (engine.md 1.9).

Every token has a name, every block is an object, every full block has the hash of its tokens, of the block before it
and of the adapter. Free blocks stand in a queue. Read `find_prefix`, then `take_blocks` and `give_back_blocks`: these
are vLLM's `get_computed_blocks`, `allocate_slots` and `free`.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

from loratwin.kernel.types import AdapterCosts, EngineLimits, Requests
from tests.reference.async_engine import (
    ENGINES,
    AsyncReferenceEngine,
    AsyncSkippedFirst,
    SkippedFirst,
)
from tests.reference.engine import ReferenceEngine, ReferenceTrace, Request, StepTime

Token = tuple[str, int, int]
"""Of a text or a request's own, its number, and the place in the prompt and output."""


@dataclass(eq=False, slots=True)
class Block:
    """A block of the KV cache."""

    number: int
    owners: int = 0
    hash: int | None = None


class PrefixCaching(ReferenceEngine):
    """A server that finds full blocks again."""

    def __init__(
        self,
        requests: Requests,
        limits: EngineLimits,
        costs: AdapterCosts,
        num_adapters: int,
        step_time_s: StepTime,
        check: bool = True,
    ) -> None:
        super().__init__(requests, limits, costs, num_adapters, step_time_s, check)
        self.tables = requests
        self.free_queue = deque(Block(number) for number in range(limits.num_blocks))
        self.cached: dict[int, dict[int, Block]] = {}
        self.names_of_hashes: dict[Any, int] = {}
        self.found: list[Block] = []

    # What is in a block

    def token(self, request: Request, place: int) -> Token:
        """The token at a place of a request's prompt and output."""
        text = int(self.tables.text[request.index]) if len(self.tables.text) else -1
        if text < 0 or place >= self.tables.text_end[text]:
            return "own", request.index, place
        while self.tables.text_parent[text] >= 0 and place < self.tables.text_end[self.tables.text_parent[text]]:
            text = int(self.tables.text_parent[text])
        return "text", text, place

    def hashes(self, request: Request, num_blocks: int) -> list[int]:
        """The hashes of a request's first blocks."""
        chain: list[int] = []
        size = self.limits.block_size
        for number in range(num_blocks):
            tokens = tuple(self.token(request, place) for place in range(number * size, (number + 1) * size))
            whole = (chain[-1] if chain else None, tokens, request.adapter)
            chain.append(self.names_of_hashes.setdefault(whole, len(self.names_of_hashes)))
        return chain

    # get_computed_blocks

    def find_prefix(self, request: Request) -> int:
        """Look up the blocks of all known tokens but the last, from the first on."""
        self.found = []
        for each in self.hashes(request, (request.known - 1) // self.limits.block_size):
            if each not in self.cached:
                break
            self.found.append(next(iter(self.cached[each].values())))
        found = len(self.found) * self.limits.block_size
        if not self.limits.rules.count_admitted:
            self.count_lookup(request, found)
        return found

    def count_lookup(self, request: Request, found: int) -> None:
        """As the server counts for its metrics."""
        if request.num_preemptions == 0 or not self.limits.rules.count_fresh:
            self.prefix_queries += request.known
            self.prefix_hits += found

    # allocate_slots

    def blocks_to_admit(self, request: Request, num_tokens: int, found: int) -> int:
        """Those that are new, and those found that nobody owns: these are in the free queue."""
        nobodys = sum(block.owners == 0 for block in self.found)
        return super().blocks_to_admit(request, num_tokens, found) - len(self.found) + nobodys

    def adopt_prefix(self, request: Request) -> None:
        """Own what was found."""
        for block in self.found:
            if block.owners == 0:
                self.free_queue.remove(block)
            block.owners += 1
        request.blocks = list(self.found)
        request.num_blocks = len(request.blocks)
        request.computed = len(request.blocks) * self.limits.block_size
        self.free_blocks = len(self.free_queue)
        if request.num_preemptions == 0:
            request.cached_tokens = request.computed
        if self.limits.rules.count_admitted:
            self.count_lookup(request, request.computed)

    def take_blocks(self, request: Request, num_tokens: int) -> None:
        """New blocks from the front of the queue; what they held before is gone. Full blocks get their hash."""
        for _ in range(self.new_blocks(request, num_tokens)):
            block = self.free_queue.popleft()
            if block.hash is not None:
                del self.cached[block.hash][block.number]
                if not self.cached[block.hash]:
                    del self.cached[block.hash]
                block.hash = None
            block.owners = 1
            request.blocks.append(block)
        request.num_blocks = len(request.blocks)
        self.free_blocks = len(self.free_queue)
        self.cache_blocks(request, min(request.computed + num_tokens, request.known))

    def cache_blocks(self, request: Request, num_tokens: int) -> None:
        """Give the full blocks of so many tokens their hashes."""
        num_full = num_tokens // self.limits.block_size
        if all(block.hash is not None for block in request.blocks[:num_full]):
            return
        for block, each in zip(request.blocks, self.hashes(request, num_full), strict=False):
            if block.hash is None:
                block.hash = each
                self.cached.setdefault(each, {})[block.number] = block

    # free

    def give_back_blocks(self, request: Request) -> None:
        """From the last to the first; who has no owner any more is free, and can still be found."""
        first: list[Block] = []
        last: list[Block] = []
        for block in reversed(request.blocks):
            block.owners -= 1
            if block.owners == 0:
                unknown = block.hash is None and self.limits.rules.unhashed_first
                (first if unknown else last).append(block)
        self.free_queue = deque(first) + self.free_queue + deque(last)
        request.blocks = []
        request.num_blocks = 0
        self.free_blocks = len(self.free_queue)

    # What always holds

    def check_blocks(self) -> None:
        """Every block is in the queue or owned, by as many as it says."""
        owned: dict[Block, int] = {}
        for request in self.requests:
            for block in request.blocks:
                owned[block] = owned.get(block, 0) + 1
        assert all(block.owners == num for block, num in owned.items())
        assert all(block.owners == 0 for block in self.free_queue)
        assert len(self.free_queue) == len(set(self.free_queue)) == self.free_blocks
        assert len(self.free_queue) + len(owned) == self.limits.num_blocks
        assert not owned.keys() & set(self.free_queue)
        for request in self.running:
            assert request.num_blocks == len(request.blocks) == math.ceil(request.computed / self.limits.block_size)
        for each, blocks in self.cached.items():
            assert blocks and all(block.hash == each for block in blocks.values())


class AsyncPrefixCaching(PrefixCaching, AsyncReferenceEngine):
    """With a step scheduled ahead: a block that a token fills has its hash when that token is known."""

    def token_came(self, request: Request) -> None:
        """`_update_request_with_output` of the scheduler."""
        self.cache_blocks(request, request.computed - request.placeholders)


class PrefixCachingSkippedFirst(PrefixCaching, SkippedFirst):
    """Both."""


class AsyncPrefixCachingSkippedFirst(AsyncPrefixCaching, AsyncSkippedFirst):
    """All."""


CACHING: dict[tuple[int, int], type[PrefixCaching]] = {
    (0, 0): PrefixCaching, (1, 0): AsyncPrefixCaching,
    (0, 1): PrefixCachingSkippedFirst, (1, 1): AsyncPrefixCachingSkippedFirst,
}  # fmt: skip


def run_any_reference(
    requests: Requests,
    limits: EngineLimits,
    costs: AdapterCosts,
    num_adapters: int,
    step_time_s: StepTime,
    check: bool = True,
) -> ReferenceTrace:
    """The reference that the limits' rules ask for."""
    rules = limits.rules
    engines = CACHING if rules.prefix_caching else ENGINES
    engine = engines[rules.async_scheduling, rules.skipped_first]
    return engine(requests, limits, costs, num_adapters, step_time_s, check).run()
