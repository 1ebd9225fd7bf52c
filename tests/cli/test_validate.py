"""`loratwin validate`, as a user runs it."""

from __future__ import annotations

import csv
import os
from pathlib import Path
from typing import Any

import pytest

from tests.calibrate.measured import LLAMA, QWEN, Row, by_hand, row, write_csv
from tests.cli.program import loratwin

PREDICTIONS = (
    "run,total_throughput,input_throughput,output_throughput,itl_mean_ms,tpot_mean_ms,ttft_mean_ms,ttft_median_ms,"
    "running_mean,kv_tokens,starts,starved"
)
DECISIONS = "model,rates,adapter_ranks_cycle,question,served_adapters,max_loras"
NO_WORKLOAD = {"adapter_rate_values": "", "adapter_rate_counts": "", "prompt_tokens_mean": "", "output_tokens_mean": ""}
BOTH = pytest.mark.parametrize("command", ["runs", "decisions"])


def three() -> list[Row]:
    """A run of each LLM, and a server that does not start."""
    return [
        row("a", rate=0.05),
        row("b", rate=0.05, model=QWEN.name),
        row("c", rate=0.05, slots=384, served=384, max_lora_rank=32, **NO_WORKLOAD),
    ]


def validate(folder: Path, *arguments: str) -> Any:
    return loratwin("validate", *arguments, cwd=folder)


def table(path: Path) -> list[Row]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", three())
    done = validate(tmp_path, "runs", "runs.csv", "-o", "pred.csv")
    assert (done.returncode, done.stdout) == (0, "3 predictions in pred.csv\n"), done.stderr
    assert (tmp_path / "pred.csv").read_text().splitlines()[0] == PREDICTIONS
    found = table(tmp_path / "pred.csv")
    assert [(p["run"], p["starts"]) for p in found] == [("a", "1"), ("b", "1"), ("c", "0")]
    assert all(float(found[i]["total_throughput"]) > 0 for i in (0, 1))
    assert found[2]["total_throughput"] == ""
    assert all(p["kv_tokens"].isdigit() for p in found)


def test_decisions(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", three())
    done = validate(tmp_path, "decisions", "runs.csv", "-o", "decisions.csv")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "decisions.csv").read_text().splitlines()[0] == DECISIONS
    found = table(tmp_path / "decisions.csv")
    assert done.stdout == f"{len(found)} decisions in decisions.csv\n"
    cases = {(d["model"], d["question"], d["served_adapters"]) for d in found}
    both = {(m, q, "32") for m in (LLAMA.name, QWEN.name) for q in ("slots", "latency")}
    assert both | {(LLAMA.name, q, "384") for q in ("slots", "latency")} <= cases
    assert {d["max_loras"] for d in found if d["served_adapters"] == "384" and d["question"] != "joint"} == {""}


@BOTH
def test_what_was_measured_and_how_many_processes_change_no_byte(command: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "plain.csv", three())
    write_csv(tmp_path / "measured.csv", [by_hand({**r, "outcome": "error"}, 77.0, kv_tokens=5) for r in three()])
    assert validate(tmp_path, command, "plain.csv", "-o", "1.csv").returncode == 0
    assert validate(tmp_path, command, "measured.csv", "-o", "2.csv", "--processes", "2").returncode == 0
    assert (tmp_path / "1.csv").read_bytes() == (tmp_path / "2.csv").read_bytes()


def test_more_seeds_are_another_mean(tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", [row("a")])
    for seeds in ("1", "2"):
        assert validate(tmp_path, "runs", "runs.csv", "-o", f"{seeds}.csv", "--seeds", seeds).returncode == 0
    one, two = (table(tmp_path / f"{seeds}.csv")[0] for seeds in ("1", "2"))
    assert one["tpot_mean_ms"] != two["tpot_mean_ms"]
    assert one["kv_tokens"] == two["kv_tokens"]


def check_refused(done: Any, folder: Path, message: str, before: set[str]) -> None:
    """One line, exit code 2, nothing written."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("compiling the kernel")]
    assert done.returncode == 2
    assert done.stdout == ""
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert {item.name for item in folder.iterdir()} == before


BAD_FILES = {
    "a missing column": ([{k: v for k, v in row().items() if k != "max_loras"}], "column 'max_loras' is missing"),
    "a bad number": ([row(), row(max_num_seqs="many")], "line 3: column 'max_num_seqs': 'many' is not a number"),
    "a negative rate": ([row(rate=-0.1)], "line 2: column 'adapter_rate_values': -0.1 is not a positive number"),
    "an unknown model": ([row(model="gpt-2")], "model 'gpt-2': no profile ships for it"),
    "a rank above the limit": ([row(max_lora_rank=8)], "rank 16, above max_lora_rank = 8"),
    "a rank that vLLM lacks": ([row("odd", max_lora_rank=17)], "run 'odd': engine configuration: max_lora_rank"),
    "no slots": ([row(slots=0)], "run 'run': max_loras is 0"),
    "no rows": ([], "no rows"),
}


@BOTH
@pytest.mark.parametrize("case", BAD_FILES)
def test_a_file_that_cannot_be_used(command: str, case: str, tmp_path: Path) -> None:
    rows, message = BAD_FILES[case]
    write_csv(tmp_path / "runs.csv", rows, None if rows else list(row()))
    check_refused(validate(tmp_path, command, "runs.csv", "-o", "out.csv"), tmp_path, message, {"runs.csv"})


@BOTH
def test_the_measurements_are_not_replaced(command: str, tmp_path: Path) -> None:
    path = write_csv(tmp_path / "runs.csv", three())
    before = path.read_bytes()
    done = validate(tmp_path, command, "runs.csv", "-o", str(path))
    check_refused(done, tmp_path, "is the file with the runs: give another name with -o", {"runs.csv"})
    assert path.read_bytes() == before


@BOTH
def test_a_missing_file(command: str, tmp_path: Path) -> None:
    check_refused(validate(tmp_path, command, "absent.csv", "-o", "out.csv"), tmp_path, "absent.csv", set())


@BOTH
def test_a_folder_that_is_not_there(command: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", three())
    done = validate(tmp_path, command, "runs.csv", "-o", "absent/out.csv")
    check_refused(done, tmp_path, "cannot write absent/out.csv: no folder absent", {"runs.csv"})


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
@BOTH
def test_a_folder_that_is_not_writable(command: str, tmp_path: Path) -> None:
    write_csv(tmp_path / "runs.csv", three())
    (tmp_path / "locked").mkdir(mode=0o500)
    done = validate(tmp_path, command, "runs.csv", "-o", "locked/out.csv")
    check_refused(done, tmp_path, "not writable", {"runs.csv", "locked"})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("validate", "report", "absent", "-o", "."), "absent"),
        (("calibrate", "fit", "absent", "-o", "."), "absent"),
        (("validate", "report", ".", "-o", "nowhere"), "no folder nowhere"),
        (("calibrate", "fit", ".", "-o", "nowhere"), "no folder nowhere"),
        (("calibrate", "fit", ".", "-o", "nowhere/mine.yaml"), "no folder nowhere"),
    ],
)
def test_folders_of_the_long_commands(arguments: tuple[str, ...], message: str, tmp_path: Path) -> None:
    check_refused(loratwin(*arguments, cwd=tmp_path), tmp_path, message, set())
