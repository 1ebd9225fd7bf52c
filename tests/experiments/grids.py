"""Grids of small servers of known timing, for tests."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.experiments import Experiments, local_executor, make_run, read_state
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered

SERVER = Path(__file__).parents[1] / "bench" / "timed_server.py"


LATE = "fell behind its schedule"
"""A busy machine makes the client late, and the run then counts as failed: no fault of what is tested here."""


def made(folder: Path) -> str:
    """Make a run, and again where the client was late; how far it is."""
    for _ in range(6):
        end = make_run(str(folder), again=True)
        if LATE not in read_state(folder).reason:
            return end
    pytest.skip("this machine is too busy to send a request in time")


def all_made(experiments: Experiments, names: list[str], jobs: int = 1) -> dict[str, str]:
    """The same for some runs of a grid."""
    with local_executor(jobs) as executor:
        ends = experiments.make(names, executor)
    late = [name for name in names if LATE in read_state(experiments.folder / name).reason]
    return ends | {name: made(experiments.folder / name) for name in late}


def small_grid(folder: Path, slots: list[int], counts: list[int], window_s: float = 2.0, **more: Any) -> Path:
    """A grid in a folder: slots by adapters, slots at most as many as adapters; its file."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "llm").exists():
        make_adapters(folder / "adapters", make_llm(folder / "llm", NewLlm()), numbered("a", max(counts), (8,)))
    lengths = {"prompt": {"kind": "fixed", "tokens": 16}, "output": {"kind": "fixed", "tokens": 4}}
    group = {"name": "a", "count": max(counts), "rate": 4.0}
    (folder / "traffic.yaml").write_text(yaml.safe_dump({"window_s": 60, "lengths": lengths, "groups": [group]}))
    grid = {
        "name": "small",
        "server": {
            # of the time to first token, 5 % is how late a client may be before a run is invalid
            "command": shlex.join([sys.executable, str(SERVER), "--ttft", "1.5"]),
            "args": {"model": str(folder / "llm"), "enable-lora": True, "max-loras": slots, "max-lora-rank": 8},
            "lora_folder": "adapters",
            "start_timeout_s": 60,
        },
        "workload": {"file": "traffic.yaml", "changes": {"groups.0.count": counts}},
        "bench": {"window_s": window_s, "warm_up": 2},
        "where": ["max-loras <= groups.0.count"],
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid | more, sort_keys=False))
    return path
