"""Batches in phases on an engine in this process: `python -m loratwin_vllm_probe.offline PLAN.json`.

The plan says the server's arguments, the adapters, and the batches. Of each batch all prompts are computed, then all
requests decode. What came of it goes to a file of JSON lines: what the server is, then a line for each batch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from contextlib import nullcontext
from typing import Any

from .phases import Gate
from .ranges import Ranges

WARM_UP = {"name": "", "batch": 2, "prompt_tokens": 24, "output_tokens": 4, "adapters": []}


def main(plan_path: str) -> None:
    with open(plan_path, encoding="utf-8") as file:
        plan = json.load(file)
    os.environ["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"  # the gate is in this process
    with open(plan["result"], "a", encoding="utf-8", buffering=1) as result:
        ranges = Ranges(plan["ranges"], plan["nvtx"], bool(plan["torch_profile"]))
        engine = _engine(plan["arguments"])
        adapters = _requests_for(plan["adapters"])
        result.write(json.dumps({"server": _facts(engine)}) + "\n")
        for name in plan["adapters"] if plan["adapters"] else ():
            _run(engine, {**WARM_UP, "adapters": [name]}, adapters, Ranges(os.devnull, False, False))
        _run(engine, WARM_UP, adapters, Ranges(os.devnull, False, False))
        with _profiler(plan["torch_profile"]) as profiler:
            for batch in plan["batches"]:
                result.write(json.dumps(_run(engine, batch, adapters, ranges)) + "\n")
        if profiler is not None:
            profiler.export_chrome_trace(plan["torch_profile"])
        ranges.close()


def _engine(words: list[str]) -> Any:
    """The engine that a server with these arguments would have, but for the gate, the log and what would blur steps."""
    from vllm import EngineArgs, LLMEngine

    try:
        from vllm.utils.argparse_utils import FlexibleArgumentParser
    except ImportError:  # until 0.11
        from vllm.utils import FlexibleArgumentParser

    args = EngineArgs.from_cli_args(EngineArgs.add_cli_args(FlexibleArgumentParser()).parse_args(words))
    args.scheduler_cls = "loratwin_vllm_probe.phases.Scheduler"
    args.worker_extension_cls = "loratwin_vllm_probe.loads.WorkerProbe"
    args.enable_prefix_caching = False
    if hasattr(args, "async_scheduling"):
        args.async_scheduling = False
    return LLMEngine.from_engine_args(args)


def _facts(engine: Any) -> dict[str, Any]:
    import torch
    import vllm

    config = engine.vllm_config
    lora = config.lora_config
    return {
        "version": vllm.__version__,
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "max_loras": lora.max_loras if lora is not None else 0,
        "max_model_len": config.model_config.max_model_len,
        "max_num_seqs": config.scheduler_config.max_num_seqs,
        "max_num_batched_tokens": config.scheduler_config.max_num_batched_tokens,
        "block_size": config.cache_config.block_size,
        "kv_blocks": config.cache_config.num_gpu_blocks,
    }


def _requests_for(adapters: dict[str, str]) -> dict[str, Any]:
    from vllm.lora.request import LoRARequest

    return {name: LoRARequest(name, number, path) for number, (name, path) in enumerate(adapters.items(), 1)}


def _profiler(path: str | None) -> Any:
    if not path:
        return nullcontext()
    import torch

    activities = [torch.profiler.ProfilerActivity.CPU]
    if torch.cuda.is_available():
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    return torch.profiler.profile(activities=activities, record_shapes=True)


def _run(engine: Any, batch: dict[str, Any], adapters: dict[str, Any], ranges: Ranges) -> dict[str, Any]:
    """One batch: all prompts, then all decode; when each request had its first token and its last."""
    problem = _problem(engine, batch)
    if problem:
        return {"name": batch["name"], "refused": problem}
    of = _add(engine, batch, adapters)
    told = f"batch={batch['batch']} adapters={len(batch['adapters'])}"
    start, first, last = time.monotonic(), dict[str, float](), dict[str, float]()
    number = 0

    def step(phase: str) -> None:
        nonlocal number
        with ranges(f"{phase} {told} step={number}"):
            outputs = engine.step()
        number += 1
        now = time.monotonic()
        for output in outputs:
            first.setdefault(output.request_id, now)
            if output.finished:
                last[output.request_id] = now

    Gate.open = False
    try:
        with ranges("prefill"):
            while len(first) < len(of):
                step("prefill")
    finally:
        Gate.open = True
    prefill_steps = number
    with ranges("decode"):
        while engine.has_unfinished_requests():
            step("decode")
    return {
        "name": batch["name"],
        "start_s": start,
        "end_s": time.monotonic(),
        "first_s": [first[name] for name in of],
        "finish_s": [last[name] for name in of],
        "adapters": list(of.values()),
        "prefill_steps": prefill_steps,
        "decode_steps": number - prefill_steps,
    }


def _problem(engine: Any, batch: dict[str, Any]) -> str:
    """Why a batch cannot run in phases; empty: it can."""
    facts = _facts(engine)
    tokens, requests = batch["prompt_tokens"] + batch["output_tokens"], batch["batch"]
    if requests > facts["max_num_seqs"]:
        return f"{requests} requests, but max_num_seqs = {facts['max_num_seqs']}"
    if tokens > facts["max_model_len"]:
        return f"{tokens} tokens, but max_model_len = {facts['max_model_len']}"
    if len(batch["adapters"]) > facts["max_loras"]:
        return f"{len(batch['adapters'])} adapters, but max_loras = {facts['max_loras']}"
    blocks = requests * -(-tokens // facts["block_size"])
    return f"{blocks} KV blocks, but there are {facts['kv_blocks']}" if blocks >= facts["kv_blocks"] else ""


def _add(engine: Any, batch: dict[str, Any], adapters: dict[str, Any]) -> dict[str, str]:
    """Put the requests into the queue; name of the adapter (empty: none) by that of the request."""
    from vllm import SamplingParams

    vocabulary = engine.vllm_config.model_config.get_vocab_size()
    names, of = batch["adapters"], {}
    for number in range(batch["batch"]):
        adapter = names[number % len(names)] if names else ""
        prompt = [(7 * place + 13 * number) % (vocabulary - 8) + 5 for place in range(batch["prompt_tokens"])]
        params = SamplingParams(max_tokens=batch["output_tokens"], ignore_eos=True, temperature=0.0)
        request = f"{batch['name']}/{number}"
        engine.add_request(request, {"prompt_token_ids": prompt}, params, lora_request=adapters.get(adapter))
        of[request] = adapter
    return of


if __name__ == "__main__":
    main(sys.argv[1])
