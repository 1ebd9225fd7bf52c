"""A real vLLM on CPU whose machine is slowed in mid-calibration by busy loops: noticed, named, in the intervals."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from os import cpu_count
from pathlib import Path
from time import monotonic, sleep

import pytest

from loratwin.perf import load_profile
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.vllm_cpu import needs_time, needs_vllm, one_at_a_time, server_command, server_env

PROGRAM = [sys.executable, "-m", "loratwin"]
ARGS = "--dtype bfloat16 --max-model-len 512 --enforce-eager --max-num-seqs 8"
LIMIT_S = 600.0


@contextmanager
def busy_from(records: Path, number: int) -> Iterator[threading.Event]:
    """As many busy loops as there are cores, from so many records on until the end."""
    over, began, loops = threading.Event(), threading.Event(), list[subprocess.Popen[bytes]]()

    def watch() -> None:
        end = monotonic() + LIMIT_S
        while not over.is_set() and monotonic() < end:
            if len(list(records.glob("*.json"))) >= number:
                loops.extend(
                    subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(cpu_count() or 1)
                )
                began.set()
                return
            sleep(0.2)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield began
    finally:
        over.set()
        thread.join()
        for loop in loops:
            loop.kill()
            loop.wait()


@needs_vllm
@needs_time
def test_a_machine_that_is_slowed_in_mid_calibration_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 6, (8, 16)))
    for name, value in server_env().items():
        monkeypatch.setenv(name, value)
    mine = tmp_path / "mine"
    words = [
        *(*PROGRAM, "calibrate", "server", str(mine), "--lora-folder", str(tmp_path / "adapters"), "--no-check"),
        *("--server-args", f"--model {tmp_path / 'tiny'} {ARGS}", "--server-command", " ".join(server_command())),
        *("--minutes", "3", "--json", str(tmp_path / "fit.json")),
    ]
    with one_at_a_time(), busy_from(mine / "records", 7) as began:
        done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert began.is_set()
    runs = [load_run(path) for path in (mine / "records").glob("*.json")]
    assert all(run.reference is not None and run.reference.mean_s > 0 for run in runs)
    assert "the machine is NOT steady" in done.stderr  # while it is measured
    profile = load_profile(str(mine / "profile.yaml"))
    (speed,) = (note for note in profile.card.notes if note.startswith("the machine's speed: reference loads took"))
    slowest = float(speed.partition(" to ")[2].split()[0])
    assert slowest > 1.3, speed
    assert profile.uncertainty is not None and profile.uncertainty.machine > 0.05
    assert json.loads((tmp_path / "fit.json").read_text())["profile"]["card"]["usual_reference"] > 0
