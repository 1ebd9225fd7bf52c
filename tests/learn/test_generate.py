"""Shards: the same bytes however they came about, nothing lost, nothing done twice."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.errors import DataError, InputError
from loratwin.learn.cases import shards
from loratwin.learn.cases.generate import Explored, generate, load_shards
from loratwin.learn.cases.search import explore
from loratwin.learn.cases.shards import Manifest, read_manifest, shard_path, write_manifest
from loratwin.perf import load_profile
from loratwin.simulate import workers
from tests.learn.small import minute_case
from tests.processes import LIMIT_S, until
from tests.slow import slow

CASES = [minute_case(number) for number in range(5)]


@pytest.fixture(autouse=True)
def _small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shards, "SHARD_CASES", 2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shards, "SHARD_CASES", 2)
        target = tmp_path_factory.mktemp("shards")
        done = generate(CASES, target)
        assert (done.num_shards, done.num_new) == (3, 3) and done.num_runs > 50
    return target


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def copy(folder: Path, target: Path) -> Path:
    target.mkdir()
    for name, data in contents(folder).items():
        (target / name).write_bytes(data)
    return target


def test_what_was_simulated_is_what_is_read(folder: Path) -> None:
    found = load_shards([folder])
    assert [each.case for each in found] == CASES
    again = explore(CASES[3], load_profile(CASES[3].profile))
    assert str(found[3].rows) == str(tuple(again))  # as text: NaN is not equal to itself


def test_nothing_is_done_twice(folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in folder.iterdir() if path.suffix == ".parquet"}
    assert generate(CASES, folder).num_new == 0
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_damaged_and_missing_shards_are_made_again_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    shard_path(other, 0).write_bytes(shard_path(other, 0).read_bytes()[:-40])
    shard_path(other, 1).unlink()
    assert generate(CASES, other).num_new == 2
    assert contents(other) == contents(folder)


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
def test_after_kill_9_it_goes_on_with_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from loratwin.learn.cases import shards; shards.SHARD_CASES = 2\n"
        "from tests.learn.test_generate import CASES; from loratwin.learn.cases.generate import generate\n"
        "generate(CASES, Path(sys.argv[1]))"
    )
    target = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(target)])
    until(lambda: shard_path(target, 0).exists() or process.poll() is not None)
    process.send_signal(signal.SIGKILL)
    process.wait(LIMIT_S)
    for stray in target.glob(".*.tmp"):
        stray.unlink()  # what a killed process leaves is never taken for a shard
    kept = len(list(target.glob("*.parquet")))
    assert kept >= 1
    assert generate(CASES, target).num_new == 3 - kept
    assert contents(target) == contents(folder)


@slow
def test_any_number_of_processes_writes_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(workers, "SPAWN_S", 0.0)
    monkeypatch.setattr(shards, "SHARD_CASES", 8)  # of the other process, which knows nothing of our patch
    one, two = tmp_path / "one", tmp_path / "two"
    cases = [minute_case(number) for number in range(17)]
    generate(cases, one, processes=1)
    generate(cases, two, processes=2)
    assert len(contents(one)) == 1 + -(-len(cases) // 8)
    assert contents(one) == contents(two)


def test_a_design_may_grow_and_its_shards_are_kept(folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "grown"
    generate(CASES[:4], other)
    assert generate(CASES, other).num_new == 1
    assert contents(other) == contents(folder)


def test_another_design_does_not_mix(folder: Path) -> None:
    with pytest.raises(InputError, match="holds another design, search, seed or profile; use another folder$"):
        generate([minute_case(7)], folder)
    with pytest.raises(InputError, match="holds another design"):
        generate(CASES, folder, seed=1)


def test_a_damaged_shard_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    shard_path(other, 1).write_bytes(b"PAR1 and then nothing")
    with pytest.raises(DataError, match=r"part-00001.parquet: a damaged shard \(.*\); delete it and run") as caught:
        load_shards([other])
    assert "\n" not in str(caught.value)


def test_a_shard_of_another_design_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    shard_path(other, 1).write_bytes(shard_path(other, 0).read_bytes())
    with pytest.raises(DataError, match="part-00001.parquet: a shard of another design or version; delete it"):
        load_shards([other])


def test_an_unfinished_generation_is_read_only_when_asked(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    shard_path(other, 1).unlink()
    with pytest.raises(DataError, match="part-00001.parquet is missing: `loratwin learn generate` was not finished$"):
        load_shards([other])
    assert [each.case for each in load_shards([other], partly=True)] == [CASES[0], CASES[1], CASES[4]]


def test_a_newer_or_damaged_design_is_one_clear_line(folder: Path, tmp_path: Path) -> None:
    document = json.loads((folder / "design.json").read_text())
    (tmp_path / "design.json").write_text(json.dumps({**document, "format": 2}))
    with pytest.raises(DataError, match="design.json: format 2; this version understands format 1$"):
        read_manifest(tmp_path)
    (tmp_path / "design.json").write_text("{")
    with pytest.raises(DataError, match="design.json: not a design of loratwin, or damaged"):
        read_manifest(tmp_path)
    with pytest.raises(InputError, match="cannot read .*nothing.design.json"):
        read_manifest(tmp_path / "nothing")


def test_the_manifest_says_what_a_folder_holds(tmp_path: Path) -> None:
    manifest = Manifest("edge", 3, {CASES[0].profile: "abc"}, tuple(CASES))
    write_manifest(tmp_path, manifest)
    assert read_manifest(tmp_path) == manifest
    assert manifest.num_shards == 3 and manifest.shard_cases(2) == (CASES[4],)


def test_no_cases_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="the design has no cases; at least one is needed"):
        generate([], tmp_path)


def test_progress_counts_what_was_there(folder: Path, tmp_path: Path) -> None:
    other = copy(folder, tmp_path / "other")
    shard_path(other, 2).unlink()
    told: list[tuple[int, int]] = []
    generate(CASES, other, progress=lambda done, of: told.append((done, of)))
    assert told == [(2, 3), (3, 3)]


def test_explored_is_a_case_and_its_rows(folder: Path) -> None:
    assert all(isinstance(each, Explored) and len(each.rows) > 5 for each in load_shards([folder]))


def test_a_folder_of_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(InputError, match=r"holds adapter_config\.json and no design; give a new or an empty folder"):
        generate(CASES, tmp_path)
    assert contents(tmp_path) == {"adapter_config.json": b"{}"}
