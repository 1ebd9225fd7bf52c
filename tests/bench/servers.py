"""Servers and clients as processes, for the tests of the benchmark."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from loratwin.metrics import client_figures
from loratwin.records import Run
from tests.cli.program import PROGRAM, loratwin
from tests.processes import LIMIT_S, line_of

ROOT = Path(__file__).parents[2]


class TimedServer:
    """A running `timed_server`."""

    def __init__(self, process: subprocess.Popen[str], truth: Path) -> None:
        self.process, self._truth = process, truth
        self.port = int(line_of(process))
        self.url = f"http://127.0.0.1:{self.port}"

    def stop(self) -> dict[str, Any]:
        """Stop it; what it did."""
        self.process.terminate()
        self.process.wait(LIMIT_S)
        truth: dict[str, Any] = json.loads(self._truth.read_text())
        return truth

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(LIMIT_S)


@contextmanager
def timed_server(
    folder: Path,
    *models: str,
    ttft: float = 0.02,
    itl: float = 0.005,
    certificate: Path | None = None,
    key: str | None = None,
    line: str = "",
) -> Iterator[TimedServer]:
    """The first model is the LLM, the others are its adapters; `line` is what /proc has as that of an engine."""
    truth = folder / "truth.json"
    words = [sys.executable, "-m", "tests.bench.timed_server", "--ttft", str(ttft), "--itl", str(itl)]
    words += ["--truth", str(truth), *(["--models", *models] if models else [])]
    words += ["--certificate", str(certificate)] if certificate else []
    words += ["--key", key] if key else []
    words += ["--", *line.split()] if line else []
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=ROOT)
    try:
        yield TimedServer(process, truth)
    finally:
        process.kill()
        process.wait(LIMIT_S)
        assert process.stdout is not None
        process.stdout.close()


def workload_file(folder: Path, window_s: float, prompt: int = 32, output: int = 8, **group: object) -> Path:
    """A workload of one group with fixed lengths."""
    path = folder / "workload.yaml"
    lengths = {"prompt": {"kind": "fixed", "tokens": prompt}, "output": {"kind": "fixed", "tokens": output}}
    path.write_text(yaml.safe_dump({"window_s": window_s, "lengths": lengths, "groups": [{"name": "a", **group}]}))
    return path


def bench(*words: object, folder: Path, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run `loratwin bench` to its end, its load client in a process of its own; `env` is added to the environment."""
    return loratwin("bench", *map(str, words), cwd=folder, env=env)


def start_bench(*words: object, folder: Path) -> subprocess.Popen[str]:
    """Start `loratwin bench`, in a group of its own."""
    return subprocess.Popen(
        [*PROGRAM, "bench", *map(str, words)],
        cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip


def on_time(run: Run) -> bool:
    """Whether the machine had time for the client, as the client saw: then no count is left to luck."""
    return client_figures(run).lag_p99_ms < 20


def processes_with(text: str) -> list[int]:
    """Ids of processes whose command line holds this text."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if text in line and int(folder.name) != os.getpid():
            found.append(int(folder.name))
    return found
