"""Many workloads: each as it is alone, kept, and made again only where it is another."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError, SeveralErrors
from loratwin.plan.many import PlanQuestion, plan_many
from loratwin.plan.what_if import plan_and_cases, plan_and_cases_json
from loratwin.simulate import SweepQuestion, server_configs, sweep, sweep_many
from loratwin.units import with_units
from loratwin.workload import load_spec, load_specs
from tests.cli.program import loratwin_here
from tests.simulate.servers import PROFILE

SERVER = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
QUESTION = SweepQuestion(PROFILE, (2, 4), {"max_num_seqs": 32}, seeds=(0, 1), slo="ttft_p99=2s")


def workloads(folder: Path, *rates: float) -> Path:
    """A folder of small workloads, the first w0."""
    folder.mkdir(exist_ok=True)
    for i, rate in enumerate(rates):
        text = f"window_s: 30\nlengths: {{prompt: 100, output: 20}}\ngroups: [{{name: a, count: 4, rate: {rate}}}]\n"
        (folder / f"w{i}.yaml").write_text(text)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def rows(folder: Path) -> list[dict[str, Any]]:
    with open(folder / "table.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_each_is_as_it_is_alone_and_stands_in_the_table(tmp_path: Path) -> None:
    given = workloads(tmp_path / "w", 0.2, 0.6)
    done = sweep_many(load_specs([given]), QUESTION, tmp_path / "out")
    for name in ("w0", "w1"):
        spec = load_spec(given / f"{name}.yaml")
        configs = server_configs(spec, PROFILE, (2, 4), max_num_seqs=32)
        alone = sweep(spec, PROFILE, configs, seeds=(0, 1), slo="ttft_p99=2s", name=name)
        assert done.results[name] == json.loads(json.dumps(with_units(alone.as_json())))
        of_this = [row for row in rows(done.folder) if row["workload"] == name]
        assert [int(row["max_loras"]) for row in of_this] == [2, 4]
        for row, column in zip(of_this, alone.columns, strict=True):
            assert float(row["ttft_p99_ms"]) == column.figures()["ttft_p99_ms"].mean
            assert row["slo_met"] == "True" and float(row["chance"]) == column.chance


def test_it_goes_on_with_what_is_missing_or_another(tmp_path: Path) -> None:
    given = workloads(tmp_path / "w", 0.2, 0.6, 1.0)
    assert sweep_many(load_specs([given]), QUESTION, tmp_path / "out").num_new == 3
    whole = contents(tmp_path / "out")
    (tmp_path / "out" / "results" / "w1.json").write_text('{"of": ')  # cut short
    assert sweep_many(load_specs([given]), QUESTION, tmp_path / "out").num_new == 1
    assert contents(tmp_path / "out") == whole
    workloads(given, 0.3)  # w0 is another workload now
    assert sweep_many(load_specs([given]), QUESTION, tmp_path / "out").num_new == 1
    assert contents(tmp_path / "out")["results/w0.json"] != whole["results/w0.json"]
    with pytest.raises(InputError, match="holds answers to another question"):
        sweep_many(load_specs([given]), SweepQuestion(PROFILE, (2,)), tmp_path / "out")


def test_plans_too_and_one_that_cannot_be_planned_says_why(tmp_path: Path) -> None:
    given = workloads(tmp_path / "w", 0.2)
    (given / "plain.yaml").write_text("window_s: 30\nlengths: {prompt: 100, output: 20}\nbase: {rate: 1}\n")
    question = PlanQuestion(PROFILE, seeds=(0,), options={"slots": (2, 4), "max_num_seqs": (32,)})
    done = plan_many(load_specs([given]), question, tmp_path / "out")
    alone = plan_and_cases(
        load_spec(given / "w0.yaml"), PROFILE, [], seeds=(0,), slots=(2, 4), max_num_seqs=(32,), name="w0"
    )
    assert done.results["w0"] == json.loads(json.dumps(with_units(plan_and_cases_json(*alone))))
    plain, planned = rows(done.folder)
    assert "adapter" in plain["error"] and done.errors.keys() == {"plain"}
    assert alone[0].best is not None and int(planned["max_loras"]) == alone[0].best.slots
    with pytest.raises(SeveralErrors, match="plain: .*adapter"):
        plan_many(load_specs([given / "plain.yaml"]), question, tmp_path / "out")


def test_the_command_takes_a_folder(tmp_path: Path) -> None:
    workloads(tmp_path / "w", 0.2, 0.6)
    command = ("simulate", "w", "--profile", SERVER, "--max-loras", "4", "-o", "out")
    shown = loratwin_here(*command, cwd=tmp_path)
    assert shown.returncode == 0 and "2 of 2 workloads are new; all figures: out/table.csv" in shown.stdout
    again = loratwin_here(*command, "--json", cwd=tmp_path)
    assert [result["workload"] for result in json.loads(again.stdout)] == ["w0", "w1"]


@pytest.mark.parametrize("command", ["simulate", "plan"])
def test_bad_files_are_named_a_line_each_and_nothing_is_written(tmp_path: Path, command: str) -> None:
    given = workloads(tmp_path / "w", 0.2)
    (given / "typo.yaml").write_text("window_s: 30\ngrops: []\n")
    (given / "none.yaml").write_text("base: {rate: 1}\narrivals: {kind: trace}\nwindow_s: [\n")
    done = loratwin_here(command, "w", "--profile", SERVER, "-o", "out", cwd=tmp_path)
    lines = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert done.returncode == 2 and len(lines) == 2
    assert lines[0].startswith("error: w/none.yaml") and lines[1].startswith("error: w/typo.yaml")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("w",), "-o FOLDER says where the results go"),
        (("w", "w/w0.yaml", "-o", "out"), "w/w0.yaml and w/w0.yaml are both called w0"),
        (("empty", "-o", "out"), "empty: a folder without workloads"),
        (("w", "-o", "w"), "w: holds w0.yaml and no question.json"),
        (("w", "-o", "out", "--on", "dusk"), "unknown place to run 'dusk'"),
        (("w/w0.yaml", "--on", "dask://127.0.0.1:1"), "-o FOLDER"),
    ],
)
def test_what_cannot_be_is_said(tmp_path: Path, arguments: tuple[str, ...], message: str) -> None:
    workloads(tmp_path / "w", 0.2)
    (tmp_path / "empty").mkdir()
    done = loratwin_here("simulate", *arguments, "--profile", SERVER, cwd=tmp_path)
    assert done.returncode == 2 and message in done.stderr
    assert not (tmp_path / "out").exists()
