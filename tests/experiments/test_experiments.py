"""A grid of servers of known timing, made on this machine: folders, states, what is killed and made again, tables."""

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

from loratwin.bench.shared.journal import RequestJournal
from loratwin.cli.app import app
from loratwin.errors import DataError, InputError
from loratwin.experiments import (
    Container,
    Experiments,
    collect,
    definition,
    load_grid,
    make_run,
    plan_runs,
    read_state,
)
from loratwin.records import load_run
from loratwin.report.grid_page import grid_html
from tests.experiments.grids import LATE, all_made, made, small_grid
from tests.processes import LIMIT_S, until
from tests.slow import slow


def prepared(path: Path, output: Path) -> tuple[Experiments, list[str]]:
    grid = load_grid(path)
    experiments = Experiments(output)
    return experiments, experiments.prepare(grid, plan_runs(grid, path.parent))


def test_a_grid_is_made_looked_at_and_collected(tmp_path: Path) -> None:
    """Each run with its record, the command, and its figures; the same again makes nothing."""
    experiments, names = prepared(small_grid(tmp_path / "g", [1, 2], [2]), tmp_path / "out")
    assert names == ["max-loras=1", "max-loras=2"]
    assert experiments.counts() == {"waiting": 2}
    ends = all_made(experiments, names)
    assert set(ends.values()) == {"done"}
    run = load_run(tmp_path / "out" / names[1] / "record.json")
    assert (len(run.adapters), run.config.max_loras, run.window_s) == (2, 2, 2.0)
    before = {name: (tmp_path / "out" / name / "record.json").stat().st_mtime_ns for name in names}
    assert experiments.missing(names) == []
    assert make_run(str(tmp_path / "out" / names[0])) == "done"
    assert before == {name: (tmp_path / "out" / name / "record.json").stat().st_mtime_ns for name in names}
    table = collect(tmp_path / "out")
    assert table.axes == ("server.max-loras",)
    assert [row["server.max-loras"] for row in table.rows] == [1, 2]
    assert all(row["total_throughput"] > 0 and row["stage"] == "done" for row in table.rows)
    table.write(tmp_path / "t.parquet")
    table.write(tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_text().count("\n") == 3
    page = grid_html(table)
    assert "throughput, tokens/s" in page and "2 done" in page and "max-loras" in page


def test_a_server_that_does_not_start_is_a_failure_with_its_reason(tmp_path: Path) -> None:
    """The others are made; the failed one only when asked for again."""
    path = small_grid(tmp_path / "g", [1, 2], [2])
    grid = load_grid(path)
    experiments, names = prepared(path, tmp_path / "out")
    broken = tmp_path / "out" / names[0]
    spec = json.loads((broken / "run.json").read_text())
    (broken / "run.json").write_text(json.dumps(spec | {"command": "/no/such/program"}))
    ends = all_made(experiments, names, jobs=2)
    assert ends == {names[0]: "failed", names[1]: "done"}
    assert "/no/such/program" in experiments.states()[names[0]].reason
    assert experiments.missing(names) == [] and experiments.missing(names, again=True) == [names[0]]
    assert [row["reason"] != "" for row in collect(tmp_path / "out").rows] == [True, False]
    (broken / "run.json").write_text(json.dumps(spec))
    assert experiments.missing(names, again=True) == [names[0]] and made(broken) == "done"
    assert experiments.prepare(grid, plan_runs(grid, path.parent)) == names


@slow
def test_a_killed_run_is_made_again_and_what_it_left_is_kept(tmp_path: Path) -> None:
    """kill -9 in the window: interrupted, not running; the next attempt is whole."""
    experiments, names = prepared(small_grid(tmp_path / "g", [1], [1], window_s=30.0), tmp_path / "out")
    folder = tmp_path / "out" / names[0]
    code = "import sys; from loratwin.experiments import make_run; make_run(sys.argv[1])"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder)], stdout=subprocess.DEVNULL)
    until((folder / "record.json.partial" / "window.json").exists, process)
    assert experiments.counts() == {"running": 1} and make_run(str(folder)) == "running"
    os.kill(process.pid, signal.SIGKILL)
    process.wait(LIMIT_S)
    until(lambda: experiments.counts() == {"interrupted": 1})  # its load client notices, and goes
    spec = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps(spec | {"window_s": 2.0}))
    assert made(folder) == "done"
    assert (folder / "attempt-1" / "record.json.partial").is_dir()
    assert load_run(folder / "record.json").window_s == 2.0


