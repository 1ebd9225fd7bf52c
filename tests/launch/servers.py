"""Start the stand-in, and look for processes."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loratwin.launch import Server, start_server
from tests.processes import until

STAND_IN = [sys.executable, "-I", "-S", str(Path(__file__).with_name("stand_in.py"))]


def started(folder: Path, *arguments: str, engine: str = "vllm", **options: Any) -> Server:
    """A stand-in server that answers."""
    words = ["--model", "x", *arguments]
    return start_server(engine, words, log_folder=folder, **{"command": STAND_IN, "timeout_s": 600.0, **options})


def alive(pids: Iterable[int]) -> list[int]:
    """Those that still run (no zombies)."""
    return [pid for pid in pids if _state(pid) not in ("", "Z", "X")]


def gone(pids: Iterable[int]) -> bool:
    """Wait until none of them runs."""
    pids = list(pids)
    until(lambda: not alive(pids))
    return True


def with_word(word: str) -> list[int]:
    """Processes that have this word among their arguments."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if word.encode() in arguments:
            found.append(int(folder.name))
    return [pid for pid in alive(found) if pid != os.getpid()]


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
