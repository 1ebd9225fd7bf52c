"""Phases on a real vLLM on CPU, with adapters, ranges and a trace; its records fit a profile: LORATWIN_REAL=1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.gpu_traces import by_class, read_trace
from loratwin.offline import batch_grid, measure_offline
from loratwin.perf import load_profile
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_env, vllm_python

ARGS = "--dtype bfloat16 --max-model-len 512 --enforce-eager --max-num-seqs 16 --max-num-batched-tokens 256"


@needs_vllm
def test_prompts_then_tokens_and_a_profile_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 4, (8, 16)))
    recorded = tmp_path / "nvtx.txt"
    paths = [str(Path(__file__).with_name("recorder")), *filter(None, [os.environ.get("PYTHONPATH")])]
    for name, value in {**server_env(), "NVTX_RECORDED": str(recorded), "PYTHONPATH": os.pathsep.join(paths)}.items():
        monkeypatch.setenv(name, value)
    given = f"--model {tmp_path / 'tiny'} {ARGS}"
    batches = batch_grid([1, 4, 8, 16, 32], [32, 96], [40], adapters=[0, 1, 4], ranks=[8])[:-1]
    few = [batch for batch in batches if batch.adapters <= 2]
    with one_at_a_time():
        result = measure_offline(
            few, given, tmp_path / "records", python=vllm_python(), lora_folder=tmp_path / "adapters", nvtx=True,
            torch_profile=tmp_path / "trace.json",
        )  # fmt: skip
    assert set(result.refused) == {batch.name for batch in few if batch.requests == 32}
    assert all("max_num_seqs = 16" in why for why in result.refused.values())
    for name, run in result.runs.items():
        batch = next(batch for batch in few if batch.name == name)
        prompts = run.steps.prefill_tokens > 0
        first = int(prompts.argmin())
        assert prompts[:first].all() and not prompts[first:].any(), name
        assert (run.steps.decode_requests[:first] == 0).all()
        assert run.steps.decode_requests[first:].tolist() == [batch.requests] * (batch.output_tokens - 1)
        assert run.steps.prefill_tokens.sum() == batch.requests * batch.prompt_tokens
        assert first >= batch.requests * batch.prompt_tokens / 256
        assert set(run.steps.distinct_adapters.tolist()) == {batch.adapters}
        assert (run.requests.first_token_s < run.requests.finish_s).all() and not run.invalid
    said = recorded.read_text().splitlines()
    pushed = [line.removeprefix("push ") for line in said if line != "pop"]
    assert len(pushed) == said.count("pop") and pushed[0] == "prefill"
    assert pushed[1] == "prefill batch=1 adapters=0 step=0" and pushed.count("decode") == len(result.runs)
    steps = sum(len(run.steps) for run in result.runs.values())
    assert len(pushed) == steps + 2 * len(result.runs) == len(result.ranges.read_text().splitlines())
    rows = {(row.phase, row.batch, row.name): row for row in by_class([read_trace(tmp_path / "trace.json")])}
    assert rows["decode", 16, "attention"].seconds > 0 and rows["prefill", 8, "matmul"].seconds > 0
    again = measure_offline(few[:2], given, tmp_path / "records", python="nowhere")  # nothing is left to be run
    assert set(again.runs) == {batch.name for batch in few[:2]} and again.ranges is None
    fit = [
        "calibrate",
        "fit",
        str(tmp_path / "records"),
        "-o",
        str(tmp_path / "mine.yaml"),
        "--llm",
        str(tmp_path / "tiny"),
    ]
    done = subprocess.run([sys.executable, "-m", "loratwin", *fit], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    profile = load_profile(str(tmp_path / "mine.yaml"))
    assert profile.name == "cpu/vllm-0.32.0/tiny" and profile.step_time.weights_s > 1e-4
    assert profile.uncertainty.standard_errors["step_time.weights_s"] > 0