def test_a_folder_keeps_to_its_grid(tmp_path: Path) -> None:
    prepared(small_grid(tmp_path / "g", [1], [1]), tmp_path / "out")
    with pytest.raises(InputError, match="holds another grid"):
        prepared(small_grid(tmp_path / "g", [1], [1], window_s=3.0), tmp_path / "out")
    with pytest.raises(InputError, match="is not empty, and holds no grid"):
        prepared(tmp_path / "g" / "grid.yaml", tmp_path / "g")
    with pytest.raises(DataError, match="holds no grid"):
        collect(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"server": {"args": {"max-lora": 8}}}, "vLLM has no option --max-lora; did you mean 'max-loras'"),
        ({"workload": {"file": "absent.yaml"}}, "absent.yaml"),
        ({"workload": {"file": "traffic.yaml", "changes": {"groups.1.count": 3}}}, "the workload has no '1'"),
        ({"workload": {"file": "traffic.yaml", "changes": {"groups.0.cuont": 3}}}, "cuont"),
        ({"bench": {"seed": "one"}}, "bench.seed = 'one'"),
        ({"bench": {"window_s": -1}}, "bench.window_s = -1"),
        ({"bench": {"api": "words"}}, "completions or chat"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = small_grid(tmp_path / "g", [1], [1], **change | {"where": []})
    result = CliRunner().invoke(app, ["experiments", "run", str(path), "-o", str(tmp_path / "out")])
    assert result.exit_code != 0
    with pytest.raises(InputError, match=message):
        prepared(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_plan_shows_commands_and_what_is_left_out(tmp_path: Path) -> None:
    path = small_grid(tmp_path / "g", [1, 2], [1, 2])
    result = CliRunner().invoke(app, ["experiments", "plan", str(path)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-1].startswith("3 runs, 1 left out; ")
    assert "max-loras=2_groups.0.count=1: left out, max-loras <= groups.0.count" in lines
    assert not (tmp_path / "out").exists()


@slow
def test_the_command_of_a_run_is_what_is_measured(tmp_path: Path) -> None:
    """`loratwin bench` reads it: run by hand, it makes the same record."""
    _, names = prepared(small_grid(tmp_path / "g", [1], [1]), tmp_path / "out")
    text = (tmp_path / "out" / names[0] / "command.sh").read_text()
    done = subprocess.run(
        ["sh", "-c", text.replace("loratwin bench", f"{sys.executable} -m loratwin bench")],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "out" / names[0] / "record.json")
    assert run.config.max_loras == 1 and run.window_s == 2.0


@pytest.mark.parametrize(
    ("container", "command"),
    [
        (Container(), "vllm serve"),
        (
            Container("apptainer", "vllm.sif", ("/data", "/models:/m")),
            "apptainer exec --nv --bind /data --bind /models:/m vllm.sif vllm serve",
        ),
        (
            Container("docker", "vllm/vllm-openai:v0.25.1", ("/data",)),
            "docker run --rm --gpus all --ipc=host --network=host --volume /data:/data --entrypoint '' "
            "vllm/vllm-openai:v0.25.1 vllm serve",
        ),
    ],
)
def test_servers_in_containers(tmp_path: Path, container: Container, command: str) -> None:
    assert container.command("vllm serve") == command


def test_a_container_needs_an_image_and_a_kind() -> None:
    with pytest.raises(InputError, match="which image"):
        Container("singularity").command("vllm serve")
    with pytest.raises(InputError, match="must be one of none, apptainer"):
        Container("podman", "x").command("vllm serve")  # type: ignore[arg-type]


def test_the_definition_file() -> None:
    """As it is, to the letter: not tried on a real Apptainer."""
    assert definition("vllm-0.25.1", profilers=True) == (
        "Bootstrap: docker\nFrom: vllm/vllm-openai:v0.25.1\n\n%post\n"
        "    apt-get update && apt-get install -y --no-install-recommends nsight-systems-cli\n"
        "    python3 -m pip install --no-cache-dir loratwin[bench]\n\n"
        "%environment\n    export VLLM_NO_USAGE_STATS=1\n\n"
        '%runscript\n    exec vllm serve "$@"\n'
    )


def test_a_damaged_state_is_no_end(tmp_path: Path) -> None:
    _, names = prepared(small_grid(tmp_path / "g", [1], [1]), tmp_path / "out")
    folder = tmp_path / "out" / names[0]
    (folder / "state.json").write_text("{")
    assert read_state(folder).stage == "waiting"


@pytest.mark.parametrize(
    ("profiler", "exported"),
    [
        ("nsys", ["nsys.nsys-rep", "nsys.sqlite"]),
        pytest.param("ncu", ["ncu.csv", "ncu.ncu-rep"], marks=slow),
    ],
)
def test_a_server_under_a_profiler(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, profiler: str, exported: list[str]
) -> None:
    """With stand-ins, which run what they are given and leave a report; the real profilers were not run."""
    programs = tmp_path / "bin"
    programs.mkdir()
    body = """#!/usr/bin/env python3
import os, sys
words = sys.argv[1:]
if words[0] == "export":
    open(words[words.index("--output") + 1], "w").write("sqlite")
elif words[0] == "--import":
    print("csv of", words[1])
else:
    target = words[words.index("--output" if words[0] == "profile" else "--export") + 1]
    open(target + (".nsys-rep" if words[0] == "profile" else ".ncu-rep"), "w").write(" ".join(words))
    start = next(i for i, word in enumerate(words) if word == sys.executable or word.endswith("python"))
    os.execv(words[start], words[start:])
"""
    (programs / profiler).write_text(body.replace("#!/usr/bin/env python3", f"#!{sys.executable}"))
    (programs / profiler).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    path = small_grid(tmp_path / "g", [1], [1])
    command = ["experiments", "run", str(path), "-o", str(tmp_path / "out"), f"--with-{profiler}"]
    done = subprocess.run([sys.executable, "-m", "loratwin", *command], capture_output=True, text=True)
    assert done.returncode == 0 and ("1 done" in done.stdout or LATE in done.stdout), done.stdout + done.stderr
    (folder,) = [item for item in (tmp_path / "out").iterdir() if item.is_dir()]
    assert sorted(item.name for item in folder.iterdir() if item.name.startswith(f"{profiler}.")) == exported
    report = (folder / exported[0 if profiler == "nsys" else 1]).read_text()
    assert "--trace cuda,nvtx,osrt" in report if profiler == "nsys" else "--launch-count 200" in report


@slow
def test_a_disk_that_fills_costs_the_run_and_nothing_else(tmp_path: Path) -> None:
    """The record cannot be written: that run is to be made again; what was done before stays."""
    experiments, names = prepared(small_grid(tmp_path / "g", [1], [1, 2]), tmp_path / "out")
    done, full = names
    assert made(tmp_path / "out" / done) == "done"
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from loratwin.experiments import make_run; print(make_run(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "out" / full)], capture_output=True, text=True)
    states = experiments.states()
    assert states[done].stage == "done" and states[full].stage in ("interrupted", "failed")
    assert made(tmp_path / "out" / full) == "done"


def test_a_run_that_is_interrupted_is_made_again(tmp_path: Path) -> None:
    """SIGTERM in the window, as from scancel: what was measured is kept, and is no end."""
    experiments, names = prepared(small_grid(tmp_path / "g", [1], [1], window_s=30.0), tmp_path / "out")
    folder = tmp_path / "out" / names[0]
    code = "import sys; from loratwin.experiments import make_run; make_run(sys.argv[1])"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    unfinished = folder / "record.json.partial"
    until((unfinished / "window.json").exists, process)
    until(lambda: RequestJournal.open(unfinished).count("sent"), process)
    process.terminate()
    assert process.wait(LIMIT_S) != 0
    assert 0 < load_run(folder / "record.json").window_s < 30
    assert experiments.counts() == {"interrupted": 1} and experiments.missing(names) == names
