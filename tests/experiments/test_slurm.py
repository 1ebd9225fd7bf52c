"""A real Slurm: an array of twelve runs, two of them killed, one that fails, a new controller in between.

Without LORATWIN_REAL=1 only what is refused before anything is submitted is looked at. Servers are of known timing;
with LORATWIN_SLURM_SERVER=vllm they are a real vLLM on CPU, which takes half an hour on two free cores:

    LORATWIN_REAL=1 LORATWIN_SLURM_SERVER=vllm python -m pytest -n 0 -o faulthandler_timeout=0 \\
        tests/experiments/test_slurm.py -k twelve
"""

from __future__ import annotations

import math
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from loratwin.errors import DataError, InputError
from loratwin.experiments import (
    Experiments,
    SlurmOptions,
    cluster_executor,
    collect,
    load_grid,
    plan_runs,
    read_state,
)
from loratwin.experiments.executors import queued_jobs
from loratwin.simulate import sweep_many
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from loratwin.workload import load_specs
from tests.experiments.grids import LATE, SERVER, all_made, made, small_grid
from tests.simulate.test_many import QUESTION, contents, workloads
from tests.slurm import PARTITION, Slurm, slurm
from tests.vllm_cpu import needs_vllm, server_command, server_env

RUNS = 12
QUICK = os.environ.get("LORATWIN_SLURM_SERVER") != "vllm"
START_S, LONGEST_S = (400, 1200) if QUICK else (1500, 9000)
"""A server's start, and all that is waited for, at most: a real one takes minutes where others use the cores."""


def twelve(folder: Path) -> Path:
    """A grid of twelve; the last has a context that its requests do not fit, and fails for good."""
    make_adapters(folder / "adapters", make_llm(folder / "llm", NewLlm()), numbered("a", 4, (8,)))
    lengths = {"prompt": {"kind": "fixed", "tokens": 32}, "output": {"kind": "fixed", "tokens": 8}}
    group = {"name": "a", "count": 4, "rate": 0.5}
    (folder / "traffic.yaml").write_text(yaml.safe_dump({"window_s": 60, "lengths": lengths, "groups": [group]}))
    slots = [1, 2, 3, 4] * 3
    args = {
        "model": str(folder / "llm"), "served-model-name": "tiny", "dtype": "bfloat16", "enforce-eager": True,
        "max-num-seqs": 8, "enable-lora": True, "max-lora-rank": 8, "max-cpu-loras": 4, "max-loras": slots,
        "max-model-len": [256] * (RUNS - 1) + [16],
    }  # fmt: skip
    command = [sys.executable, str(SERVER)] if QUICK else server_command()
    grid = {
        "name": "twelve",
        "server": {
            "command": shlex.join(command), "args": args, "lora_folder": "adapters", "environment": server_env(),
            "start_timeout_s": START_S,
        },
        "workload": {"file": "traffic.yaml"},
        "bench": {"window_s": 5, "warm_up": 2, "in_flight": 2, "seed": list(range(RUNS))},
        "links": [["max-loras", "max-model-len", "seed"]],
    }  # fmt: skip
    path = folder / "grid.yaml"
    path.write_text(yaml.safe_dump(grid, sort_keys=False))
    return path


def prepared(path: Path, output: Path) -> tuple[Experiments, list[str]]:
    experiments = Experiments(output)
    return experiments, experiments.prepare(load_grid(path), plan_runs(load_grid(path), path.parent))


