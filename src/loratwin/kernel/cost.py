"""How long one engine step takes: a formula in the step's features, its coefficients given."""

from __future__ import annotations

from loratwin.kernel.jit import jit
from loratwin.kernel.types import StepCost, StepFeatures


@jit
def padded_tokens(tokens: int, graph_tokens: float) -> int:
    """Tokens computed when `tokens` are scheduled: CUDA graphs are captured for 1, 2, 4 and multiples of 8 (engine.md 1.5)."""
    if tokens > graph_tokens or tokens <= 2:
        return tokens
    return 4 if tokens <= 4 else (tokens + 7) // 8 * 8


@jit
def dense_time_s(cost: StepCost, tokens: int) -> float:
    """Seconds in the dense layers: weight reads and compute joined by a p-norm, a smooth roofline."""
    compute = cost.token_s * tokens
    if cost.dense_power <= 1.0:
        return cost.base_s + compute
    return (cost.base_s**cost.dense_power + compute**cost.dense_power) ** (1.0 / cost.dense_power)


@jit
def lora_time_s(cost: StepCost, f: StepFeatures, tokens: int) -> float:
    """Seconds that LoRA adds (engine.md 2.5): per server, per tile of tokens, per distinct adapter, per adapter token."""
    tiles = (tokens + 63) // 64
    adapters = f.distinct_adapters * (cost.adapter_s + cost.adapter_token_s * f.prefill_tokens)
    lora_tokens = f.lora_decode_requests + f.lora_prefill_tokens
    return cost.lora_s + cost.lora_tile_s * tiles + adapters + cost.lora_token_s * lora_tokens


@jit
def step_time_s(cost: StepCost, f: StepFeatures) -> float:
    """Duration of one engine step in seconds, without adapter loading."""
    tokens = padded_tokens(f.decode_requests + f.prefill_tokens, cost.graph_tokens)
    time = dense_time_s(cost, tokens) + lora_time_s(cost, f, tokens)
    time += cost.running_s * f.running + cost.context_s * f.decode_context + cost.skipped_s * f.skipped
    if f.prefill_tokens > 0:
        time += cost.mixed_s + cost.prefill_s * f.prefill_tokens + cost.prefill_context_s * f.prefill_context
    if tokens > cost.graph_tokens:
        time += cost.eager_s
    return time
