"""How long one engine step takes: the formula, in the step's features, its coefficients given.

It stands here alone. `step_work` says what a step consists of; `roofline_s`, `experts_s`, `decode_sum_s` and
`larger_sum_s`, what that costs. These have no branches, so that their source (`jit.source`) computes with arrays as
well: of that the fits make their design matrices, and the estimates of `learn` are the formula at an average step.
"""

from __future__ import annotations

import numpy as np

from loratwin.kernel.jit import entry, jit, source
from loratwin.kernel.types import F8, Count, StepCost, StepFeatures, StepWork

TILE = 64
"""Tokens in one row of the LoRA kernels' grid (engine.md 2.5)."""

SMALL_STEP = 128
"""Tokens below which the LoRA kernels split their sums 64-fold instead of 8-fold (engine.md 2.5)."""


@jit
def padded_tokens(tokens: float, graph_tokens: float, fine_tokens: float = 0.0) -> float:
    """Tokens computed when `tokens` are scheduled: CUDA graphs exist for 1, 2, 4 and multiples of 8 (engine.md 1.5).

    From vLLM 0.13 on for multiples of 16 beyond 256 (`fine_tokens`, 0: no such limit).
    """
    if tokens > graph_tokens or tokens <= 2:
        return tokens
    if 0.0 < fine_tokens < tokens:
        return -(-tokens // 16) * 16
    return 4 if tokens <= 4 else -(-tokens // 8) * 8


@jit
def roofline_s(weights_s: float, token_s: float, power: float, tokens: Count) -> Count:
    """Seconds in the dense layers for so many computed tokens: weight reads and compute joined by a p-norm."""
    return (weights_s**power + (token_s * tokens) ** power) ** (1.0 / power)


@jit
def experts_s(expert_s: float, share: float, tokens: Count) -> Count:
    """Seconds to read the experts that so many tokens are sent to at random: more tokens touch more of them."""
    return expert_s * (1.0 - (1.0 - share) ** tokens)


@jit
def dense_time_s(cost: StepCost, tokens: int) -> float:
    """Seconds in the dense layers, experts included, for `tokens` scheduled ones."""
    computed = padded_tokens(tokens, cost.graph_tokens, cost.graph_fine_tokens)
    dense = roofline_s(cost.weights_s, cost.token_s, cost.roofline_power, computed)
    return dense + experts_s(cost.expert_s, cost.expert_share, computed)


@jit
def step_work(cost: StepCost, f: StepFeatures) -> StepWork:
    """What a step consists of, on an engine that pads, runs LoRA kernels and walks its queue as `cost` says."""
    tokens = padded_tokens(f.decode_requests + f.prefill_tokens, cost.graph_tokens, cost.graph_fine_tokens)
    tiles = -(-tokens // TILE)
    lora = cost.base_graphs == 0.0 or f.distinct_adapters > 0
    prefill = f.prefill_tokens > 0
    return StepWork(
        float(tokens),
        float(f.running),
        float(f.decode_context),
        float(f.prefill_context if prefill else 0),
        1.0 if prefill else 0.0,
        1.0 if tokens > cost.graph_tokens else 0.0,
        0.0 if cost.hidden_walk > 0.0 else float(f.skipped),
        1.0 if lora else 0.0,
        float(tiles if lora else 0),
        float(f.distinct_adapters),
        float(tiles if prefill else 0),
        1.0 if tokens < SMALL_STEP else 0.0,
        float(f.lora_prefill_tokens if lora else 0),
        float(f.lora_decode_requests if lora else 0),
    )


@jit
def decode_sum_s(cost: StepCost, work: StepWork, dense_s: Count) -> Count:
    """Seconds that every step of this work takes, `dense_s` of them in the dense layers; linear in the coefficients.

    LoRA adds (engine.md 2.5): per server, tile of tokens, distinct adapter, and token.
    """
    adapter = cost.adapter_s + cost.adapter_tile_s * work.adapter_tiles + cost.adapter_small_s * work.small
    lora = cost.lora_s * work.lora + cost.lora_tile_s * work.tiles
    lora = lora + (adapter * work.adapters + cost.lora_token_s * work.lora_prefill_tokens)
    lora = lora + cost.lora_decode_s * work.lora_decode_requests
    batch = cost.running_s * work.running + cost.context_s * work.decode_context + cost.skipped_s * work.walked
    return dense_s + lora + batch


@jit
def larger_sum_s(cost: StepCost, work: StepWork, time_s: Count) -> Count:
    """The same with what steps that hold prefill, or are beyond the graphs, take besides: 0 in all others."""
    prefill = cost.prefill_step_s * work.prefill_step + cost.prefill_context_s * work.prefill_context
    again = cost.reread_context_s * (work.decode_context - cost.reread_beyond)
    tiles = cost.mixed_context_s * work.decode_context + cost.mixed_request_s * work.running
    mixed = work.prefill_step * np.maximum(tiles, again)
    return time_s + prefill + mixed + cost.eager_s * work.eager


@jit
def total_time_s(cost: StepCost, f: StepFeatures, dense_s: float) -> float:
    """Duration of one engine step in seconds, without adapter loading; `dense_s`: `dense_time_s` of its tokens.

    A walk that is hidden behind the step before counts only where it is longer than the step.
    """
    work = step_work(cost, f)
    time = decode_sum_s(cost, work, dense_s)
    if f.prefill_tokens > 0 or work.eager > 0.0:  # most steps only decode: to add 0 to them would take time
        time = larger_sum_s(cost, work, time)
    return max(time, cost.skipped_s * f.skipped) if cost.hidden_walk > 0.0 else time


@entry
def step_time_s(cost: StepCost, f: StepFeatures) -> float:
    """Duration of one engine step in seconds, to be called from Python."""
    return total_time_s(cost, f, dense_time_s(cost, f.decode_requests + f.prefill_tokens))


@entry
def _work_into(cost: StepCost, f: StepFeatures, work: F8) -> None:
    for i in range(work.shape[1]):
        one = step_work(
            cost,
            StepFeatures(
                f.decode_requests[i],
                f.prefill_tokens[i],
                f.decode_context[i],
                f.prefill_context[i],
                f.distinct_adapters[i],
                f.lora_decode_requests[i],
                f.lora_prefill_tokens[i],
                f.waiting[i],
                f.skipped[i],
                f.running[i],
            ),
        )
        for j in range(work.shape[0]):
            work[j, i] = one[j]


def sum_s(cost: StepCost, work: StepWork, dense_s: Count) -> F8:
    """The formula with arrays: seconds of steps of this work, `dense_s` of them in the dense layers."""
    return np.asarray(source(larger_sum_s)(cost, work, source(decode_sum_s)(cost, work, dense_s)))


def average_time_s(cost: StepCost, work: StepWork) -> F8:
    """Seconds of an average step: the formula at means of work, of coefficients and work of one shape or none."""
    dense_s = source(roofline_s)(cost.weights_s, cost.token_s, cost.roofline_power, work.tokens)
    dense_s = dense_s + source(experts_s)(cost.expert_s, cost.expert_share, work.tokens)
    return sum_s(cost, work, dense_s)


def works(cost: StepCost, features: StepFeatures) -> StepWork:
    """`step_work` of many steps at once: of features of shape (num_steps,), fractions allowed; so is what it gives."""
    columns = StepFeatures(*(np.ascontiguousarray(column, np.float64) for column in features))
    work = np.empty((len(StepWork._fields), len(columns.running)))
    _work_into(StepCost(*map(float, cost)), columns, work)
    return StepWork(*work)
