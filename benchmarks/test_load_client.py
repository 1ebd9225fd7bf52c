"""How many requests and tokens a second the load client sends and reads, on two cores shared with the server.

    .venv/bin/python -m pytest benchmarks/test_load_client.py -s -n 0

The server is tests/bench/timed_server.py, which says itself how late it was; what remains is the client's. Rivals are
measured in the same run where they are installed: LORATWIN_VLLM_PYTHON (a Python with vLLM, for `vllm bench serve`) and
LORATWIN_INFERENCE_PERF (the program). LORATWIN_LONG=1 adds the ten minutes over which memory must stay flat.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from loratwin.metrics import client_figures, finished, ttft_s
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, make_llm
from tests.bench.servers import bench, processes_with, timed_server, workload_file

TTFT_S, ITL_S = 0.02, 0.005
WINDOW_S = 10


@dataclass(frozen=True)
class Shown:
    """One tool at one rate; latencies in ms."""

    tool: str
    asked_per_s: float
    sent_per_s: float
    tokens_per_s: float
    ttft_mean: float
    ttft_p99: float
    truth: float  # of the server: what it meant to do and how late it was
    lag_p99: float | None

    def __str__(self) -> str:
        lag = "not told" if self.lag_p99 is None else f"{self.lag_p99:.2f}"
        bias = self.ttft_mean / self.truth - 1
        return (
            f"{self.tool:16} {self.asked_per_s:6.0f}/s asked {self.sent_per_s:7.1f}/s sent "
            f"{self.tokens_per_s:8.0f} tokens/s  TTFT {self.ttft_mean:7.2f} p99 {self.ttft_p99:8.2f} "
            f"bias {bias:+7.1%}  lag p99 {lag} ms"
        )


def truth_ms(truth: dict) -> float:
    return (TTFT_S + truth["late_s"] / truth["tokens_sent"]) * 1e3


def ours(folder: Path, rate: float, output: int, itl: float = ITL_S, window_s: float = WINDOW_S) -> Shown:
    path = workload_file(folder, window_s, 64, output, count=4, rate=rate / 4)
    with timed_server(folder, "llm", "a-0", "a-1", "a-2", "a-3", ttft=TTFT_S, itl=itl) as server:
        done = bench(path, "--url", server.url, "--force", "-o", "run.json", folder=folder)
        assert done.returncode == 0, done.stderr
        truth = server.stop()
    run = load_run(folder / "run.json")
    figures, ttft = client_figures(run), ttft_s(run)[finished(run)] * 1e3
    return Shown(
        "loratwin bench", rate, figures.sent_rate, figures.delivered_throughput, ttft.mean(),
        float(np.percentile(ttft, 99)), truth_ms(truth), figures.lag_p99_ms,
    )  # fmt: skip


def vllm_bench(folder: Path, rate: float, output: int) -> Shown:
    """`vllm bench serve` sends a number of prompts, not a window; its throughput includes the drain."""
    make_llm(folder / "llm", NewLlm()) if not (folder / "llm").exists() else None
    with timed_server(folder, "llm", "a-0", "a-1", "a-2", "a-3", ttft=TTFT_S, itl=ITL_S) as server:
        words = [
            os.environ["LORATWIN_VLLM_PYTHON"], "-m", "vllm.entrypoints.cli.main", "bench", "serve",
            "--backend", "openai", "--base-url", server.url, "--endpoint", "/v1/completions", "--model", "llm",
            "--tokenizer", str(folder / "llm"), "--dataset-name", "random", "--random-input-len", "64",
            "--random-output-len", str(output), "--ignore-eos", "--num-prompts", str(int(rate * WINDOW_S)),
            "--request-rate", str(rate), "--save-result", "--result-dir", str(folder), "--result-filename", "vllm.json",
            "--percentile-metrics", "ttft", "--metric-percentiles", "99", "--lora-modules", "a-0", "a-1", "a-2", "a-3",
        ]  # fmt: skip
        done = subprocess.run(words, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr[-2000:]
        truth = server.stop()
    found = json.loads((folder / "vllm.json").read_text())
    sent = found["completed"] / found["duration"]
    return Shown(
        "vllm bench serve", rate, sent, found["output_throughput"], found["mean_ttft_ms"], found["p99_ttft_ms"],
        truth_ms(truth), None,
    )  # fmt: skip


def inference_perf(folder: Path, rate: float, output: int) -> Shown:
    make_llm(folder / "llm", NewLlm()) if not (folder / "llm").exists() else None
    with timed_server(folder, "llm", "a-0", "a-1", "a-2", "a-3", ttft=TTFT_S, itl=ITL_S) as server:
        lengths = {"min": 64, "max": 64, "mean": 64, "std_dev": 0, "total_count": 1000}
        config = {
            "load": {"type": "poisson", "stages": [{"rate": rate, "duration": WINDOW_S}], "num_workers": 2},
            "api": {"type": "completion", "streaming": True},
            "server": {"type": "vllm", "model_name": "llm", "base_url": server.url, "ignore_eos": True},
            "tokenizer": {"pretrained_model_name_or_path": str(folder / "llm")},
            "data": {
                "type": "random",
                "input_distribution": lengths,
                "output_distribution": {**lengths, "min": output, "max": output, "mean": output},
            },
            "storage": {"local_storage": {"path": str(folder / "perf")}},
        }
        (folder / "perf.yml").write_text(json.dumps(config))
        words = [os.environ["LORATWIN_INFERENCE_PERF"], "--config_file", str(folder / "perf.yml")]
        done = subprocess.run(words, capture_output=True, text=True, timeout=300, cwd=folder)
        assert done.returncode == 0, done.stderr[-2000:]
        truth = server.stop()
    found = json.loads(next((folder / "perf").rglob("summary_lifecycle_metrics.json")).read_text())
    ttft = found["successes"]["latency"]["time_to_first_token"]
    load = found["load_summary"]
    sent = load.get("achieved_rate") or found["successes"]["count"] / WINDOW_S
    return Shown(
        "inference-perf", rate, sent, found["successes"]["throughput"]["output_tokens_per_sec"], ttft["mean"] * 1e3,
        ttft["p99"] * 1e3, truth_ms(truth), load["schedule_delay"]["p99"] * 1e3,
    )  # fmt: skip


@pytest.mark.parametrize("rate", [500, 1000, 2000, 4000])
def test_requests_per_second(tmp_path: Path, rate: float) -> None:
    """Targets: 2,000/s (aim 4,000/s) with a bias of TTFT of at most 2 % and a send lag of at most 3 ms (p99)."""
    print()
    shown = ours(tmp_path, rate, 8)
    print(shown)
    for name, rival in (("LORATWIN_VLLM_PYTHON", vllm_bench), ("LORATWIN_INFERENCE_PERF", inference_perf)):
        if name in os.environ:
            print(rival(tmp_path, rate, 8))
    assert shown.sent_per_s == pytest.approx(rate, rel=0.05)


def test_tokens_per_second(tmp_path: Path) -> None:
    """Target: 100,000 tokens/s, in streams of 128 tokens 10 ms apart."""
    shown = ours(tmp_path, 800, 128, itl=0.01, window_s=12)
    print(f"\n{shown}")
    assert shown.sent_per_s == pytest.approx(800, rel=0.05)


@pytest.mark.skipif(os.environ.get("LORATWIN_LONG") != "1", reason="takes ten minutes: LORATWIN_LONG=1")
def test_memory_is_flat_over_ten_minutes(tmp_path: Path) -> None:
    samples: list[float] = []
    watcher = threading.Thread(target=watch_memory, args=(samples,), daemon=True)
    watcher.start()
    path = workload_file(tmp_path, 600, 64, 8, count=300, rate=500 / 300)
    with timed_server(tmp_path, *["llm", *(f"a-{i:03d}" for i in range(300))], ttft=TTFT_S, itl=ITL_S) as server:
        done = subprocess_bench(path, server.url, tmp_path)
    assert done == 0
    early, late = np.mean(samples[30:60]), np.mean(samples[-60:-10])
    print(f"\nmemory of the load client: {early:.1f} MB in the first minute, {late:.1f} MB in the last of ten")
    assert late < early + 5


def subprocess_bench(path: Path, url: str, folder: Path) -> int:
    from tests.bench.servers import start_bench

    client = start_bench(path, "--url", url, "-o", "run.json", folder=folder)
    client.communicate()
    return client.returncode


def watch_memory(samples: list[float]) -> None:
    """Resident memory in MB without the journal's pages, which belong to files."""
    while True:
        for process in processes_with("loratwin.bench.worker run.json.partial"):
            try:
                lines = Path(f"/proc/{process}/status").read_text().splitlines()
            except OSError:
                continue
            samples.append(next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024)
        time.sleep(1)
