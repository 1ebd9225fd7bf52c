"""The whole loop with a real vLLM on CPU, in miniature: measured, fitted, predicted, measured again (4 minutes)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.perf import load_profile
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

PROGRAM = [sys.executable, "-c", "from loratwin.cli import main; main()"]


@needs_vllm
def test_a_real_server_is_calibrated_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 6, (8, 16)))
    for name, value in server_env().items():
        monkeypatch.setenv(name, value)
    args = f"--model {tmp_path / 'tiny'} --dtype bfloat16 --max-model-len 512 --enforce-eager --max-num-seqs 8"
    words = [
        *("calibrate", "server", str(tmp_path / "mine"), "--lora-folder", str(tmp_path / "adapters")),
        *("--server-args", args, "--server-command", " ".join(server_command())),
        *("--minutes", "1.2", "--window", "5", "--repeats", "1", "--learn"),
    ]
    with one_at_a_time():
        done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr
    profile = load_profile(str(tmp_path / "mine" / "profile.yaml"))
    assert profile.name == "cpu/vllm-0.32.0/tiny" and profile.step_time.weights_s > 1e-4
    assert profile.uncertainty is not None and profile.uncertainty.standard_errors["step_time.weights_s"] > 0
    check = json.loads((tmp_path / "mine" / "check.json").read_text())
    assert {score["figure"] for score in check["scores"]} == {"total_throughput", "itl_mean_ms", "ttft_mean_ms"}
    assert all(score["measured"][0] > 0 for score in check["scores"])
    assert (tmp_path / "mine" / "profile-learned.yaml").exists()
