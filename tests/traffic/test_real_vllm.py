"""A real Prometheus scrapes a real vLLM on CPU; what is imported is what the client sent."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest

from loratwin.launch import start_server
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, from_workload, lora_modules_args, make_adapters, make_llm
from loratwin.telemetry import counters
from loratwin.traffic import Sources, import_traffic
from loratwin.workload import draw, load_spec
from tests.cli.program import loratwin_process
from tests.traffic.prometheus_server import needs_prometheus, prometheus
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

pytestmark = [needs_vllm, needs_prometheus]

WINDOW_S = float(os.environ.get("LORATWIN_REAL_WINDOW_S", "60"))
ARGS = (
    "--served-model-name tiny --dtype bfloat16 --max-model-len 1024 --enforce-eager --max-num-seqs 32 "
    "--enable-lora --max-loras 2 --max-cpu-loras 4 --max-lora-rank 16"
)
WORKLOAD = f"""window_s: {WINDOW_S}
groups:
  - name: t
    count: 4
    total_rate: 4
    popularity: zipf
    ranks: [8, 16]
    lengths: {{prompt: {{kind: uniform, min: 16, max: 120}}, output: {{kind: uniform, min: 2, max: 40}}}}
"""


def test_what_prometheus_saw_is_what_was_sent(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(WORKLOAD)
    llm = make_llm(tmp_path / "llm", NewLlm())
    make_adapters(tmp_path / "adapters", llm, from_workload(load_spec(tmp_path / "w.yaml")))
    words = ["--model", str(tmp_path / "llm"), *ARGS.split(), *lora_modules_args(tmp_path / "adapters")]
    (tmp_path / "p").mkdir()
    with (
        one_at_a_time(),
        start_server("vllm", words, log_folder=tmp_path, command=server_command(), env=server_env()) as server,
        prometheus(tmp_path / "p", targets=(server.url.removeprefix("http://"),)) as url,
    ):
        time.sleep(5)  # seen before the first request
        before, begin = counters(server.url), time.time()
        done = loratwin_process("bench", "w.yaml", "--url", server.url, "-o", "run.json", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        after = counters(server.url)
        time.sleep(5)
        end = time.time()
        sources = Sources((url,), since_s=end - begin, end_s=end, step_s=1.0)
        text, observed, _ = import_traffic(sources, tmp_path / "seen.yaml", "all", end - begin)

    assert observed.num_requests == sum(after.requests_finished.values()) - sum(before.requests_finished.values())
    run = load_run(tmp_path / "run.json").requests
    finished = ~np.isnan(run.finish_s)
    asked = after.prompt_tokens - before.prompt_tokens
    cut_off = int(run.prompt_tokens[~finished].sum())  # at the end: computed, some of them, and not counted
    assert asked - cut_off <= observed.cells.prompt_tokens.sum() <= asked
    sent = int(finished.sum())
    assert observed.num_requests == pytest.approx(sent, abs=40), "and what is asked before the window"
    mean = observed.cells.output_tokens.sum() / observed.num_requests
    assert mean == pytest.approx(run.output_tokens[finished].mean(), rel=0.1)

    assert "whichever adapter was asked for" in text
    spec = load_spec(tmp_path / "seen.yaml")
    assert set(spec.groups[0].adapter_names()) <= {f"t-{i}" for i in range(4)}
    rate = observed.num_requests / observed.span_s
    assert spec.total_rate_per_s == pytest.approx(rate, rel=0.02)
    drawn = draw(spec.model_copy(update={"window_s": 20_000.0}))
    asked_mean = observed.cells.prompt_tokens.sum() / observed.num_requests
    assert drawn.prompt_tokens.mean() == pytest.approx(asked_mean, rel=0.02)
    assert drawn.output_tokens.mean() == pytest.approx(mean, rel=0.02)
