"""The whole loop with a real vLLM on CPU, in miniature: measured, fitted, predicted, measured again (6 minutes)."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.launch import start_server
from loratwin.perf import dump_profile, load_profile
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.calibrate.known_steps import known_profile
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

PROGRAM = [sys.executable, "-m", "loratwin"]
ARGS = "--dtype bfloat16 --max-model-len 512 --enforce-eager --max-num-seqs 8"


@needs_vllm
def test_a_real_server_is_calibrated_and_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 6, (8, 16)))
    for name, value in server_env().items():
        monkeypatch.setenv(name, value)
    args = f"--model {tmp_path / 'tiny'} {ARGS}"
    words = [
        *("calibrate", "server", str(tmp_path / "mine"), "--lora-folder", str(tmp_path / "adapters")),
        *("--server-args", args, "--server-command", " ".join(server_command())),
        *("--minutes", "1.2", "--window", "5", "--repeats", "1", "--learn"),
    ]
    with one_at_a_time():
        done = subprocess.run([*PROGRAM, *words], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    profile = load_profile(str(tmp_path / "mine" / "profile.yaml"))
    assert profile.name == "cpu/vllm-0.32.0/tiny" and profile.step_time.weights_s > 1e-4
    assert profile.uncertainty is not None and profile.uncertainty.standard_errors["step_time.weights_s"] > 0
    check = json.loads((tmp_path / "mine" / "check.json").read_text())
    assert {score["figure"] for score in check["scores"]} == {"total_throughput", "itl_mean_ms", "ttft_mean_ms"}
    assert all(score["measured"][0] > 0 for score in check["scores"])
    assert (tmp_path / "mine" / "profile-learned.yaml").exists()


@needs_vllm
def test_a_server_at_a_url_without_step_log_is_calibrated_from_its_client(tmp_path: Path) -> None:
    llm, adapters = tmp_path / "tiny", tmp_path / "adapters"
    make_adapters(adapters, make_llm(llm, NewLlm()), numbered("a", 6, (8, 16)))
    (tmp_path / "start.yaml").write_text(dump_profile(known_profile()))
    given = f"--model {llm} {ARGS}"
    modules = " ".join(f"{path.name}={path}" for path in sorted(adapters.iterdir()) if path.is_dir())
    design = [*PROGRAM, "calibrate", "design", "--lora-folder", str(adapters), "--server-args", given, "--minutes", "1"]
    subprocess.run([*design, "-o", str(tmp_path / "design.yaml")], check=True, timeout=60)
    slots = "--enable-lora --max-loras 2 --max-cpu-loras 6 --max-lora-rank 16"
    at = ["--lora-folder", str(adapters), "--llm", str(llm), "--start", str(tmp_path / "start.yaml")]
    with (
        one_at_a_time(),
        start_server(
            "vllm", f"{given} {slots} --lora-modules {modules}", log_folder=tmp_path / "logs",
            command=server_command(), env=server_env(),
        ) as server,
    ):  # fmt: skip
        words = ["calibrate", "run", str(tmp_path / "design.yaml"), "-o", str(tmp_path / "mine"), "--url", server.url]
        done = subprocess.run([*PROGRAM, *words, *at], capture_output=True, text=True, timeout=800)
    assert done.returncode == 0, done.stderr
    fitted = subprocess.run(
        [*PROGRAM, "calibrate", "fit", str(tmp_path / "mine"), "-o", str(tmp_path / "mine.yaml"), *at[2:]],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert fitted.returncode == 0, fitted.stderr
    profile = load_profile(str(tmp_path / "mine.yaml"))
    assert "clients' figures" in profile.card.fitted_on and profile.step_time.weights_s > 1e-4
    assert profile.uncertainty is not None and profile.uncertainty.standard_errors["step_time.weights_s"] > 0
    assert (profile.domain.max_loras, profile.engine) == ((2, 2), "vllm-0.32.0")
