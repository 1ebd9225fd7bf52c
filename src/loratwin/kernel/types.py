"""What goes into the kernel and what comes out: arrays and plain numbers, nothing else.

All times are float seconds from the start of the run; a time that never came is NaN. Requests are numbered in order of
arrival, adapters from 0 (-1: the request uses the LLM without adapter).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
I4 = NDArray[np.int32]
I1 = NDArray[np.int8]

Count = Any
"""A number of one step, or an array of many steps' (num_steps,)."""


_NONE_I4 = np.zeros(0, np.int32)
_NONE_F8 = np.zeros(0)


class Requests(NamedTuple):
    """The requests of a run, sorted by arrival. Each array has shape (num_requests,), or is empty where it says so.

    Texts form a tree; a request's tokens, prompt and output, follow one path of it, and what is beyond is its own.
    """

    arrival_s: F8
    adapter: I4  # -1: no adapter
    prompt_tokens: I4  # >= 1
    output_tokens: I4  # >= 1
    text: I4 = _NONE_I4  # whose path it follows, -1: none; empty: nobody shares anything
    follows: I4 = _NONE_I4  # it arrives when this request has ended, each at most one; -1: at its time; empty: all do
    think_s: F8 = _NONE_F8  # from that end to its arrival; empty as `follows` is
    text_parent: I4 = _NONE_I4  # (num_texts,) smaller than the text itself, -1: it begins with the prompt
    text_end: I4 = _NONE_I4  # (num_texts,) tokens from the begin of the prompt, more than the parent's


class EngineRules(NamedTuple):
    """How the engine schedules, where its versions differ (engine.md 1.3 to 1.6). All 0: vLLM 0.8.5."""

    reserve_full_prompt: int = 0  # 1: a request is admitted only when KV blocks for its whole prompt are free
    watermark_blocks: int = 0  # KV blocks that an admission leaves free while anything runs
    async_scheduling: int = 0  # 1: a step is scheduled when the one before it starts, without what that one brings
    skipped_first: int = 0  # 1: requests passed over come before preempted ones from then on
    lora_set_of_running: int = 0  # 1: the adapters of all that run hold their place, not of the scheduled alone
    prefix_caching: int = 0  # 1: full KV blocks are found again by what is in them (engine.md 1.9)
    unhashed_first: int = 0  # 1: freed blocks without a hash are the next to be taken, not the last
    count_admitted: int = 0  # 1: look-ups count when they lead to an admission, not each
    count_fresh: int = 0  # 1: look-ups of preempted requests do not count


class ClientLoop(NamedTuple):
    """Clients that send again when they are answered: a request arrives when another ends, whatever its `arrival_s`."""

    in_flight: int = 0  # clients, each with one request at a time; 0: an open loop, requests arrive at their times
    pause_s: float = 0.0  # from a request's end to the arrival of the next, the same for all


class EngineLimits(NamedTuple):
    """What the server was started with, as far as scheduling sees it, and who waits for answers."""

    num_blocks: int  # KV blocks that requests can own
    block_size: int
    max_num_seqs: int
    max_num_batched_tokens: int
    max_loras: int  # slots; ignored when no request has an adapter
    max_cpu_loras: int  # adapters kept in host memory, >= max_loras
    max_in_flight: int  # requests waiting or running beyond which arrivals are refused; 0: no limit
    window_s: float
    rules: EngineRules = EngineRules()
    loop: ClientLoop = ClientLoop()


class AdapterCosts(NamedTuple):
    """Seconds to bring one adapter into a slot, and from disk into host memory. Shape (num_adapters,)."""

    swap_in_s: F8
    disk_load_s: F8


