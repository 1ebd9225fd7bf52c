"""Where the fit starts: the two measured LLMs, and round figures for what is then fitted."""

from __future__ import annotations

from typing import Literal

from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import Card, Domain, Frontend, LoadingModel, MemoryModel, Profile, StepTimeModel, generation_of

GPU = "h100-64gb"
ENGINE: Literal["vllm-0.8.5"] = "vllm-0.8.5"

SHAPES = tuple(find_llm(name, ENGINE) for name in ("llama-3.1-8b-instruct", "qwen-2.5-7b-instruct"))
"""The two measured LLMs."""

_STEP_TIME = StepTimeModel(
    weights_s=0.012,
    token_s=2.2e-5,
    roofline_power=3.0,
    running_s=2.5e-5,
    context_s=4e-8,
    prefill_context_s=0.0,
    prefill_step_s=2e-3,
    graph_tokens=512,  # engine.md 1.5
    eager_s=5e-4,
    skipped_s=4e-7,
    lora_s=1e-3,
    slot_s=1.5e-5,
    slot_rank_s=0.0,
    slot_tile_s=8e-6,
    adapter_s=3.5e-4,
    adapter_rank_s=5e-5,
    adapter_tile_s=6e-6,
    adapter_small_s=5e-5,
    lora_token_s=2.5e-5,
    lora_token_rank_s=0.0,
)

_FRONTEND = Frontend(
    overhead_s=0.005,
    first_use_s=0.3,
    scrape_interval_s=1.0,
    series_s=5e-6,
    series_name_s=5e-8,
    stall_ttft=4.0,
    generated_share=0.97,
)

_MEMORY = MemoryModel(gpu_gib=63.4, other_gib=0.5, sampler_copies=4, extra_vocabulary=256)  # engine.md 1.4, 2.2

_DOMAIN = Domain(
    max_loras=(8, 384),
    max_lora_rank=(8, 32),
    max_num_seqs=(50, 2048),
    max_num_batched_tokens=(2048, 2048),
    gpu_memory_utilization=(0.9, 0.9),
    served_adapters=(1, 384),
    prompt_tokens_mean=(1, 300),
    output_tokens_mean=(1, 400),
)


MEMORY_BYTES_PER_S = 2.0e12
"""HBM2 of the 64 GB H100 (README of the measurements)."""

ATTENTION_FLOPS = 4e14
"""FLOP/s that prompt attention reaches, about 40 % of the dense bf16 peak (989 TFLOP/s, NVIDIA's data sheet)."""


def attention_costs(llm: LlmShapes) -> dict[str, float]:
    """What attention takes: a decode step reads all keys and values once; a prompt token computes on its context.

    Two products of query_size for each pair of tokens and layer, a multiplication and an addition each.
    """
    return {
        "context_s": llm.kv_bytes_per_token / MEMORY_BYTES_PER_S,
        "prefill_context_s": 4 * llm.query_size * llm.num_layers / ATTENTION_FLOPS,
    }


def starting_profile(llm: LlmShapes) -> Profile:
    """A profile to be fitted."""
    return Profile(
        name=f"{GPU}/{ENGINE}/{llm.name}",
        engine=ENGINE,
        behaviour=generation_of(ENGINE).behaviour,
        llm=llm,
        memory=_MEMORY,
        step_time=_STEP_TIME.model_copy(update=attention_costs(llm)),
        loading=LoadingModel(swap_in_s=0.005, swap_in_padded_s=0.006, disk_load_s=0.05, disk_load_per_rank_s=0.001),
        frontend=_FRONTEND,
        domain=_DOMAIN,
        card=Card(fitted_on="nothing yet", command="", source="", held_out_error={}),
    )
