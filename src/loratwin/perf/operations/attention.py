"""Attention of one layer on one GPU: a few coefficients that the measured calls were fitted by."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]


def key_value_bytes(kind: str, head_size: int) -> int:
    """Bytes of one token's key and value in one head."""
    return 2 * head_size * (1 if kind == "fp8" else 2)


TILE_ROWS, TILE_KEYS = 64, 128
"""Queries and keys that FlashAttention 2 computes at a time where the KV cache is in pages (`kBlockM`, `kBlockN`)."""

TILE_OPERATIONS = 4 * TILE_ROWS * TILE_KEYS * 128
"""Of both products, with heads of 128."""


class DecodeAttention(NamedTuple):
    """Requests that compute one token each: a time by heads of keys and one to read the cache, joined by a p-norm."""

    floor_s: tuple[float, ...]  # with next to no context, of 1, 2, 4, ... requests x heads of keys
    memory_share: float  # of the peak, in reading keys and values
    power: float  # 1: both add up
    error: float = 0.0  # mean of |log(fitted / measured)| beyond the second-level cache

    def floor(self, pairs: F8 | float) -> F8:
        """Seconds for so many requests x heads of keys; beyond the largest measured, in proportion."""
        known = np.arange(len(self.floor_s))
        octave = np.log2(np.maximum(pairs, 1.0))
        inside = np.exp(np.interp(octave, known, np.log(self.floor_s)))
        return np.asarray(inside * np.exp2(np.maximum(octave - known[-1], 0.0)))

    def time_s(self, pairs: F8 | float, num_bytes: F8 | float, bytes_per_s: float) -> F8:
        """Seconds for requests x heads of keys that read so many bytes of keys and values."""
        read_s = num_bytes / (self.memory_share * bytes_per_s)
        return np.asarray((self.floor(pairs) ** self.power + read_s**self.power) ** (1 / self.power))


class ContextAttention(NamedTuple):
    """Prompts: a launch, a time for each token's queries, keys and values, and the two products, all added."""

    launch_s: float
    query_s: float  # per token and feature of the queries
    key_s: float  # per token and feature of the keys
    share: float  # of the peak operations, in the products
    error: float = 0.0  # mean of |log(fitted / measured)| of calls of 0.1 Tflop or more
    tile_s: float = 0.0  # of one head of a request of few tokens, where there are many

    def on(self, flops: float, measured_flops: float) -> ContextAttention:
        """On a GPU with another peak: what is beyond the bound (exponentials, last waves) stays as it was measured."""
        beyond = (1 / self.share - 1) * flops / measured_flops
        slower_s = TILE_OPERATIONS * (1 / flops - 1 / measured_flops)
        return self._replace(share=1 / (1 + beyond), tile_s=max(0.0, self.tile_s + slower_s))

    def time_s(self, tokens: F8, pairs: F8, query_size: F8 | float, key_size: F8 | float, flops: float) -> F8:
        """Seconds for prompts of so many tokens and of so many pairs of a token and one before it."""
        token_s = self.query_s * query_size + self.key_s * key_size
        return np.asarray(self.launch_s + token_s * tokens + 4 * query_size * pairs / (self.share * flops))