@needs_vllm
@pytest.mark.timeout(3000 if QUICK else 4 * LONGEST_S)
def test_an_array_of_twelve_survives_and_is_made_whole(tmp_path: Path) -> None:
    path = twelve(tmp_path)
    with slurm(tmp_path) as cluster:
        experiments, names = prepared(path, tmp_path / "slurm-out")
        assert experiments.submit(names, SlurmOptions(partition=PARTITION, at_once=1)) == names
        assert experiments.submit(names, SlurmOptions(partition=PARTITION)) == []
        disturbed = _disturb(experiments, cluster)
        _until_the_queue_is_empty()
        assert experiments.missing(names) == sorted(disturbed, key=names.index)
        before = _records(experiments, names)
        assert set(experiments.submit(names, SlurmOptions(partition=PARTITION))) == set(disturbed)
        _until_the_queue_is_empty()
        assert experiments.missing(names) == []
        after = _records(experiments, names)
        assert {name for name in names if before.get(name) != after.get(name)} == set(disturbed)
    _again_where_late(experiments, names)
    assert experiments.counts() == {"done": RUNS - 1, "failed": 1}
    table = collect(experiments.folder)
    (failure,) = [row for row in table.rows if row["stage"] == "failed"]
    assert failure["server.max-model-len"] == 16 and "max_model_len" in failure["reason"]
    assert sum(row["stage"] == "done" and row["total_throughput"] > 0 for row in table.rows) == RUNS - 1
    _the_same_folders_on_this_machine(path, tmp_path, names)


@needs_vllm
def test_any_task_goes_to_slurm_as_to_any_executor(tmp_path: Path) -> None:
    """One job, an array in order, an exception that comes back; one killed from outside, simulations, one cancelled."""
    with slurm(tmp_path):
        options = SlurmOptions(partition=PARTITION, minutes=5)
        with cluster_executor("slurm", tmp_path / "jobs", options, "powers") as executor:
            power, fault = executor.submit(pow, 2, 5), executor.submit(divmod, 1, 0)
            assert list(executor.map(math.factorial, range(4))) == [1, 1, 2, 6]
            assert power.result(timeout=300) == 32
            assert "ZeroDivisionError" in str(fault.exception(timeout=300))
            killed = executor.submit(time.sleep, 600)
            _until(queued_jobs)
            subprocess.run(["scancel", "--user", "root"], check=True)
            with pytest.raises(DataError, match="ended without a result"):
                killed.result(timeout=300)
            specs = load_specs([workloads(tmp_path / "w", 0.2, 0.6)])
            sweep_many(specs, QUESTION, tmp_path / "slurm", executor=executor)
            sweep_many(specs, QUESTION, tmp_path / "local")
            assert contents(tmp_path / "slurm") == contents(tmp_path / "local")
            waiting = executor.submit(time.sleep, 600)
            executor.shutdown(wait=False, cancel_futures=True)
            assert waiting.cancelled()
            _until_the_queue_is_empty()


def _disturb(experiments: Experiments, cluster: Slurm) -> list[str]:
    """Cancel one run in its window, kill -9 another, and start the controller anew in between."""
    first = _in_its_window(experiments, set())
    subprocess.run(["scancel", experiments.jobs()[first]], check=True)
    _until(lambda: experiments.states([first])[first].stage == "interrupted")
    cluster.restart_controller()
    second = _in_its_window(experiments, {first})
    folder = str(experiments.folder / second)
    for process in subprocess.run(
        ["pgrep", "-f", "submitit.core._submit"], capture_output=True, text=True
    ).stdout.split():
        if _holds(int(process), folder):
            os.kill(int(process), signal.SIGKILL)
    return [first, second]


def _again_where_late(experiments: Experiments, names: list[str]) -> None:
    for name in names:
        if LATE in read_state(experiments.folder / name).reason:
            made(experiments.folder / name)


def _holds(process: int, folder: str) -> bool:
    """Whether a process has the lock of a run's folder open."""
    try:
        return any(os.readlink(link) == f"{folder}/lock" for link in Path(f"/proc/{process}/fd").iterdir())
    except OSError:
        return False


def _in_its_window(experiments: Experiments, not_these: set[str]) -> str:
    def measuring() -> list[str]:
        places = experiments.folder.glob("*/record.json.partial/window.json")
        return [place.parents[1].name for place in places if place.parents[1].name not in not_these]

    _until(lambda: bool(measuring()))
    return measuring()[0]


