"""With a real vLLM on CPU: shared beginnings and conversations; what its prefix cache finds (8 minutes)."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from loratwin.launch import start_server
from loratwin.metrics import summarize
from loratwin.perf import load_profile
from loratwin.records import load_run
from loratwin.simulate import simulate
from loratwin.synthetic import NewLlm, from_workload, lora_modules_args, make_adapters, make_llm
from loratwin.telemetry import canonical
from loratwin.workload import draw, load_spec
from tests.vllm_cpu import needs_time, needs_vllm, one_at_a_time, server_command, server_env

from .servers import bench

WORKLOAD = """
window_s: 75
groups:
  - name: t
    count: 16
    rate: 0.12
    ranks: [8, 16]
    prefix: {tokens: 300}
    sessions: {turns: 3, think_s: 2, growth: 30}
    lengths: {prompt: 60, output: 24}
"""
LIMITS = "--dtype bfloat16 --max-model-len 1024 --enforce-eager --max-num-seqs 32 --block-size 32"
SLOTS = "--enable-lora --max-loras 8 --max-cpu-loras 16 --max-lora-rank 16 --enable-prompt-tokens-details"
PROFILE = os.environ.get("LORATWIN_REAL_PROFILE")
"""A profile calibrated on this machine; without it the test makes one (5 minutes)."""


def calibrated(folder: Path) -> str:
    """The profile of such a server."""
    if PROFILE is not None:
        return PROFILE
    words = [
        *("calibrate", "server", str(folder / "mine"), "--lora-folder", str(folder / "adapters")),
        *("--server-args", f"--model {folder / 'llm'} {LIMITS}", "--server-command", " ".join(server_command())),
        *("--minutes", "2", "--window", "5", "--repeats", "1"),
    ]
    env = {**os.environ, **server_env()}
    with one_at_a_time():
        done = subprocess.run(
            [sys.executable, "-m", "loratwin", *words], capture_output=True, text=True, timeout=900, env=env
        )
    assert done.returncode == 0, done.stderr
    return str(folder / "mine" / "profile.yaml")


@needs_vllm
@needs_time
def test_the_twin_knows_what_the_servers_prefix_cache_finds(tmp_path: Path) -> None:
    path = tmp_path / "workload.yaml"
    path.write_text(WORKLOAD)
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "llm", NewLlm()), from_workload(load_spec(path)))
    profile = load_profile(calibrated(tmp_path))
    args = f"--model {tmp_path / 'llm'} --served-model-name tiny {LIMITS} {SLOTS}"
    with (
        one_at_a_time(),
        start_server(
            "vllm", [*args.split(), *lora_modules_args(tmp_path / "adapters")], log_folder=tmp_path,
            command=server_command(), env=server_env(),
        ) as server,
    ):  # fmt: skip
        words = ("--url", server.url, "--server-args", f"{LIMITS} {SLOTS}", "--seed", "3", "-o", "run.json")
        done = bench("workload.yaml", *words, folder=tmp_path)
        assert done.returncode == 0, done.stderr
    measured = load_run(tmp_path / "run.json")
    twin = simulate(draw(load_spec(path), 3), profile, measured.config, kv_tokens=measured.kv_tokens)
    assert measured.prefix_cache is not None and twin.prefix_cache is not None
    print(measured.prefix_cache, twin.prefix_cache)

    # the server's own counters, and what it says of each request
    assert twin.prefix_cache.hits == pytest.approx(measured.prefix_cache.hits, rel=0.03)
    assert twin.prefix_cache.queries == pytest.approx(measured.prefix_cache.queries, rel=0.03)
    told, known = measured.requests.cached_tokens, twin.requests.cached_tokens
    assert told is not None and known is not None
    for prompt in (414, 468):  # a later turn finds the prompt before it, and the answer but for its last token
        whole_blocks = {(prompt - 31) // 32 * 32}
        assert set(told[(measured.requests.prompt_tokens == prompt) & (told >= 0)].tolist()) == whole_blocks
        assert set(known[twin.requests.prompt_tokens == prompt].tolist()) == whole_blocks

    # the series of the server are in the record, and speed is the profile's
    series = canonical(next(source for source in measured.samples if source.source == "server"))
    assert np.nanmax(series["prefix_hits"].values) > 0
    seen, predicted = summarize(measured), summarize(twin)
    print(seen.ttft_mean_ms, predicted.ttft_mean_ms, seen.total_throughput, predicted.total_throughput)
    if os.getloadavg()[1] > (os.cpu_count() or 1) + 1:
        pytest.skip("hits agree; others use this machine, so that no time could be compared")
    assert predicted.total_throughput == pytest.approx(seen.total_throughput, rel=0.08)
    assert predicted.ttft_mean_ms == pytest.approx(seen.ttft_mean_ms, rel=0.2)
