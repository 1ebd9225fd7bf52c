"""torch.profiler around a real vLLM on CPU: LORATWIN_REAL=1."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from loratwin.gpu_traces import by_class, by_kernel, read_trace
from loratwin.synthetic import make_llm
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_env, vllm_python


@needs_vllm
@pytest.mark.parametrize("suffix", ["json", "json.gz"])
def test_a_real_run(tmp_path: Path, suffix: str) -> None:
    make_llm(tmp_path / "llm")
    trace = tmp_path / f"trace.{suffix}"
    command = [str(vllm_python()), str(Path(__file__).with_name("profile_vllm.py")), str(tmp_path / "llm"), str(trace)]
    environment = os.environ | server_env() | {"VLLM_ENABLE_V1_MULTIPROCESSING": "0"}
    with one_at_a_time():
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    read = read_trace(trace)
    rows = {(row.phase, row.name): row for row in by_class([read])}
    for phase in ("prefill", "decode"):
        assert rows[phase, "matmul"].batch == 4 and rows[phase, "matmul"].seconds > 0
        assert rows[phase, "attention"].seconds > 0
    assert sum(row.share for (phase, _), row in rows.items() if phase == "decode") == pytest.approx(1)
    assert rows["decode", "matmul"].launches > rows["prefill", "matmul"].launches  # five steps, and one
    print(*(f"{row.name:60} {1e3 * row.seconds:8.2f} ms" for row in by_kernel([read], 15)), sep="\n")
