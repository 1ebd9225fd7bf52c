"""Run by vLLM's Python: its own asynchronous scheduler, with the probe around it and two steps in flight, but no LLM.

The CPU build never schedules asynchronously, so no server here does. Prints what each step was, counted literally.
"""

from __future__ import annotations

import json
import random
import sys
from typing import Any

import torch
from vllm.config import CacheConfig, DeviceConfig, LoRAConfig, ModelConfig, SchedulerConfig, VllmConfig
from vllm.lora.request import LoRARequest
from vllm.sampling_params import SamplingParams
from vllm.v1.kv_cache_interface import FullAttentionSpec, KVCacheConfig, KVCacheGroupSpec
from vllm.v1.outputs import ModelRunnerOutput
from vllm.v1.request import Request
from vllm.v1.structured_output import StructuredOutputManager

BLOCK = 16


def make_scheduler(llm: str, num_blocks: int) -> Any:
    cache = CacheConfig(block_size=BLOCK, enable_prefix_caching=False)
    config = VllmConfig(
        model_config=ModelConfig(model=llm, max_model_len=1024, dtype="bfloat16", seed=0),
        cache_config=cache,
        scheduler_config=SchedulerConfig(
            max_num_seqs=16,
            max_num_batched_tokens=128,
            max_model_len=1024,
            is_encoder_decoder=False,
            scheduler_cls="loratwin_vllm_probe.steps.Scheduler",
        ),
        lora_config=LoRAConfig(max_loras=2, max_lora_rank=8),
        device_config=DeviceConfig("cpu"),
    )
    config.scheduler_config.async_scheduling = True  # the CPU platform has turned it off
    cache.num_gpu_blocks = num_blocks
    spec = FullAttentionSpec(block_size=BLOCK, num_kv_heads=2, head_size=32, dtype=torch.float32)
    return config.scheduler_config.get_scheduler_cls()(
        vllm_config=config,
        kv_cache_config=KVCacheConfig(num_blocks, [], [KVCacheGroupSpec(["layer"], spec)]),
        structured_output_manager=StructuredOutputManager(config),
        include_finished_set=False,
        log_stats=True,
        block_size=BLOCK,
        hash_block_size=BLOCK,
    )


def make_requests(number: int) -> list[Request]:
    rng = random.Random(0)
    return [
        Request(
            request_id=f"r{i}",
            prompt_token_ids=[5] * rng.randint(1, 300),
            sampling_params=SamplingParams(max_tokens=rng.randint(1, 30), ignore_eos=True),
            pooling_params=None,
            lora_request=LoRARequest(f"l{i % 5}", i % 5, "/none") if i % 5 else None,
        )
        for i in range(number)
    ]


def schedule(scheduler: Any, truth: list[dict[str, int]]) -> tuple[Any, set[str]]:
    """One step, and what was in it: a token past the prompt that is the only one missing is decode."""
    known = {name: request.num_tokens + request.num_output_placeholders for name, request in scheduler.requests.items()}
    output = scheduler.schedule()
    row = dict.fromkeys(("decode_requests", "prefill_tokens", "decode_context", "prefill_context"), 0)
    for name, n in output.num_scheduled_tokens.items():
        request = scheduler.requests[name]
        before = request.num_computed_tokens - n
        if before >= request.num_prompt_tokens and before + 1 == known[name]:
            row["decode_requests"] += 1
            row["decode_context"] += before
        else:
            row["prefill_tokens"] += n
            row["prefill_context"] += n * before + n * n // 2
    if output.num_scheduled_tokens:
        truth.append({**row, "running": len(scheduler.running), "waiting": len(scheduler.waiting)})
    emitting = {name for name in output.num_scheduled_tokens if not scheduler.requests[name].is_prefill_chunk}
    return output, emitting


def update(scheduler: Any, output: Any, emitting: set[str]) -> int:
    """Give the step's tokens to the scheduler; how many came out."""
    names = list(output.num_scheduled_tokens)
    made = ModelRunnerOutput(
        req_ids=names,
        req_id_to_index={name: i for i, name in enumerate(names)},
        sampled_token_ids=[[7] if name in emitting else [] for name in names],
        logprobs=None,
        prompt_logprobs_dict={},
        pooler_output=[],
    )
    groups = scheduler.update_from_output(output, made).values()
    return sum(len(one.new_token_ids) for group in groups for one in group.outputs)


def main(llm: str, num_blocks: int) -> None:
    scheduler, requests = make_scheduler(llm, num_blocks), make_requests(40)
    for request in requests:
        scheduler.add_request(request)
    truth: list[dict[str, int]] = []
    in_flight, tokens = [schedule(scheduler, truth)], 0
    while scheduler.has_requests():
        in_flight.append(schedule(scheduler, truth))
        tokens += update(scheduler, *in_flight.pop(0))
    for step in in_flight:
        tokens += update(scheduler, *step)
    scheduler.shutdown()
    told = {"tokens": tokens, "preemptions": sum(request.num_preemptions for request in requests), "truth": truth}
    print(json.dumps({**told, "classes": [one.__name__ for one in type(scheduler).__mro__]}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
