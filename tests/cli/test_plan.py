"""`loratwin plan` as a user runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.perf import dump_profile, load_profile, profile_names
from tests.cli.program import loratwin
from tests.processes import ended, line_of

PROFILE = ("--profile", "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
QUICK = ("--seeds", "1", "--slots", "4,8", "--max-num-seqs", "256")
WORKLOAD = """\
window_s: 120
groups:
  - {name: customer, count: 12, total_rate: 3, popularity: zipf, ranks: [8, 16]}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "mine.yaml").write_text(WORKLOAD)
    return tmp_path


def test_it_ends_with_a_verdict_a_command_and_a_report(folder: Path) -> None:
    done = loratwin("plan", "mine.yaml", *PROFILE, *QUICK, "--json", "plan.json", "--csv", "tables", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("One GPU serves all 12 adapters with ")
    assert re.search(r"^ *[48] +256 +chosen ", done.stdout, re.MULTILINE)
    assert "vllm serve meta-llama/Llama-3.1-8B-Instruct" in done.stdout
    assert done.stdout.endswith("\nReport: plan.html\n")
    assert (folder / "plan.html").read_text(encoding="utf-8").startswith("<!doctype html>")
    assert json.loads((folder / "plan.json").read_text())["num_adapters"] == 12
    assert {item.name for item in folder.iterdir()} == {"mine.yaml", "plan.html", "plan.json", "tables"}
    tables = {item.name for item in (folder / "tables").iterdir()}
    assert tables == {f"{name}.csv" for name in ("alternatives", "what-breaks-first", "adapters", "held-out-errors")}
    assert (folder / "tables" / "alternatives.csv").read_text().count("\n") == 3  # names, 4 slots, 8 slots


def test_an_example_and_a_target_that_nothing_meets(tmp_path: Path) -> None:
    options = ("--slo", "ttft_p99=1ms", "--slots", "64", "-o", "none.html")
    done = loratwin("plan", "example:support-desk", *PROFILE, *QUICK[:2], *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("None works: one GPU cannot serve even one of the 128 adapters within ttft_p99=1ms.")
    assert "vllm serve" not in done.stdout
    assert (tmp_path / "none.html").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("absent.yaml", *PROFILE), "absent.yaml: cannot be read"),
        (("mine.yaml", "--profile", "h200"), f"unknown profile 'h200'. Known: {', '.join(profile_names())}"),
        (("mine.yaml", *PROFILE, "--slo", "ttft=2s"), "SLO 'ttft=2s': no statistic"),
        (("mine.yaml", *PROFILE, "--objective", "fun"), "unknown objective 'fun'"),
        (("mine.yaml", *PROFILE, "--slo-for", "adapters"), "an SLO for adapters is asked for, but none is given"),
        (("mine.yaml", *PROFILE, "--slo", "ttft_p99=2s", "--slo-for", "us"), "unknown SLO's reach (--slo-for) 'us'"),
        (("mine.yaml", *PROFILE, "--scale", "nobody=3"), "unknown adapter or group (--scale) 'nobody'"),
        (("mine.yaml", *PROFILE, "--add", "some"), "--add 'some': write it as '24 adapters at 0.1/s, rank 16'"),
        (("mine.yaml", *PROFILE, "--headroom", "much"), "headroom 'much' is not a number of per cent; write 30%"),
        (("mine.yaml", *PROFILE, "--headroom", "500%"), "headroom = 500 %, but it must be from 0 to 376 %"),
        (("mine.yaml", *PROFILE, "--slots", "8,x"), "--slots 'x': expected whole numbers"),
        (("mine.yaml", *PROFILE, "--slots", "0"), "slots: 0, but it must be at least 1"),
        (
            ("mine.yaml", *PROFILE, "-o", "absent/plan.html"),
            "cannot write absent/plan.html: no folder absent (make it with mkdir -p absent)",
        ),
        (("mine.yaml", *PROFILE, "--json=."), "cannot write .: it is a folder"),
        (("mine.yaml", *PROFILE, "--csv", "mine.yaml"), "--csv mine.yaml: it is a file, and a folder is needed"),
        (("mine.yaml", *PROFILE, "--csv", "absent/tables"), "cannot write absent/tables: no folder absent"),
        (("mine.yaml", *PROFILE, "--gpu-memory-utilization", "2"), "gpu_memory_utilization = 2.0"),
        (("mine.yaml", *PROFILE, "-o", "mine.yaml"), "mine.yaml: the report is an HTML file, as report.html"),
        (("mine.yaml", *PROFILE, "--json=./mine.yaml"), "mine.yaml is a file that is read: give --json another name"),
        (("mine.yaml", *PROFILE, "-o", "p.html", "--json=./p.html"), "p.html is given as both --output and --json"),
        (("mine.yaml", *PROFILE, "--no-check"), "--no-check: goes with --fast"),
        (("mine.yaml", *PROFILE, "--fast", "--no-check", "--json", "p.json"), "--json: with --no-check there is no"),
        (("mine.yaml", *PROFILE, "--fast", "--no-check", "-o", "p.html"), "--output: with --no-check there is no"),
    ],
)
def test_what_cannot_be_is_one_line_and_writes_nothing(arguments: tuple[str, ...], message: str, folder: Path) -> None:
    done = loratwin("plan", *arguments, cwd=folder)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert done.stderr.count("\n") == 1
    assert message in done.stderr
    assert [item.name for item in folder.iterdir()] == ["mine.yaml"]


def test_the_profile_and_a_workload_in_any_file_are_not_replaced(folder: Path) -> None:
    odd, profile = folder / "odd.html", folder / "profile.yaml"
    odd.write_text(WORKLOAD)
    profile.write_text(dump_profile(load_profile(PROFILE[1])))
    for option, said in (
        ("-oodd.html", "odd.html is a file that the report is made of: give another name"),
        ("--json=profile.yaml", "profile.yaml is a file that is read: give --json another name"),
    ):
        done = loratwin("plan", "odd.html", "--profile", str(profile), *QUICK, option, cwd=folder)
        assert (done.returncode, done.stderr) == (2, f"error: {said}\n")
    assert odd.read_text() == WORKLOAD


ANNOUNCED = """
import loratwin.plan, loratwin.report, loratwin.workload  # libraries may answer it otherwise
from loratwin.cli import main
from loratwin.simulate.workers import Workers

plain = Workers.map

def announced(*given):
    Workers.map = plain
    print("at work", flush=True)
    return plain(*given)

Workers.map = announced
main()
"""


def test_an_interrupt_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ANNOUNCED, "plan", "example:support-desk", *PROFILE, "--seeds", "200"]
    pipe = subprocess.PIPE
    program = subprocess.Popen(command, cwd=tmp_path, stdout=pipe, stderr=pipe, text=True, start_new_session=True)
    assert line_of(program) == "at work"  # it simulates, or starts its second process: any moment will do
    os.killpg(program.pid, signal.SIGINT)
    output, errors = ended(program)  # returns when the last process of the group is gone
    assert (program.returncode, output) == (130, "")
    assert errors.splitlines()[-1] == "interrupted"
    assert "Traceback" not in errors
    assert not list(tmp_path.iterdir())
