"""Layers that keep a state of fixed size: linear attention by the gated delta rule, with its convolution."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]


class LinearAttention(NamedTuple):
    """A launch, and a time for each head of values: of a request that decodes, of a prompt token."""

    decode_launch_s: float
    decode_head_s: float
    prompt_launch_s: float
    prompt_token_s: float  # of one prompt, whatever its heads: chunk follows chunk
    prompt_head_s: float
    error: float = 0.0  # mean of |log(fitted / measured)|, the larger of both

    def scaled(self, slower: float) -> LinearAttention:
        """On a GPU whose memory is so many times slower: states are read and written."""
        decode, prompt = self.decode_head_s * slower, self.prompt_head_s * slower
        return self._replace(decode_head_s=decode, prompt_head_s=prompt)

    def decode_s(self, requests: F8, heads: int) -> F8:
        """Seconds of one layer."""
        return np.asarray(self.decode_launch_s + self.decode_head_s * requests * heads)

    def prompt_s(self, tokens: F8, heads: int) -> F8:
        """Seconds of one layer."""
        return np.asarray(self.prompt_launch_s + (self.prompt_token_s + self.prompt_head_s * heads) * tokens)