class StepFeatures(NamedTuple):
    """What one engine step computes: the arguments of its duration."""

    decode_requests: Count  # requests that compute one token past their prompt
    prefill_tokens: Count  # prompt (or recomputed) tokens computed in this step
    decode_context: Count  # tokens in the KV cache of the decode requests before this step, summed
    prefill_context: Count  # sum over prefill chunks of n tokens of n * computed before + n * n // 2
    distinct_adapters: Count  # adapters with at least one request in this step
    lora_decode_requests: Count  # decode requests that use an adapter
    lora_prefill_tokens: Count  # prefill tokens of requests that use an adapter
    waiting: Count  # requests left waiting after scheduling
    skipped: Count  # waiting requests passed over in this step because their adapter had no place
    running: Count  # requests in the running list after scheduling


class StepCost(NamedTuple):
    """Coefficients of an engine step's duration, already resolved for one server configuration (slots, rank).

    Seconds for each unit that the name says; the formula is in `cost`.
    """

    weights_s: float  # any step: the weights are read once, the layers launched
    token_s: float  # per computed token in the dense layers, where compute binds
    roofline_power: float  # how sharply memory-bound turns into compute-bound: 1 adds both, large takes the maximum
    running_s: float  # per running request (sampling, bookkeeping)
    context_s: float  # per token of KV cache that decode requests read
    prefill_context_s: float  # per prompt token x token of its context
    prefill_step_s: float  # a step that holds prefill at all: the batch changed
    graph_tokens: float  # steps of at most so many tokens are padded and replayed as a graph
    eager_s: float  # a step beyond the captured graphs
    skipped_s: float  # per waiting request that the scheduler passes over
    lora_s: float  # any step of a server with LoRA on, slots included
    lora_tile_s: float  # per tile of 64 tokens, slots included
    adapter_s: float  # per distinct adapter in the batch
    adapter_tile_s: float  # per distinct adapter x tile of 64 tokens, in a step that holds prefill
    adapter_small_s: float  # per distinct adapter in a step of fewer than 128 tokens, more: other kernel settings
    lora_token_s: float  # per prefill token of a request with an adapter
    graph_fine_tokens: float = 0.0  # beyond so many tokens graphs exist for multiples of 16, not of 8; 0: always of 8
    base_graphs: float = 0.0  # 1: a step without adapters runs no LoRA kernels
    hidden_walk: float = 0.0  # 1: the scheduler walks the queue while the step before computes
    lora_decode_s: float = 0.0  # per decode request with an adapter
    expert_s: float = 0.0  # to read the weights of all experts, of an LLM that has them
    expert_share: float = 0.0  # part of the experts that one token is sent to
    mixed_context_s: float = 0.0  # per token of KV cache that decode requests read in a step with prefill, more
    mixed_request_s: float = 0.0  # per running request of such a step, more
    reread_context_s: float = 0.0  # per token beyond `reread_beyond`, where it is more than both
    reread_beyond: float = 0.0  # tokens whose keys and values of one head the second-level cache holds


class StepWork(NamedTuple):
    """What a step consists of: what the coefficients of `StepCost` are multiplied by in `cost`."""

    tokens: Count  # computed in the dense layers, padding included
    running: Count
    decode_context: Count
    prefill_context: Count
    prefill_step: Count  # 1: it holds prefill
    eager: Count  # 1: beyond the captured graphs
    walked: Count  # requests passed over while the step waits
    lora: Count  # 1: LoRA kernels run, if the server has LoRA on
    tiles: Count  # of 64 tokens, in these kernels
    adapters: Count  # distinct ones
    adapter_tiles: Count  # tiles that each of the adapters pays for: all in a step that holds prefill, else none
    small: Count  # 1: fewer than 128 tokens
    lora_prefill_tokens: Count
    lora_decode_requests: Count


class StepTrace(NamedTuple):
    """What the engine says of its steps; every array has shape (num_steps,)."""

    start_s: F8
    duration_s: F8
    decode_requests: I4
    prefill_tokens: I4
    running: I4
    waiting: I4
    distinct_adapters: I4
    kv_blocks: I4
    swap_ins: I4
    disk_loads: I4
    decode_context: I4
    prefill_context: I8
    skipped: I4
