"""`loratwin report`, as a user runs it; and the table that `loratwin bench` prints, too."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loratwin.metrics import client_per_adapter, parse_slo, run_figures, summarize
from loratwin.records import Run, load_run, load_runs, save_run
from loratwin.report import print_runs, runs_as_json
from tests.cli.program import loratwin
from tests.metrics.runs import make_run
from tests.report.measured import NASTY, PROFILE, measured, simulated
from tests.report.page import Page
from tests.slow import slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs as files: one measured, one simulated, of the same workload."""
    path = tmp_path_factory.mktemp("runs")
    save_run(measured(), path / "measured.json")
    save_run(simulated(), path / "simulated.json")
    return path


def report(folder: Path, *arguments: str) -> Any:
    return loratwin("report", *arguments, cwd=folder)


def test_json_holds_the_figures_and_their_differences(folder: Path) -> None:
    done = report(folder, "measured.json", "simulated.json", "--json", "--adapters", "--slo", "ttft_p99=2s")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ours, twins = found["runs"]
    assert (ours["name"], ours["kind"], ours["valid"]) == ("measured", "measured", False)
    assert ours["invalid"] == list(measured().invalid)
    assert (twins["kind"], twins["valid"]) == ("simulated", True)
    run = load_run(folder / "measured.json")
    assert ours["figures"]["ttft_p99_ms"] == summarize(run).ttft_p99_ms
    assert ours["figures"]["slo_ttft_p99_ms"] == summarize(run).ttft_p99_ms
    assert twins["figures"]["lag_p99_ms"] is None
    share = twins["figures"]["tpot_mean_ms"] / ours["figures"]["tpot_mean_ms"] - 1
    assert found["differences"]["simulated"]["tpot_mean_ms"] == pytest.approx(share)
    assert len(ours["adapters"]) == 301
    assert ours["adapters"][0]["name"] == NASTY
    assert ours["adapters"][5]["sent"] == client_per_adapter(run).sent[5]
    assert found["workloads_differ"] == ["names of adapters"]


@slow
def test_the_html_file_is_written_beside_a_simulation_of_the_same_requests(folder: Path) -> None:
    (folder / "pages").mkdir()
    done = report(folder, "measured.json", "--profile", PROFILE, "-o", "pages/report.html")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "written: pages/report.html\n"
    text = Page((folder / "pages" / "report.html").read_text()).text
    assert "measured (measured) beside measured by the twin (simulated)" in text
    assert "requests that failed, were refused or never sent are not simulated" in text


def test_a_refusal_is_one_line(folder: Path) -> None:
    done = report(folder, "missing.json")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "error: cannot read missing.json: No such file or directory\n"


@pytest.mark.parametrize(
    ("files", "options", "words"),
    [
        (["measured.json", "other.json"], {}, "other.json: not a run of loratwin"),
        (["measured.json", "measured.json"], {}, "measured.json is given twice"),
        (["measured.json"], {"output": "report.pdf"}, "report.pdf: the report is an HTML file, as report.html"),
        (["measured.json"], {"output": "nowhere/report.html"}, "no folder .*nowhere"),
        (["simulated.json"], {"profile": PROFILE}, "none of the runs is measured"),
        (["measured.json"], {"profile": "unknown"}, "unknown profile 'unknown'"),
        (["measured.json"], {"slo": "fast"}, "no limit"),
    ],
)
def test_what_cannot_be_shown_is_refused(folder: Path, files: list[str], options: dict[str, str], words: str) -> None:
    (folder / "other.json").write_text("{}")
    done = report(folder, *files, *(word for name, value in options.items() for word in (f"--{name}", value)))
    assert done.returncode == 2
    assert re.search(words, done.stderr), done.stderr
    assert not list(folder.glob("*.html*"))


def test_runs_of_one_name_are_told_apart(folder: Path) -> None:
    (folder / "a").mkdir()
    save_run(make_run([0.0]), folder / "a" / "measured.json")
    save_run(make_run([0.0]), folder / "simulated.parquet")
    paths = [folder / name for name in ("measured.json", "a/measured.json", "simulated.json", "simulated.parquet")]
    names = list(load_runs(paths))
    assert names == [*map(str, paths[:2]), "simulated.json", "simulated.parquet"]
    assert list(load_runs(paths[1:3])) == ["measured", "simulated"]


# --- the table


def printed(capsys: pytest.CaptureFixture[str], runs: dict[str, Run], **options: Any) -> str:
    """Everything that is printed, spaces evened out."""
    print_runs(runs, **options)
    return " ".join(capsys.readouterr().out.split())


def test_the_table_says_kind_validity_differences_and_failures(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, {"run": measured(), "twin": simulated()})
    ours, twins = (run_figures(run)["tpot_mean_ms"] for run in (measured(), simulated()))
    assert f"TPOT mean {ours:.3g} ms {twins:.3g} ms {100 * (twins - ours) / ours:+.1f} %" in text
    assert "run: measured, vllm-0.8.5, llama, H100, 300 adapters, 31.8 requests/s, 120 s" in text
    assert f"INVALID: {measured().invalid[0]}" in text
    assert "run: failures: HTTP 500: 36, stream cut off" in text
    assert "the workloads differ: names of adapters" in text


def test_a_run_that_lacks_nothing_has_no_remarks(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, {"run": make_run([0.0], first=[1.0], finish=[2.0])})
    assert "run: simulated" in text
    for word in ("INVALID", "failures", "differ", "starving", "lag"):
        assert word not in text


def test_limits_are_met_or_missed(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, {"run": make_run([0.0], first=[1.0], finish=[2.0])}, slo=parse_slo("ttft_p99=2s,e2e_p50=1s"))
    assert "ttft_p99=2s 1 s met e2e_p50=1s 2 s MISSED goodput 0/s" in text


def test_adapters_come_worst_first_and_their_names_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    run = make_run([0.0, 0.0, 0.0], first=[1.0, 1.0, 1.0], finish=[2.0, 2.0, 20.0], adapter=[0, 1, 1])
    run = replace(run, adapters=replace(run.adapters, name=("[red]good[/red]", "bad")))
    text = printed(capsys, {"run": run}, adapters=True)
    assert text.index("adapter ") < text.index("bad 2 1 1 50") < text.index("[red]good[/red] 1 1 0 100")


def test_plain_data_has_no_undefined_numbers() -> None:
    empty = make_run([], kind="measured")
    json.dumps(runs_as_json({"a": empty, "b": measured()}, adapters=True), allow_nan=False)
