"""What cannot run is said; the program is gone whatever ends us."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from loratwin.cli.app import app
from loratwin.errors import DataError, InputError
from loratwin.offline import Batch, batch_grid, measure_offline
from loratwin.offline.measure import _follow
from loratwin.synthetic import make_adapters, make_llm, numbered
from tests.processes import ended, until


def test_every_combination_once() -> None:
    found = batch_grid([1, 8], [64], [32], adapters=[0, 4], ranks=[8, 16])
    assert [batch.name for batch in found] == ["b1-p64-o32", "b8-p64-o32", "b8-p64-o32-a4r8", "b8-p64-o32-a4r16"]
    with pytest.raises(InputError, match="output = 1, but it must be at least 2"):
        batch_grid([1], [64], [1])
    with pytest.raises(InputError, match="no batch is left"):
        batch_grid([1], [64], [8], adapters=[4])
    with pytest.raises(InputError, match="batch = 0"):
        batch_grid([0], [64], [8])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("made")
    make_adapters(folder / "adapters", make_llm(folder / "llm"), numbered("a", 3, [8, 16]))
    return folder


def test_what_cannot_run_is_said_before_vllm_starts(made: Path, tmp_path: Path) -> None:
    adapters, model = made / "adapters", f"--model {made / 'llm'}"
    with pytest.raises(InputError, match="needs --lora-folder|need --lora-folder"):
        measure_offline([Batch(8, 64, 32, 4)], model, tmp_path)
    with pytest.raises(InputError, match=r"b8-p64-o32-a3r8 needs 3 adapters of rank 8, and the folder has 2"):
        measure_offline([Batch(8, 64, 32, 3, 8)], model, tmp_path, lora_folder=adapters)
    with pytest.raises(InputError, match="name no LLM"):
        measure_offline([Batch(8, 64, 32)], "--max-num-seqs 8", tmp_path)
    with pytest.raises(InputError, match="nowhere/python: No such file"):
        measure_offline([Batch(8, 64, 32)], model, tmp_path, python="nowhere/python")


def test_vllms_last_words_are_told(made: Path, tmp_path: Path) -> None:
    """This Python has no vLLM."""
    with pytest.raises(DataError, match=r"vLLM ended early \(ModuleNotFoundError: No module named 'vllm'\); more in"):
        measure_offline([Batch(8, 64, 32)], f"--model {made / 'llm'}", tmp_path, python=sys.executable)
    words = ["offline", str(tmp_path), "--server-args", f"--model {made / 'llm'}", "--python", sys.executable]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 2 and "No module named 'vllm'" in done.output


def test_the_program_is_told_all_that_it_needs(made: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError):
        measure_offline(
            [Batch(8, 64, 32, 1, 16), Batch(4, 64, 32)], str(made / "llm"), tmp_path, python=sys.executable,
            lora_folder=made / "adapters", nvtx=True,
        )  # fmt: skip
    (path,) = tmp_path.glob("logs/*/plan.json")
    plan = json.loads(path.read_text())
    words = " ".join(plan["arguments"])
    assert "--enable-lora --max-loras 1 --max-cpu-loras 3 --max-lora-rank 16" in words and str(made / "llm") in words
    assert [batch["adapters"] for batch in plan["batches"]] == [["a-1"], []]
    assert plan["nvtx"] is True and plan["torch_profile"] is None and len(plan["adapters"]) == 3


def test_the_program_is_gone_when_we_are_interrupted(made: Path, tmp_path: Path) -> None:
    words = ["offline", str(tmp_path / "records"), "--server-args", f"--model {made / 'llm'}"]
    script = f"echo $$ > {tmp_path / 'pid'}; exec sleep 600"
    command = [sys.executable, "-m", "loratwin", *words, "--python", f"sh -c '{script}'"]
    started = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text().strip(), started)
    started.send_signal(signal.SIGINT)
    _, said = ended(started)
    assert started.returncode == 130 and said.splitlines()[-1] == "interrupted"
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_an_interrupt_while_the_program_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the fork, before anybody has the process's number."""
    pids = []

    class Interrupted(subprocess.Popen[bytes]):
        def __init__(self, *words: Any, **options: Any) -> None:
            super().__init__(*words, **options)
            pids.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        _follow({"result": str(tmp_path / "result.jsonl")}, "sh -c 'exec sleep 600'", tmp_path, 1, lambda *_: None)
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)
