"""The launcher's own cost: expand, check and render 1,000 runs; collect 1,000; status of 10,000.

python -m benchmarks.experiments
"""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from loratwin.experiments import Experiments, collect, load_grid, plan_runs
from loratwin.experiments.run_spec import STATE
from loratwin.metrics import summarize
from loratwin.perf import load_profile
from loratwin.records import EngineConfig
from loratwin.records.plain import as_plain
from loratwin.simulate import simulate
from loratwin.workload import draw, load_spec


def grid_file(folder: Path, runs: int) -> Path:
    """Ten slot counts by ten rates by as many seeds as make so many runs."""
    args = {"model": "meta-llama/Llama-3.1-8B-Instruct", "enable-lora": True, "max-loras": list(range(8, 88, 8))}
    changes = {"groups.0.rate": [round(0.1 * i, 1) for i in range(1, 11)]}
    group = {"name": "a", "count": 8, "rate": 0.1}
    (folder / "t.yaml").write_text(yaml.safe_dump({"window_s": 60, "groups": [group]}))
    grid: dict[str, Any] = {
        "server": {"args": args},
        "workload": {"file": "t.yaml", "changes": changes},
        "bench": {"seed": list(range(runs // 100))},
    }
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid))
    return path


def ended(experiments: Experiments, names: list[str]) -> None:
    """As if all had been measured."""
    profile = load_profile("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
    run = simulate(draw(load_spec("example:support-desk")), profile, EngineConfig(max_loras=44, max_lora_rank=32))
    state = {"stage": "done", "reason": "", "digest": "", "started": 0.0, "took_s": 1.0, "host": "here"}
    text = json.dumps(state | {"summary": as_plain(summarize(run))}, indent=1)
    for name in names:
        (experiments.folder / name / STATE).write_text(text)


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print seconds, and those of this process's processor time: the same where nobody else uses the cores."""
    start, used = time.perf_counter(), time.process_time()
    yield
    print(f"{what}: {time.perf_counter() - start:.2f} s ({time.process_time() - used:.2f} s of processor time)")


def main() -> None:
    """Print seconds of each."""
    for runs in (1_000, 10_000):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            path = grid_file(folder, runs)
            with timed(f"{runs} runs expanded, checked, rendered"):
                planned = plan_runs(load_grid(path), folder)
                text = [run.spec.shell_command() for run in planned if run.spec is not None]
            assert len(text) == runs
            experiments = Experiments(folder / "out")
            with timed(f"{runs} folders written"):
                names = experiments.prepare(load_grid(path), planned)
            ended(experiments, names)
            with timed(f"status of {runs}"):
                assert experiments.counts() == {"done": runs}
            with timed(f"collect of {runs}"):
                collect(experiments.folder).write(folder / "table.parquet")


if __name__ == "__main__":
    main()
