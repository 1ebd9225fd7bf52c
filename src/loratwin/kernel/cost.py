"""How long one engine step takes: a formula in the step's features, its coefficients given."""

from __future__ import annotations

from loratwin.kernel.jit import entry, jit
from loratwin.kernel.types import StepCost, StepFeatures

TILE = 64
"""Tokens in one row of the LoRA kernels' grid (engine.md 2.5)."""

SMALL_STEP = 128
"""Tokens below which the LoRA kernels split their sums 64-fold instead of 8-fold (engine.md 2.5)."""


@jit
def padded_tokens(tokens: int, graph_tokens: float, fine_tokens: float = 0.0) -> int:
    """Tokens computed when `tokens` are scheduled: CUDA graphs exist for 1, 2, 4 and multiples of 8 (engine.md 1.5).

    From vLLM 0.13 on for multiples of 16 beyond 256 (`fine_tokens`, 0: no such limit).
    """
    if tokens > graph_tokens or tokens <= 2:
        return tokens
    if 0.0 < fine_tokens < tokens:
        return (tokens + 15) // 16 * 16
    return 4 if tokens <= 4 else (tokens + 7) // 8 * 8


@jit
def dense_time_s(cost: StepCost, tokens: int) -> float:
    """Seconds in the dense layers for `tokens` scheduled ones: weight reads and compute joined by a p-norm."""
    computed = padded_tokens(tokens, cost.graph_tokens, cost.graph_fine_tokens)
    power = cost.roofline_power
    return (cost.weights_s**power + (cost.token_s * computed) ** power) ** (1.0 / power)


@jit
def lora_time_s(cost: StepCost, f: StepFeatures, tokens: int) -> float:
    """Seconds that LoRA adds (engine.md 2.5): per server, tile of tokens, distinct adapter, and token."""
    if cost.base_graphs > 0.0 and f.distinct_adapters == 0:
        return 0.0
    tiles = (tokens + TILE - 1) // TILE
    adapter = cost.adapter_s
    if f.prefill_tokens > 0:
        adapter += cost.adapter_tile_s * tiles
    if tokens < SMALL_STEP:
        adapter += cost.adapter_small_s
    time = cost.lora_s + cost.lora_tile_s * tiles
    time += adapter * f.distinct_adapters + cost.lora_token_s * f.lora_prefill_tokens
    return time + cost.lora_decode_s * f.lora_decode_requests


@jit
def total_time_s(cost: StepCost, f: StepFeatures, dense_s: float) -> float:
    """Duration of one engine step in seconds, without adapter loading; `dense_s`: `dense_time_s` of its tokens."""
    tokens = padded_tokens(f.decode_requests + f.prefill_tokens, cost.graph_tokens, cost.graph_fine_tokens)
    time = dense_s + lora_time_s(cost, f, tokens)
    walk_s = cost.skipped_s * f.skipped
    hidden = cost.hidden_walk > 0.0
    time += cost.running_s * f.running + cost.context_s * f.decode_context + (0.0 if hidden else walk_s)
    if f.prefill_tokens > 0:
        time += cost.prefill_step_s + cost.prefill_context_s * f.prefill_context
    if tokens > cost.graph_tokens:
        time += cost.eager_s
    return max(time, walk_s) if hidden else time


@entry
def step_time_s(cost: StepCost, f: StepFeatures) -> float:
    """Duration of one engine step in seconds, to be called from Python."""
    return total_time_s(cost, f, dense_time_s(cost, f.decode_requests + f.prefill_tokens))
