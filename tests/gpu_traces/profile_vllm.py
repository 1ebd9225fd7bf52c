"""Run by vLLM's Python: a few steps of a tiny LLM under torch.profiler, each in a range that names its phase."""

from __future__ import annotations

import sys
from typing import Any

import torch
from vllm import EngineArgs, LLMEngine, SamplingParams


def main(llm: str, trace: str) -> None:
    engine = LLMEngine.from_engine_args(
        EngineArgs(
            model=llm, max_model_len=512, max_num_seqs=8, enforce_eager=True, dtype="float32",
            load_format="dummy", enable_prefix_caching=False,
        )
    )  # fmt: skip
    for number in range(4):
        prompt: Any = {"prompt_token_ids": [5 + number] * 64}
        engine.add_request(f"r{number}", prompt, SamplingParams(max_tokens=6, ignore_eos=True))
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], record_shapes=True) as profiler:
        with torch.profiler.record_function("prefill batch=4"):
            engine.step()
        while engine.has_unfinished_requests():
            with torch.profiler.record_function("decode batch=4"):
                engine.step()
    profiler.export_chrome_trace(trace)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
