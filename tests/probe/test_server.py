"""The step log of a real vLLM on CPU agrees with what its clients counted: LORATWIN_REAL=1."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.probe import read_facts, read_loads, read_notes, read_steps, server_arguments
from loratwin.probe.log import _steps
from loratwin.synthetic import NewAdapter, make_adapters, make_llm
from loratwin.telemetry import Scrape, canonical, counters, increase, server_facts
from tests.processes import LIMIT_S
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

SLOTS, ADAPTERS, REQUESTS = 2, 4, 60


@contextmanager
def server(folder: Path, *more: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server with the probe; its address and process. Nothing of it is left afterwards."""
    llm = folder / "llm"
    shapes = make_llm(llm)
    adapters = make_adapters(folder / "adapters", shapes, [NewAdapter(f"l{i}", rank=8) for i in range(ADAPTERS)])
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    arguments, environment = server_arguments(folder / "log")
    command = [*server_command(), "--model", str(llm), "--served-model-name", "tiny", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--max-model-len", "1024", "--enforce-eager", "--max-num-seqs", "64"]
    command += [
        "--max-num-batched-tokens",
        "256",
        "--no-enable-prefix-caching",
        "--enable-lora",
        "--max-lora-rank",
        "8",
    ]
    command += ["--max-loras", str(SLOTS), "--max-cpu-loras", "3"]
    command += ["--lora-modules", *(f"{one.name}={one.path}" for one in adapters), *arguments, *more]
    with open(folder / "server.log", "wb") as output, one_at_a_time():
        process = subprocess.Popen(
            command, env=os.environ | server_env() | environment, stdout=output, stderr=output, start_new_session=True
        )
        try:
            wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "server.log")
            yield f"http://127.0.0.1:{port}", process
        finally:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(LIMIT_S)


def wait_until_ready(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(f"{url}/health", timeout=5).close()
            return
        except OSError:
            time.sleep(0.5)
    pytest.fail(f"not ready: {log.read_text()[-3000:]}")


def complete(url: str, adapter: str, prompt: list[int], output: int) -> tuple[int, int]:
    """Prompt and output tokens that the server says it has used."""
    body = {"model": adapter, "prompt": prompt, "max_tokens": output, "ignore_eos": True}
    request = urllib.request.Request(
        f"{url}/v1/completions", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=120) as answer:
        usage: dict[str, Any] = json.load(answer)["usage"]
    return usage["prompt_tokens"], usage["completion_tokens"]


def send(
    url: str, number: int, prompts: tuple[int, int] = (1, 400), outputs: tuple[int, int] = (1, 40)
) -> tuple[int, int]:
    """So many requests of random lengths to all adapters and none, 20 at a time; their prompt and output tokens."""
    rng = random.Random(0)
    names = [*(f"l{i}" for i in range(ADAPTERS)), "tiny"]
    requests = [
        (names[i % 5], [rng.randrange(300, 2000) for _ in range(rng.randint(*prompts))], rng.randint(*outputs))
        for i in range(number)
    ]
    with ThreadPoolExecutor(20) as pool:
        used = list(pool.map(lambda request: complete(url, *request), requests))
    assert used == [(len(prompt), output) for _, prompt, output in requests]
    return sum(prompt for prompt, _ in used), sum(output for _, output in used)


@needs_vllm
def test_the_log_agrees_with_client_and_counters(tmp_path: Path) -> None:
    with server(tmp_path) as (url, process):
        before, zero_s = counters(url), time.monotonic()
        with Scrape(url, every_s=0.5) as scrape:
            prompt, output = send(url, REQUESTS)
            time.sleep(1.5)  # the last scrape sees the end
        end_s, after, facts = time.monotonic(), counters(url), server_facts(url)
        os.killpg(process.pid, signal.SIGKILL)
    log = tmp_path / "log"
    steps, rows = read_steps(log, zero_s, zero_s, end_s), _steps(log, zero_s, zero_s, end_s)
    assert steps.prefill_tokens.sum() == prompt
    assert rows["output_tokens"].sum() == output
    assert (steps.decode_requests.sum(), rows["preemptions"].sum()) == (output - REQUESTS, 0)
    assert 1 <= steps.distinct_adapters.max() <= SLOTS and steps.skipped is not None and steps.skipped.max() > 0
    assert steps.swap_ins.sum() >= ADAPTERS - SLOTS and steps.disk_loads.sum() > 0
    assert steps.load_s is not None and (steps.load_s <= steps.duration_s).all()
    assert ((steps.load_s > 0) == (steps.swap_ins + steps.disk_loads > 0)).all()
    assert facts.kv_tokens and facts.block_size and 0 < steps.kv_blocks.max() <= facts.kv_tokens // facts.block_size
    assert (steps.prefill_tokens + steps.decode_requests).max() <= 256 and steps.running.max() <= 64
    assert (steps.start_s[1:] >= (steps.start_s + steps.duration_s)[:-1]).all() and (steps.duration_s > 0).all()
    assert read_notes(log) == () and read_loads(log).in_step.sum() == (steps.swap_ins + steps.disk_loads).sum()
    assert read_facts(log)["max_loras"] == SLOTS

    assert (after.prompt_tokens or 0) - (before.prompt_tokens or 0) == prompt
    assert (after.generation_tokens or 0) - (before.generation_tokens or 0) == output
    assert after.requests_finished is not None and after.requests_finished["length"] == REQUESTS
    samples = canonical(scrape.samples(zero_s, zero_s, end_s))
    assert increase(samples["generation_tokens"]) == pytest.approx(output, abs=0)
    assert np.nanmax(samples["max_loras"].values) == SLOTS and np.nanmax(samples["waiting_deferred"].values) >= 0
    assert (facts.engine_version, facts.llm, facts.max_model_len) == ("vllm-0.32.0", "tiny", 1024)
    assert facts.adapters == {f"l{i}": "tiny" for i in range(ADAPTERS)} and facts.max_loras == SLOTS


@needs_vllm
def test_a_killed_server_leaves_its_steps(tmp_path: Path) -> None:
    """kill -9 while requests run: at most a second of steps is lost, and preempted tokens are prefilled again."""
    with server(tmp_path, "--block-size", "32", "--num-gpu-blocks-override", "34") as (url, process):
        prompt, _ = send(url, 20, (30, 60), (150, 150))  # one or two blocks each, six or seven in the end
        time.sleep(1.5)
        rows = _steps(tmp_path / "log", 0.0, 0.0, np.inf)
        assert rows["preemptions"].sum() == counters(url).preemptions > 0
        assert rows["prefill_tokens"].sum() > prompt
        assert 28 < rows["kv_blocks"].max() <= 33  # one of them stands for none
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(send, url, 200)
            time.sleep(2.0)
            killed_s = time.monotonic()
            os.killpg(process.pid, signal.SIGKILL)
            assert running.exception() is not None
    steps = read_steps(tmp_path / "log")
    assert killed_s - 1.0 < (steps.start_s + steps.duration_s).max() <= killed_s + 0.1
