"""`loratwin learn` as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.cli.commands import learn
from loratwin.learn.cases import shards
from loratwin.learn.cases.generate import load_shards
from loratwin.learn.cases.shards import Manifest, shard_path, write_manifest, write_shard
from loratwin.learn.training import train
from tests.cli.program import loratwin
from tests.learn.small import made_up
from tests.slow import slow

PROFILE = ("--profile", "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct")
WORKLOAD = """\
window_s: 120
groups:
  - {name: customer, count: 12, total_rate: 3, popularity: zipf, ranks: [8, 16]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of made-up servers, and a workload."""
    target = tmp_path_factory.mktemp("learn")
    explored = made_up(24)
    (target / "shards").mkdir()
    profiles = {each.case.profile: "made up" for each in explored}
    manifest = Manifest("edge", 0, profiles, tuple(each.case for each in explored))
    write_manifest(target / "shards", manifest)
    for number in range(manifest.num_shards):
        first = number * shards.SHARD_CASES
        write_shard(
            target / "shards", manifest, number, [each.rows for each in explored[first : first + shards.SHARD_CASES]]
        )
    (target / "mine.yaml").write_text(WORKLOAD)
    return target


def test_generate_goes_on_where_it_stopped(tmp_path: Path) -> None:
    run = ("learn", "generate", "--cases", "1", "--search", "edge", "-o", "shards", "--processes", "1")
    first = loratwin(*run, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    assert first.stdout.startswith(tuple("123456789")) and "in 1 new shard, 1 in shards" in first.stdout
    assert len(load_shards([tmp_path / "shards"])) == 1
    assert loratwin(*run, cwd=tmp_path).stdout == "0 runs of the twin in 0 new shards, 1 in shards\n"


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("--design", "wide"), "error: unknown design 'wide'. Known: broad, published"),
        (("--search", "all"), "error: unknown search 'all'. Known: edge, grid, slots"),
        (("--on", "moon"), "error: unknown place to run 'moon'. Known: dask://HOST:PORT, local, slurm"),
    ],
)
def test_generate_refuses_what_it_does_not_know(tmp_path: Path, option: tuple[str, ...], message: str) -> None:
    done = loratwin("learn", "generate", *option, "-o", "shards", cwd=tmp_path)
    assert (done.returncode, done.stderr.strip()) == (2, message)
    assert not (tmp_path / "shards").exists()


def test_rules_are_a_page_in_every_form(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = loratwin("learn", "rules", "shards", cwd=folder)
    assert page.returncode == 0, page.stderr
    assert "How many adapters can one GPU serve?" in page.stdout and "Error: half-SMAPE" in page.stdout
    for name in ("rules.json", "rules.py", "rules.svg"):
        learn.rules([folder / "shards"], folder / name)
        assert capsys.readouterr().out == f"{folder / name}\n"
    assert json.loads((folder / "rules.json").read_text())["loratwin_rules"] == 1
    compile((folder / "rules.py").read_text(), "rules.py", "exec")
    refused = loratwin("learn", "rules", "shards", "-o", "rules.pdf", cwd=folder)
    assert refused.stderr == "error: rules.pdf: rules are written as .txt, .md, .json, .py, .svg\n"


def test_table_of_some_models(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learn.table([folder / "shards"], folder / "t.md", models="ridge", targets="served")
    assert "| served (24) | ridge | " in (folder / "t.md").read_text() == capsys.readouterr().out
    wrong = loratwin("learn", "table", "shards", "--models", "rigde", cwd=folder)
    assert wrong.returncode == 2 and "unknown model 'rigde'. Did you mean 'ridge'?" in wrong.stderr


def test_a_damaged_shard_is_one_line(folder: Path, tmp_path: Path) -> None:
    for path in (folder / "shards").iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    shard_path(tmp_path, 1).write_bytes(b"nothing")
    done = loratwin("learn", "rules", str(tmp_path))
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "part-00001.parquet: a damaged shard" in done.stderr


def test_predict_answers_and_the_twin_checks(folder: Path) -> None:
    done = loratwin("learn", "predict", "mine.yaml", *PROFILE, "--json", "answer.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("One GPU serves about ") and "The twin, one run: it keeps up; " in done.stdout
    answer = json.loads((folder / "answer.json").read_text())
    assert answer["config"]["max_loras"] == answer["slots"] <= 12
    unchecked = loratwin("learn", "predict", "mine.yaml", *PROFILE, "--no-check", cwd=folder)
    assert unchecked.returncode == 0 and "The twin" not in unchecked.stdout


def test_outputs_of_one_token_have_no_time_between_tokens(folder: Path) -> None:
    one = "lengths: {prompt: {kind: fixed, tokens: 200}, output: {kind: fixed, tokens: 1}}"
    (folder / "one.yaml").write_text(
        f"window_s: 600\n{one}\ngroups:\n  - {{name: a, count: 8, total_rate: 4, ranks: 8}}\n"
    )
    done = loratwin("learn", "predict", "one.yaml", *PROFILE, cwd=folder)
    assert done.returncode == 0 and "mean TTFT" in done.stdout.splitlines()[-1] and "nan" not in done.stdout


def test_predict_refuses_a_model_of_another_version(folder: Path) -> None:
    (folder / "old.npz").write_bytes(b"no model")
    done = loratwin("learn", "predict", "mine.yaml", *PROFILE, "--model", "old.npz", cwd=folder)
    assert done.returncode == 2 and done.stderr.startswith("error: old.npz: not a learned model of loratwin")


def test_a_fast_plan_simulates_only_what_is_near_to_what_the_model_advises(folder: Path) -> None:
    done = loratwin("plan", "mine.yaml", *PROFILE, "--fast", "-o", "fast.html", "--json", "fast.json", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("Predicted by the learned model:\n")
    assert "One GPU serves all 12 adapters with " in done.stdout
    tried = json.loads((folder / "fast.json").read_text())
    advised = loratwin("learn", "predict", "mine.yaml", *PROFILE, "--no-check", "--json", "advised.json", cwd=folder)
    slots = json.loads((folder / "advised.json").read_text())["slots"]
    assert advised.returncode == 0
    assert {one["config"]["max_loras"] for one in tried["alternatives"]} <= {slots // 2, slots, min(2 * slots, 12)}
    only = loratwin("plan", "mine.yaml", *PROFILE, "--fast", "--no-check", cwd=folder)
    assert only.returncode == 0 and "Simulated:" not in only.stdout
    none = loratwin("plan", "mine.yaml", *PROFILE, "--fast", "--no-check", "-o", "none.html", cwd=folder)
    assert none.returncode == 2 and not (folder / "none.html").exists()
    wrong = loratwin("plan", "mine.yaml", *PROFILE, "--no-check", cwd=folder)
    assert wrong.stderr == "error: --no-check: goes with --fast; without it, all figures are the twin's\n"


@slow
def test_train_writes_a_model_and_says_its_errors(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(train, "SIZES", {name: (10, 6) for name in train.SIZES})
    learn.train([folder / "shards"], folder / "mine.npz")
    said = capsys.readouterr().out
    assert said.startswith("served: half-SMAPE ") and "24 workloads, none of them measured" in said
    used = loratwin("learn", "predict", "mine.yaml", *PROFILE, "--model", "mine.npz", "--no-check", cwd=folder)
    assert used.returncode == 0 and "outside what was learned" in used.stdout
