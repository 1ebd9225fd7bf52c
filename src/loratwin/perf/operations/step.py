"""An engine step as the sum of its operations over the LLM's layers, and the kernel's coefficients for it.

What a GPU computes for so many tokens: the products of matrices with all their weights, attention over what is cached
and over prompts, all-reduces, the head for the rows that are sampled, and between them what only moves activations
(norms, rotations, gates): as bytes, and as LAYER_S for each layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin import kernel
from loratwin.llms import LlmShapes, Product
from loratwin.llms.layers import Attention, Layers
from loratwin.llms.numbers import numbers
from loratwin.perf.operations.attention import TILE_KEYS, TILE_ROWS
from loratwin.perf.operations.experts import touched
from loratwin.perf.operations.latent import PROJECTIONS, sizes_of
from loratwin.perf.operations.tables import Operations

F8 = NDArray[np.float64]

LOGIT_BYTES = 30
"""Moved for each logit of a sampled row: its copy as float32, and the passes over that."""

MANY = 1024
"""Requests x heads of keys that fill a GPU."""

DECODE_WEIGHT = 3.0
"""Of the error of a step without prefill: there are many more of these."""


@dataclass(frozen=True)
class StepSum:
    """One GPU's part of an LLM. Numbers of tokens and requests are arrays of one shape; so are the seconds."""

    operations: Operations
    llm: LlmShapes
    tensor_parallel: int
    layer_s: float  # for each layer of every step, beside its operations

    def seconds(self, steps: Steps) -> F8:
        """Of whole steps."""
        attention = self.decode_s(steps.decoding, steps.context) + self.prompt_s(
            steps.prompt, steps.pairs, steps.cached
        )
        return self.dense_s(steps.decoding + steps.prompt) + attention + self.head_s(steps.running)

    def dense_s(self, tokens: F8) -> F8:
        """What every token passes through: products, all-reduces, activations."""
        plain = [product for product in self._products[:-1] if not product.experts]
        products = sum((product.times * self._product_s(product, tokens) for product in plain), self._experts_s(tokens))
        layers, hidden = self._layers, self.llm.hidden_size
        reduce = 2 * layers * self.operations.all_reduce_s(self.tensor_parallel, tokens * hidden)
        return np.asarray(products + reduce + self._activation_s * tokens + layers * self.layer_s)

    def head_s(self, rows: F8) -> F8:
        """Logits of the sampled rows, and sampling."""
        head = self._products[-1]
        moved = LOGIT_BYTES * self.llm.vocab_size / self.operations.gpu.memory_bytes_per_s
        return self._product_s(head, rows) + moved * rows

    def decode_s(self, requests: F8, context: F8) -> F8:
        """Attention of requests that decode, with `context` tokens each; 0 where there are none."""
        total = np.zeros(len(requests))
        for kind in self._attending:
            total += kind.count * self._one_decode_s(kind, requests, context)
        return np.where(requests > 0, total, 0.0)

    def prompt_s(self, tokens: F8, pairs: F8, cached: F8 | float = 0.0) -> F8:
        """Attention over prompts of so many tokens and pairs of a token and one before it; 0 where there are none.

        `cached`: tokens before these of the same prompts, together; only latent attention makes their keys anew.
        """
        total = np.zeros(len(tokens))
        for layers in self._attending:
            count, attention = layers.count, layers.attention
            heads, kv_heads = self.heads(attention)
            if attention.kind == "latent":
                total += count * self._latent_prompt_s(layers, tokens, pairs, cached + np.zeros(len(tokens)))
                continue
            if attention.kind == "linear":
                total += count * self.operations.linear.prompt_s(tokens, heads)
                continue
            kind = self.operations.context_attention(attention.key_size or 128)
            seen = np.minimum(pairs, tokens * attention.window) if attention.window else pairs
            size = attention.key_size or 128
            total += count * kind.time_s(tokens, seen, heads * size, kv_heads * size, self.operations.gpu.flops)
        return np.where(tokens > 0, total, 0.0)

    def _latent_prompt_s(self, kind: Layers, tokens: F8, pairs: F8, cached: F8) -> F8:
        """Of one layer, with the product that makes keys and values of what is cached before the prompts."""
        operations, (heads, _) = self.operations, self.heads(kind.attention)
        made = next(linear for linear in kind.linears if linear.name == "kv_b_proj")
        n = sum(made.slices_on(self.tensor_parallel))
        again = self._product_s(Product(made.name, n, made.inputs, made.numbers, 1), cached)
        prompts = operations.latent.prompt_s(heads, tokens, pairs, cached, sizes_of(kind), operations.peaks)
        return np.where(cached > 0, prompts + again, prompts)

    def _one_decode_s(self, kind: Layers, requests: F8, context: F8) -> F8:
        gpu, attention = self.operations.gpu, kind.attention
        heads, kv_heads = self.heads(attention)
        number_bytes = self.llm.kv_number_bytes or self.llm.dtype_bytes
        if attention.kind == "linear":
            return self.operations.linear.decode_s(requests, heads)
        if attention.kind == "latent":
            latent, peaks = self.operations.latent, self.operations.peaks
            return latent.decode_s(heads, requests, context, number_bytes, sizes_of(kind), peaks)
        per_token = sum(cache.bytes_on(self.tensor_parallel, number_bytes) / cache.every for cache in attention.caches)
        seen = np.minimum(context, attention.window) if attention.window else context
        kernel = self.operations.decode_attention(attention.key_size or 128, heads / kv_heads, number_bytes)
        moved = requests * per_token * seen
        return kernel.time_s(np.maximum(requests, 1.0) * kv_heads, moved, gpu.memory_bytes_per_s)

    def _product_s(self, product: Product, tokens: F8) -> F8:
        """One of its copies."""
        bits = 8 * numbers(product.numbers).num_bytes(product.k, product.n) / (product.k * product.n)
        return self.operations.product_s(product.numbers, bits, np.maximum(tokens, 1.0), product.n, product.k)

    def _experts_s(self, tokens: F8) -> F8:
        """All layers of experts: the products of one layer are one kernel."""
        total = np.zeros(len(tokens))
        layers: dict[tuple[int, int, int, str], list[Product]] = {}
        for product in self._products[:-1]:
            if product.experts:
                layers.setdefault((product.times, product.experts, product.used, product.numbers), []).append(product)
        for (times, experts, used, kind), products in layers.items():
            one_bytes = sum(numbers(kind).num_bytes(product.k, product.n) for product in products)
            operations = 2 * tokens * used * sum(product.n * product.k for product in products)
            read = touched(experts, used, tokens) * one_bytes
            total += times * self.operations.experts_s(kind, read, operations)
        return total

    @property
    def expert_share(self) -> float:
        """Part of the experts that a token is sent to, of the kind of layers with the most weights in them; 0: none."""
        layers = [product for product in self._products if product.experts]
        sizes = [
            (product.times * product.experts * product.n * product.k, product.used / product.experts)
            for product in layers
        ]
        return max(sizes, default=(0, 0.0))[1]

    def heads(self, attention: Attention) -> tuple[int, int]:
        """Of queries and of keys on this GPU."""
        t = self.tensor_parallel
        kv_heads = 1 if attention.kind == "latent" else max(1, attention.num_kv_heads // t)
        return max(1, attention.num_heads // t), kv_heads

    @property
    def _products(self) -> list[Product]:
        return self.llm.products(self.tensor_parallel)

    @property
    def prefill_step_s(self) -> float:
        """What the least prompt adds to a step: the launches of the way that latent attention computes prompts."""
        layers = sum(kind.count for kind in self.llm.kinds if kind.attention.kind == "latent")
        return layers * self.operations.latent.launch_s

    @property
    def _attending(self) -> list[Layers]:
        return [kind for kind in self.llm.kinds if kind.attention.kind != "none"]

    @property
    def attentions(self) -> list[tuple[int, Attention]]:
        """Layers with attention: how many, and what kind."""
        return [(kind.count, kind.attention) for kind in self._attending]

    @property
    def _layers(self) -> int:
        return sum(kind.count for kind in self.llm.kinds)

    @property
    def _activation_s(self) -> float:
        """Per token: each norm with its residual reads and writes twice; outputs are read and written."""
        between = 8 * self.llm.hidden_size * self._layers
        outputs = sum(
            kind.count * linear.used * sum(linear.slices_on(self.tensor_parallel))
            for kind in self.llm.kinds
            for linear in kind.linears
            if kind.attention.kind != "latent" or linear.name not in PROJECTIONS  # there within the measured module
        )
        return 2 * (between + 1.5 * outputs) / self.operations.gpu.memory_bytes_per_s


class Steps(NamedTuple):
    """Steps to be timed; arrays of one shape."""

    decoding: F8  # requests that decode
    context: F8  # tokens of each of them in the KV cache
    prompt: F8  # prompt tokens
    pairs: F8  # of a prompt token and one before it (`StepFeatures.prefill_context`)
    running: F8  # requests
    cached: F8 | float = 0.0  # tokens before these of the same prompts


def mixed_context_s(of: StepSum, prefill_context_s: float, context_s: float) -> float:
    """Seconds more for each KV token that decode requests read, in a step that holds prefill, too (engine.md 1.10).

    FlashAttention 2 lets heads that share keys fill the rows of a tile only where all requests decode; beside a prompt
    each request's one row is computed as a tile of `TILE_ROWS`, once for every head of the queries.
    """
    return max(0.0, TILE_ROWS * prefill_context_s - context_s) if _tiled(of) else 0.0


def mixed_request_s(of: StepSum, prefill_context_s: float) -> float:
    """Seconds more for each of these requests: a tile of each head is begun, and its keys are rounded up."""
    total = 0.0
    for count, attention in _tiled(of):
        heads, kv_heads = of.heads(attention)
        alone_s = of.operations.context_attention(attention.key_size).tile_s
        packed = of.operations.decode_attention(attention.key_size, heads / kv_heads)
        total += count * (heads * alone_s - kv_heads * float(packed.floor(MANY)) / MANY)
    of_keys = TILE_ROWS * prefill_context_s * TILE_KEYS / 2  # counted by the token, half a tile beyond them
    return max(0.0, total - of_keys)


def _tiled(of: StepSum) -> list[tuple[int, Attention]]:
    """Layers whose heads share keys and whose kernel fills tiles with the rows of one request."""
    if not of.operations.tiles_queries or (of.llm.kv_number_bytes or 2) < 2:
        return []
    full = [(count, attention) for count, attention in of.attentions if attention.kind == "full"]
    return [(count, attention) for count, attention in full if attention.num_heads > attention.num_kv_heads]


def rereads(of: StepSum, context_s: float) -> tuple[float, float]:
    """Seconds more for each KV token of decode requests beside a prompt, and beyond how many (engine.md 1.10).

    FlashAttention 2 goes through all requests for one head of the queries before it comes to the next one: keys and
    values are read again for each head that shares them, but for as many as the second-level cache holds.
    """
    tiled, cache_bytes = _tiled(of), of.operations.gpu.cache_mib * 2**20
    if not (tiled and cache_bytes):
        return 0.0, 0.0
    attention = tiled[0][1]
    heads, kv_heads = of.heads(attention)
    token_bytes = (attention.key_size + attention.value_size) * (of.llm.kv_number_bytes or of.llm.dtype_bytes)
    return (heads / kv_heads - 1) * context_s, cache_bytes / token_bytes


class BaseStep(NamedTuple):
    """The kernel's coefficients without LoRA (`StepTimeModel`), and how well they say the sum."""

    weights_s: float
    token_s: float
    roofline_power: float
    running_s: float
    context_s: float
    prefill_context_s: float
    expert_s: float
    expert_share: float
    error: float  # mean of |log(formula / sum)| over the steps
    worst: float
    mixed_context_s: float = 0.0
    mixed_request_s: float = 0.0
    reread_context_s: float = 0.0
    reread_beyond: float = 0.0
    prefill_step_s: float = 0.0  # of a step that holds prefill: launches of latent attention's other way

    def dense_s(self, tokens: F8) -> F8:
        """Seconds in the dense layers: the kernel's formula (`kernel.cost.dense_time_s`)."""
        dense = kernel.source(kernel.roofline_s)(self.weights_s, self.token_s, self.roofline_power, tokens)
        return np.asarray(dense + kernel.source(kernel.experts_s)(self.expert_s, self.expert_share, tokens))

    def seconds(self, steps: Steps) -> F8:
        """Seconds of whole steps."""
        dense = self.dense_s(steps.decoding + steps.prompt)
        cached = self.context_s * steps.decoding * steps.context
        total = dense + self.running_s * steps.running + cached + self.prefill_context_s * steps.pairs
        return np.asarray(total + self.prefill_step_s * (steps.prompt > 0) if self.prefill_step_s else total)


def base_step(of: StepSum, max_num_seqs: int, max_num_batched_tokens: int, kv_tokens: float) -> BaseStep:
    """The coefficients whose steps are nearest to the sum's, as logarithms, over what a server does.

    Parameters
    ----------
    max_num_seqs, max_num_batched_tokens
        The most that a step holds.
    kv_tokens
        About as many as the KV cache has.
    """
    steps = _domain(max_num_seqs, max_num_batched_tokens, kv_tokens)
    wanted = of.seconds(steps)
    tokens = steps.decoding + steps.prompt
    start = [wanted.min(), wanted.max() / tokens.max(), 1.5, 1e-6, 1e-8, 1e-10]
    start += [wanted.min()] if of.expert_share else []

    weight = np.where(steps.prompt > 0, 1.0, DECODE_WEIGHT)

    def made(p: F8) -> BaseStep:
        return _coefficients(p, of.expert_share)._replace(prefill_step_s=of.prefill_step_s)

    def off(p: F8) -> F8:
        return np.asarray(np.log(made(p).seconds(steps) / wanted))

    logarithms = _least_squares(lambda p: weight * off(p), np.log(start))
    error = np.abs(off(logarithms))
    base = made(logarithms)._replace(error=float(error.mean()), worst=float(error.max()))
    again_s, beyond = rereads(of, base.context_s)
    return base._replace(
        mixed_context_s=mixed_context_s(of, base.prefill_context_s, base.context_s),
        mixed_request_s=mixed_request_s(of, base.prefill_context_s),
        reread_context_s=again_s,
        reread_beyond=beyond,
    )


def _coefficients(p: F8, expert_share: float) -> BaseStep:
    weights, token, power, *linear = (float(coefficient) for coefficient in np.exp(p))
    running, context, prefill, experts = (*linear, 0.0)[:4]
    return BaseStep(weights, token, 1 + power, running, context, prefill, experts, expert_share, 0.0, 0.0)


def _domain(max_num_seqs: int, max_num_batched_tokens: int, kv_tokens: float) -> Steps:
    rows = [*_decode_steps(max_num_seqs, kv_tokens), *_prefill_steps(max_num_seqs, max_num_batched_tokens)]
    return Steps(*np.array(rows, float).T)


def _decode_steps(max_num_seqs: int, kv_tokens: float) -> Iterator[tuple[float, ...]]:
    batches = [b for b in (1, 2, 4, 8, 16, 32, 64, 96, 128, 192, 256, 384, 512, 768, 1024) if b <= max_num_seqs]
    for batch in batches:
        for context in (64, 256, 1024, 4096, 16384):
            if batch * context <= max(kv_tokens, 1024) or context == 64:
                yield batch, context, 0, 0, batch, 0


def _prefill_steps(max_num_seqs: int, most: int) -> Iterator[tuple[float, ...]]:
    sizes = [n for n in (64, 128, 256, 512, 1024, 1500, 2048, 3000, 4096, 6000, 8192, 16384) if n <= most]
    for tokens in sizes:
        for decoding in (d for d in (0, 16, 64, 200) if d <= min(tokens // 2, max_num_seqs)):
            prompt = tokens - decoding
            for before in (0, 2048):
                for prompts in (1, 4):
                    pairs = prompt * (before + prompt / prompts / 2)
                    yield decoding, 500, prompt, pairs, decoding + prompts, prompts * before


def _least_squares(off: Callable[[F8], F8], start: F8, rounds: int = 60) -> F8:
    """Levenberg and Marquardt's method, with differences for derivatives: the base install has no scipy."""
    p, damping = start.copy(), 1e-2
    residual = off(p)
    for _ in range(rounds):
        slope = np.column_stack([(off(p + step) - residual) / 1e-5 for step in 1e-5 * np.eye(len(p))])
        normal, gradient = slope.T @ slope, slope.T @ residual
        change = np.linalg.solve(normal + damping * np.diag(np.diag(normal) + 1e-9), -gradient)
        candidate = np.clip(p + np.clip(change, -1.0, 1.0), -32.0, 5.0)
        new = off(candidate)
        if new @ new < residual @ residual:
            p, residual, damping = candidate, new, damping / 3
        else:
            damping *= 5
    return np.asarray(p)
