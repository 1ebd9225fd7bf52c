"""Runs of a server whose coefficients are known, stepped by the twin: what the fit of steps should give back."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from loratwin.calibrate.design import Design, RunDesign, ServerDesign, make_design
from loratwin.llms import LlmShapes
from loratwin.perf import Card, Domain, EngineBehaviour, Frontend, LoadingModel, MemoryModel, Profile, StepTimeModel
from loratwin.records import EngineConfig, Run
from loratwin.simulate import simulate
from loratwin.workload import Adapters

ENGINE = "vllm-0.32.0"
LLM = LlmShapes(
    name="tiny", hidden_size=128, intermediate_size=256, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=32,
    vocab_size=2048, max_model_len=1024, lora_on_vocabulary=True,
)  # fmt: skip
STEP_TIME = StepTimeModel(
    weights_s=4e-3, token_s=1e-4, roofline_power=1.0, running_s=2e-4, context_s=1e-6, prefill_context_s=2e-7,
    prefill_step_s=1e-3, graph_tokens=0.0, eager_s=0.0, skipped_s=2e-5, lora_s=0.0, slot_s=2e-4, slot_rank_s=1e-4,
    slot_tile_s=0.0, adapter_s=5e-4, adapter_rank_s=2e-4, adapter_tile_s=0.0, adapter_small_s=0.0, lora_token_s=0.0,
    lora_token_rank_s=0.0, lora_decode_s=3e-4,
)  # fmt: skip
ADAPTERS = Adapters(
    tuple(f"a-{i:02d}" for i in range(16)), np.tile([8, 16], 8).astype(np.int32), np.full(16, np.nan),
    np.zeros(16, dtype=np.int32),
)  # fmt: skip
SEQS = 16


def known_profile() -> Profile:
    """The server: on a CPU, with swap-ins of 4 ms and loads from disk of 9 ms."""
    return Profile(
        name="cpu/known/tiny",
        engine=ENGINE,
        behaviour=EngineBehaviour(base_graphs=True, reserve_full_prompt=True),
        llm=LLM,
        memory=MemoryModel(gpu_gib=2.0, other_gib=0.0, sampler_copies=0.0, extra_vocabulary=0, kv_gib=1.0),
        step_time=STEP_TIME,
        loading=LoadingModel(swap_in_s=4e-3, swap_in_padded_s=4e-3, disk_load_s=0.0, disk_load_per_rank_s=0.0),
        frontend=Frontend(
            overhead_s=0.003, first_use_s=0.0, scrape_interval_s=1.0, series_s=0.0, series_name_s=0.0, stall_ttft=0.0,
            generated_share=1.0,
        ),
        domain=Domain(
            max_loras=(1, 16), max_lora_rank=(8, 64), max_num_seqs=(1, 256), max_num_batched_tokens=(1, 4096),
            gpu_memory_utilization=(0.1, 1.0), served_adapters=(1, 16), prompt_tokens_mean=(1.0, 1000.0),
            output_tokens_mean=(1.0, 1000.0),
        ),
        card=Card(fitted_on="", command="", source="", held_out_error={}),
    )  # fmt: skip


def config_of(server: ServerDesign) -> EngineConfig:
    """What the launcher would record."""
    return EngineConfig(
        max_loras=server.max_loras, max_cpu_loras=server.max_cpu_loras, max_lora_rank=server.max_lora_rank,
        max_num_seqs=SEQS, max_num_batched_tokens=2048, max_model_len=1024,
    )  # fmt: skip


def run_of(server: ServerDesign, run: RunDesign, noise: float = 0.0) -> Run:
    """A run of the design on the known server: bursts of as many requests as should be in flight.

    Parameters
    ----------
    noise
        Standard deviation of the logarithm of each step's duration.
    """
    drawn = run.workload(ADAPTERS, 0)
    bursts = np.arange(drawn.num_requests) // run.in_flight
    apart_s = run.window_s / (bursts[-1] + 1)
    workload = replace(drawn, arrival_s=np.minimum(bursts * apart_s, run.window_s * 0.999))
    measured = simulate(workload, known_profile(), config_of(server))
    assert measured.steps is not None
    rng = np.random.default_rng(1)
    factor = np.exp(noise * rng.standard_normal(len(measured.steps)))
    steps = replace(measured.steps, duration_s=measured.steps.duration_s * factor)
    asked = measured.requests.output_tokens
    requests = replace(measured.requests, sent_s=measured.requests.arrival_s, asked_tokens=asked)
    return replace(measured, steps=steps, requests=requests)


@lru_cache(maxsize=1)
def known_design() -> Design:
    """All servers and runs, of ten seconds each."""
    design = make_design(16, (8, 16), SEQS, 1024, budget_s=342.0)
    assert len(design.servers) == 3
    return design


@lru_cache(maxsize=2)
def known_runs(noise: float = 0.0) -> dict[str, Run]:
    """All runs of the design, by name."""
    return {
        f"{server.name}-{run.name}": run_of(server, run, noise)
        for server in known_design().servers
        for run in server.runs
    }


def as_measured(run: Run) -> Run:
    """A run of the twin as a server's client would have recorded it."""
    return replace(run, kind="measured", provenance=replace(run.provenance, gpu="cpu", llm="tiny"))


def with_loads(run: Run) -> Run:
    """The run with the time of its loads logged by itself, as a measured server's."""
    assert run.steps is not None
    load_s = np.float64(known_profile().loading.swap_in_s) * run.steps.swap_ins
    return replace(run, steps=replace(run.steps, load_s=load_s))


def begun_before(run: Run) -> Run:
    """The run as an asynchronous server logs it: one step's loads began, and nearly all passed, in the step before.

    Both steps belong to the same row of eight.
    """
    steps = run.steps
    assert steps is not None and steps.load_s is not None
    alone = np.flatnonzero((steps.load_s[:-1] == 0) & (steps.load_s[1:] > 0)) + 1
    k = int(next(step for step in alone if step % 8))
    moved = steps.duration_s[k] - 0.1 * steps.load_s[k]
    start_s, duration_s = steps.start_s.copy(), steps.duration_s.copy()
    start_s[k] += moved
    duration_s[[k - 1, k]] += moved, -moved
    return replace(run, steps=replace(steps, start_s=start_s, duration_s=duration_s))
