"""Latent attention of one layer on one GPU: what its whole module takes beyond its products of matrices.

Measured are modules of DeepSeek-V3, projections included. Requests that decode read one latent vector of each token for
all heads, after the up-projection was turned into the queries ("absorbed"): a table of seconds by heads on the GPU,
requests and context. Prompts are computed with keys and values of each head, made anew of what is cached before them
(`mla_attention.py`, engine.md 5.5): a few coefficients.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.llms.layers import Layers

F8 = NDArray[np.float64]

HEADS = (1, 2, 4, 8, 16, 32, 64, 128)
REQUESTS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
CONTEXTS = (32, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
"""Tokens of each request in the KV cache; fewer take as long as the first."""

STEP, UNIT_S = 0.05, 1e-6
"""Of the codes: the natural logarithm of the time over a microsecond. Rounding is off by 1.4 % (one standard
deviation), at random."""

PROJECTIONS = ("fused_qkv_a_proj", "q_b_proj", "q_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj")
"""Linear layers of the measured module, by vLLM's names; some LLMs have two of them in place of others."""


class Sizes(NamedTuple):
    """Of a layer, in numbers."""

    entry: int  # kept of a token: latent vector and position
    latent: int  # of them the vector that values are made of
    key: int  # of a head of a prompt, position included
    value: int


def sizes_of(kind: Layers) -> Sizes:
    """Of layers with latent attention: what heads have of a prompt follows from the projections."""
    attention, linears = kind.attention, {linear.name: linear for linear in kind.linears}
    value = linears["o_proj"].inputs // attention.num_heads
    unrotated = linears["kv_b_proj"].outputs // attention.num_heads - value
    position = attention.key_size - attention.value_size
    return Sizes(attention.key_size, attention.value_size, unrotated + position, value)


MEASURED = Sizes(entry=576, latent=512, key=192, value=128)
"""DeepSeek-V2, V3 and R1, Kimi K2."""


class LatentDecode(NamedTuple):
    """Requests that compute one token each, as they were measured."""

    log_s: F8  # (len(HEADS), len(REQUESTS), len(CONTEXTS)) beyond the module's products
    number_bytes: float  # of the KV cache

    def at(self, heads: float, requests: F8, context: F8) -> F8:
        """Seconds between the knots, linear in the logarithms; beyond the last, in proportion."""
        plane = _along(self.log_s, HEADS, heads)
        rows, columns = _place(REQUESTS, requests), _place(CONTEXTS, context)
        beyond = np.maximum(requests / REQUESTS[-1], 1.0) * np.maximum(context / CONTEXTS[-1], 1.0)
        return np.asarray(np.exp(_between(plane, rows, columns)) * beyond)


class LatentAttention(NamedTuple):
    """One GPU's; the peaks are those of the GPU that it was measured on."""

    like: str  # the GPU that it was measured on
    decode: Mapping[str, LatentDecode]  # by type of numbers of the KV cache
    bytes_per_s: float
    flops: float
    launch_s: float  # of a prompt, and all that follows
    token_s: float  # per token
    row_s: float  # per token and head: positions, copies of queries, keys and values
    share: float  # of the peak operations, in the two products
    prompt_error: float  # mean of |log(fitted / measured)| of whole modules
    decode_error: float  # standard deviation of the logarithm between knots of requests and context

    def decode_s(
        self, heads: int, requests: F8, context: F8, number_bytes: float, sizes: Sizes, peaks: tuple[float, float]
    ) -> F8:
        """Seconds of one layer.

        On a GPU with other peaks, or with other sizes, what reading and computing take is in proportion to the bound;
        what the shortest context takes (launches, absorbing, positions) is taken as it was measured.

        Parameters
        ----------
        heads
            Of queries on this GPU.
        requests, context
            That decode, and tokens of each in the KV cache; arrays of one shape.
        number_bytes
            Of the KV cache; where such a cache was not measured, it is taken as slow as the one that was.
        peaks
            Of the GPU's memory, bytes/s, and operations/s with 16 bits.
        """
        kind = "fp8" if number_bytes < 2 and "fp8" in self.decode else "bfloat16"
        table = self.decode[kind]
        least = table.at(heads, requests, np.full(np.shape(context), float(CONTEXTS[0])))
        measured = _bound_s(heads, MEASURED, table.number_bytes, self.bytes_per_s, self.flops)
        slower = _bound_s(heads, sizes, table.number_bytes, *peaks) / measured
        return np.asarray(least + (table.at(heads, requests, context) - least) * slower)

    def prompt_s(self, heads: int, tokens: F8, pairs: F8, cached: F8, sizes: Sizes, peaks: tuple[float, float]) -> F8:
        """Seconds of one layer, without the products that make keys and values of `cached` tokens before the prompts.

        Of those only keys and values are moved, no queries and outputs: half a row, by judgement (none were measured).
        `pairs`: of a prompt token and one before it; `peaks`: as of `decode_s`.
        """
        bytes_per_s, flops = peaks
        size = sizes.key + sizes.value
        row_s = self.row_s * heads * size / (MEASURED.key + MEASURED.value)
        moved = tokens * (self.token_s + row_s) + cached * row_s / 2
        moved *= self.bytes_per_s / bytes_per_s
        return np.asarray(self.launch_s + moved + 2 * heads * size * pairs / (self.share * flops))


def _bound_s(heads: float, sizes: Sizes, number_bytes: float, bytes_per_s: float, flops: float) -> float:
    """Seconds that one token of the KV cache takes at least: to be read once, to be met by all heads."""
    computing = 2 * heads * (sizes.entry + sizes.latent) / flops
    return float(max(sizes.entry * number_bytes / bytes_per_s, computing))


def _along(table: F8, knots: tuple[int, ...], value: float) -> F8:
    """Between two planes of a table."""
    place = float(_place(knots, np.array(float(value))))
    low = min(int(place), len(knots) - 2)
    return np.asarray(table[low] + (place - low) * (table[low + 1] - table[low]))


def _place(knots: tuple[int, ...], values: F8) -> F8:
    """Among the knots, by the logarithm; the ends beyond them."""
    return np.asarray(np.interp(np.log(np.maximum(values, 1e-9)), np.log(knots), np.arange(len(knots))))


def _between(plane: F8, rows: F8, columns: F8) -> F8:
    """Two linear interpolations at places in a table, arrays of one shape."""
    i = np.minimum(rows.astype(int), plane.shape[0] - 2)
    j = np.minimum(columns.astype(int), plane.shape[1] - 2)
    down, right = rows - i, columns - j
    upper = plane[i, j] * (1 - right) + plane[i, j + 1] * right
    lower = plane[i + 1, j] * (1 - right) + plane[i + 1, j + 1] * right
    return np.asarray(upper * (1 - down) + lower * down)
