"""The probe around vLLM's own asynchronous scheduler, which GPUs use and the CPU build does not: LORATWIN_REAL=1."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from loratwin.probe import read_facts, read_notes, server_arguments
from loratwin.probe.log import _steps
from loratwin.synthetic import make_llm
from tests.vllm_cpu import needs_vllm, server_env, vllm_python


@needs_vllm
@pytest.mark.parametrize("num_blocks", [1000, 45])
def test_rows_of_overlapping_steps_are_exact(tmp_path: Path, num_blocks: int) -> None:
    """45 blocks preempt requests while their tokens are in flight."""
    make_llm(tmp_path / "llm")
    _, environment = server_arguments(tmp_path / "log")
    script = Path(__file__).with_name("drive_async.py")
    command = [str(vllm_python()), str(script), str(tmp_path / "llm"), str(num_blocks)]
    done = subprocess.run(command, env=os.environ | server_env() | environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    rows = _steps(tmp_path / "log", 0.0, 0.0, np.inf)
    assert "AsyncScheduler" in told["classes"] and read_facts(tmp_path / "log")["async_scheduling"]
    for name in told["truth"][0]:
        assert rows[name].tolist() == [row[name] for row in told["truth"]], name
    assert rows["output_tokens"].sum() == told["tokens"]
    assert rows["preemptions"].sum() == told["preemptions"] and (told["preemptions"] > 0) == (num_blocks == 45)
    assert rows["distinct_adapters"].max() == 2 and rows["skipped"].max() > 0
    assert (rows["schedule_start_s"][1:] < rows["end_s"][:-1]).all()  # they do overlap
    assert (rows["start_s"][1:] >= rows["end_s"][:-1]).all() and read_notes(tmp_path / "log") == ()