def _records(experiments: Experiments, names: list[str]) -> dict[str, int]:
    paths = {name: experiments.folder / name / "record.json" for name in names}
    return {name: path.stat().st_mtime_ns for name, path in paths.items() if path.exists()}


def _until(holds: Callable[[], Any], seconds: float = LONGEST_S) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _until_the_queue_is_empty() -> None:
    _until(lambda: not queued_jobs())


def _the_same_folders_on_this_machine(path: Path, folder: Path, names: list[str]) -> None:
    experiments, same = prepared(path, folder / "local-out")
    assert same == names
    all_made(experiments, names)
    assert experiments.counts() == {"done": RUNS - 1, "failed": 1}
    for name in names:
        here, there = (folder / place / name for place in ("local-out", "slurm-out"))
        files = {item.name for item in there.iterdir() if not item.name.startswith("attempt-")}
        assert {item.name for item in here.iterdir() if not item.name.startswith("attempt-")} == files
        assert (here / "run.json").read_text() == (there / "run.json").read_text()


def test_without_slurm_it_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    experiments, names = prepared(small_grid(tmp_path / "g", [1], [1]), tmp_path / "out")
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(InputError, match="no Slurm here: sbatch is not on PATH"):
        experiments.submit(names, SlurmOptions())
    assert experiments.counts() == {"waiting": 1}


def stand_in(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Programs on PATH that answer as Slurm's; sbatch keeps the script that it is given."""
    folder.mkdir()
    programs = {
        "sinfo": "echo gpu; echo debug",
        "squeue": "echo 17_0; echo 17_1",
        "sbatch": f'cp "$1" {folder}/script; echo Submitted batch job 17',
        "srun": "true",
        "scontrol": "true",
    }
    for name, body in programs.items():
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def test_the_batch_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is asked of Slurm, to the letter but for paths; submitted once, and known to be queued."""
    stand_in(tmp_path / "bin", monkeypatch)
    experiments, names = prepared(small_grid(tmp_path / "g", [1, 2], [2], window_s=600.0), tmp_path / "out")
    options = SlurmOptions(
        partition="gpu", account="acc", gpus=1, cpus=20, at_once=4, setup=("module load cuda",), more={"qos": "short"}
    )
    assert experiments.submit(names, options) == names
    assert experiments.jobs() == {names[0]: "17_0", names[1]: "17_1"}
    assert experiments.counts() == {"queued": 2}
    assert experiments.submit(names, options) == []
    script = (tmp_path / "bin" / "script").read_text()
    asked = [line.removeprefix("#SBATCH --") for line in script.splitlines() if line.startswith("#SBATCH")]
    assert {line for line in asked if not line.startswith(("output", "error"))} == {
        "account=acc", "array=0-1%2", "cpus-per-task=20", "gpus-per-node=1", "job-name=small", "nodes=1",
        "open-mode=append", "partition=gpu", "qos=short", "signal=USR2@90", "time=19", "wckey=submitit",
    }  # fmt: skip
    assert "module load cuda" in script.splitlines()
    shutil.rmtree(tmp_path / "bin")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (SlurmOptions(partition="big"), "--partition 'big': Slurm has none of that name; it has debug, gpu"),
        (SlurmOptions(minutes=5), "--minutes 5: .* measures 600 s"),
    ],
)
def test_what_slurm_would_refuse_is_refused_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: SlurmOptions, message: str
) -> None:
    stand_in(tmp_path / "bin", monkeypatch)
    experiments, names = prepared(small_grid(tmp_path / "g", [1], [1], window_s=600.0), tmp_path / "out")
    with pytest.raises(InputError, match=message):
        experiments.submit(names, options)
    assert experiments.jobs() == {} and not (tmp_path / "bin" / "script").exists()
