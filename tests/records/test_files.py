"""Files of runs: nothing lost, the same bytes, nothing half-written, damage refused in one line."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from loratwin.errors import DataError, InputError
from loratwin.records import (
    AdapterTable,
    EngineConfig,
    Gauges,
    Provenance,
    ReferenceLoad,
    RequestTable,
    Run,
    Sharing,
    StepSeries,
    load_run,
    save_run,
    write_atomically,
)
from loratwin.records.columns import ColumnTable
from tests.slow import SLOW

SUFFIXES = [".json", ".parquet"]


def example_run(num_requests: int = 3, num_steps: int | None = 4, seed: int = 0) -> Run:
    random = np.random.default_rng(seed)
    times = random.uniform(0, 50, (4, num_requests)).cumsum(axis=0)
    times.sort(axis=1)
    times[1:, random.random(num_requests) < 0.3] = np.nan
    counts = random.integers(1, 500, (4, num_requests)).astype(np.int32)
    return Run(
        kind="simulated",
        window_s=60.0,
        requests=RequestTable(
            arrival_s=times[0],
            admitted_s=times[1],
            first_token_s=times[2],
            finish_s=times[3],
            adapter=random.integers(-1, 2, num_requests).astype(np.int32),
            prompt_tokens=counts[0],
            output_tokens=counts[1],
            num_preemptions=counts[2],
            refused=random.random(num_requests) < 0.1,
            sent_s=times[0] - 0.125,
        ),
        adapters=AdapterTable(
            name=("a0", 'ünï"<b>\n'), rank=np.array([8, 16], dtype=np.int32), rate_per_s=np.array([0.1, np.nan])
        ),
        config=EngineConfig(max_loras=1, max_cpu_loras=2),
        kv_tokens=4096,
        provenance=Provenance(created_by="test", profile="p", profile_hash="0f", seed=seed, notes=("n1", "n2")),
        steps=None if num_steps is None else example_steps(num_steps, random),
        gauges=Gauges(running_mean=1.5, swap_ins=3),
        client_overhead_s=0.004,
    )


def example_sharing(**changed: list[int]) -> Sharing:
    """Three requests: the second goes on where the first was answered, both behind a common beginning."""
    plain = {"text": [1, 1, -1], "follows": [-1, 0, -1], "parent": [-1, 0], "end_tokens": [40, 60], **changed}
    columns = {name: np.array(values, np.int32) for name, values in plain.items()}
    return Sharing(**columns, think_s=np.array([0.0, 2.5, 0.0]), own=np.array([False, True]))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_requests_share_comes_back(tmp_path: Path, suffix: str) -> None:
    path = save_run(replace(example_run(), sharing=example_sharing()), tmp_path / f"run{suffix}")
    again = load_run(path).sharing
    assert again is not None
    for one, other in zip(again.arrays(), example_sharing().arrays(), strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype and not one.flags.writeable
    assert load_run(save_run(example_run(), tmp_path / f"none{suffix}")).sharing is None


def test_sharing_is_not_written_where_there_is_none(tmp_path: Path) -> None:
    """So that files of before, which lack it, are the same files."""
    assert "sharing" not in json.loads(save_run(example_run(), tmp_path / "run.json").read_text())


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": [1, 2, -1]}, "text names what is not there"),
        ({"follows": [-1, 3, -1]}, "follows names what is not there"),
        ({"parent": [-1, 1]}, "parent names what is not there"),
        ({"end_tokens": [0, 60]}, "end_tokens below 1"),
        ({"end_tokens": [60]}, "columns differ in length"),
    ],
)
def test_damaged_sharing_is_refused(tmp_path: Path, changed: dict[str, list[int]], message: str) -> None:
    path = save_run(replace(example_run(), sharing=example_sharing(**changed)), tmp_path / "run.json")
    with pytest.raises(DataError, match=f"run.json: not a run of loratwin, or damaged: sharing: .*{message}"):
        load_run(path)


def test_sharing_has_a_row_for_each_request() -> None:
    with pytest.raises(InputError, match="sharing of 3 requests, and there are 2"):
        replace(example_run(2), sharing=example_sharing())


def example_steps(num_steps: int, random: np.random.Generator) -> StepSeries:
    duration = random.uniform(0.01, 0.03, num_steps)
    counts = random.integers(0, 100, (8, num_steps)).astype(np.int32)
    return StepSeries(np.cumsum(duration) - duration, duration, *counts)


def assert_same_table(one: ColumnTable | None, other: ColumnTable | None) -> None:
    if one is None or other is None:
        assert one is other
        return
    assert list(one.columns()) == list(other.columns())
    for name, values in one.columns().items():
        np.testing.assert_array_equal(values, other.columns()[name], err_msg=name)
        assert values.dtype == other.columns()[name].dtype


def assert_same_run(one: Run, other: Run) -> None:
    for table in ("requests", "adapters", "steps"):
        assert_same_table(getattr(one, table), getattr(other, table))
    for name in ("kind", "window_s", "config", "kv_tokens", "provenance", "client_overhead_s"):
        assert getattr(one, name) == getattr(other, name), name
    assert one.adapters.name == other.adapters.name
    assert repr(one.gauges) == repr(other.gauges)  # NaN differs from itself


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(("num_requests", "num_steps"), [(3, 4), (200, None), (0, 0)])
def test_a_run_comes_back_complete(tmp_path: Path, suffix: str, num_requests: int, num_steps: int | None) -> None:
    run = example_run(num_requests, num_steps)
    assert_same_run(run, load_run(save_run(run, tmp_path / f"run{suffix}")))


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_reference_load_comes_back_and_none_is_no_part_of_the_file(tmp_path: Path, suffix: str) -> None:
    run = replace(example_run(), reference=ReferenceLoad(0.004))
    again = load_run(save_run(run, tmp_path / f"run{suffix}")).reference
    assert again is not None and again.before_s == 0.004 and np.isnan(again.after_s)
    assert b"reference" not in save_run(example_run(), tmp_path / f"none{suffix}").read_bytes()


@given(values=st.lists(st.floats(0, allow_infinity=False), min_size=1, max_size=5))
def test_floats_keep_every_digit(tmp_path_factory: pytest.TempPathFactory, values: list[float]) -> None:
    run = example_run(len(values))
    changed = RequestTable(**{**run.requests.columns(), "scheduled_s": np.array(values)})
    again = Run(**{**vars(run), "requests": changed})
    for suffix in SUFFIXES:
        path = save_run(again, tmp_path_factory.getbasetemp() / f"digits{suffix}")
        np.testing.assert_array_equal(load_run(path).requests.scheduled_s, values)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_the_same_run_gives_the_same_bytes(tmp_path: Path, suffix: str) -> None:
    first, second = (save_run(example_run(seed=7), tmp_path / f"{name}{suffix}").read_bytes() for name in "ab")
    assert first == second
    assert first != save_run(example_run(seed=8), tmp_path / f"c{suffix}").read_bytes()


def test_json_is_strict_and_writes_nan_as_null(tmp_path: Path) -> None:
    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    text = save_run(example_run(), tmp_path / "run.json").read_text()
    document = json.loads(text, parse_constant=refuse)
    assert document["adapters"]["rate_per_s"] == [0.1, None]
    assert document["gauges"]["waiting_max"] is None


def test_parquet_holds_one_row_for_each_request(tmp_path: Path) -> None:
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(save_run(example_run(5), tmp_path / "run.parquet"))
    assert table.num_rows == 5
    assert table.column_names[:2] == ["arrival_s", "admitted_s"]


def test_parquet_carries_a_step_series_of_an_hour(tmp_path: Path) -> None:
    run = example_run(10, 300_000 if SLOW else 30_000)
    assert_same_run(run, load_run(save_run(run, tmp_path / "long.parquet")))


def edited(path: Path, **changes: Any) -> Path:
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, **changes}))
    return path


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"loratwin_run": 2}, "written by a newer loratwin (format 2, this one reads up to 1)"),
        ({"loratwin_run": None}, "lacks 'loratwin_run'"),
        ({"kind": "dreamt"}, "Run.kind: 'dreamt'"),
        ({"config": {"max_loras": 0, "hue": 1}}, "hue = 1: unknown key"),
        ({"requests": {}}, "missing 9 required"),
        ({"adapters": {"name": []}}, "required positional arguments"),
        ({"window_s": "long"}, "not a run of loratwin, or damaged"),
        ({"gauges": {"mood": 1}}, "mood"),
    ],
)
def test_damage_is_told_in_one_line(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    path = edited(save_run(example_run(), tmp_path / "run.json"), **changes)
    with pytest.raises(DataError) as caught:
        load_run(path)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


NOT_YET = np.nan


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("prompt_tokens", [1, -2, -3], "request 1 (counted from 0): prompt_tokens = -2, but it must be 0 or more"),
        ("output_tokens", [-1, 2, 3], "request 0 (counted from 0): output_tokens = -1"),
        ("num_preemptions", [0, 0, -1], "request 2 (counted from 0): num_preemptions = -1"),
        ("asked_tokens", [0, -1, 1], "request 1 (counted from 0): asked_tokens = -1"),
        ("received_tokens", [0, -1, 1], "request 1 (counted from 0): received_tokens = -1"),
        ("admitted_s", [NOT_YET, 1.9, 3.5], "request 1 (counted from 0): admitted_s = 1.900000 is before arrival_s = "),
        ("first_token_s", [1.0, 2.0, 2.5], "request 2 (counted from 0): first_token_s = 2.500000 is before arrival_s"),
        ("finish_s", [0.5, NOT_YET, 1.0], "request 0 (counted from 0): finish_s = 0.500000 is before arrival_s"),
        ("sent_s", [NOT_YET, 1e3, 3.0], "request 1 (counted from 0): first_token_s = 7.000000 is before sent_s = 1000"),
    ],
)
def test_a_request_that_cannot_be_is_named(
    column: str, values: list[float], message: str, suffix: str, tmp_path: Path
) -> None:
    times = {name: np.array([1.0, 2.0, 3.0]) + 5 * (name == "first_token_s") for name in ("arrival_s", "first_token_s")}
    none = {name: np.full(3, NOT_YET) for name in ("admitted_s", "finish_s", "sent_s")}
    run = example_run()
    columns = {**run.requests.columns(), **times, **none}
    kind = np.float64 if column.endswith("_s") else np.int32
    path = tmp_path / f"run{suffix}"
    load_run(save_run(replace(run, requests=RequestTable(**columns)), path))
    changed = RequestTable(**{**columns, column: np.array(values, dtype=kind)})
    save_run(replace(run, requests=changed), path)
    with pytest.raises(DataError) as caught:
        load_run(path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("key", ["config", "provenance", "steps", "requests"])
def test_a_missing_part_is_named(tmp_path: Path, key: str) -> None:
    path = save_run(example_run(), tmp_path / "run.json")
    document = json.loads(path.read_text())
    del document[key]
    path.write_text(json.dumps(document))
    with pytest.raises(DataError, match=f"no '{key}'"):
        load_run(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("keep", [0, 10, 0.5, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, suffix: str, keep: float) -> None:
    path = save_run(example_run(), tmp_path / f"run{suffix}")
    whole = path.read_bytes()
    path.write_bytes(whole[: int(keep * len(whole)) if keep < 1 else int(keep)])
    with pytest.raises(DataError, match="damaged"):
        load_run(path)


def test_a_parquet_file_of_something_else_is_refused(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    path = tmp_path / "other.parquet"
    pyarrow.parquet.write_table(pyarrow.table({"x": [1, 2]}), path)
    with pytest.raises(DataError, match="not a run of loratwin"):
        load_run(path)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_folder_that_is_not_there_is_told(tmp_path: Path, suffix: str) -> None:
    with pytest.raises(InputError, match="cannot write .*No such file or directory"):
        save_run(example_run(), tmp_path / "absent" / f"run{suffix}")
    with pytest.raises(InputError, match="cannot read .*No such file or directory"):
        load_run(tmp_path / f"absent{suffix}")


def test_a_file_in_place_of_the_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="Not a directory"):
        save_run(example_run(), tmp_path / "file" / "run.json")


def test_other_suffixes_are_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="a run is a .json or a .parquet file"):
        save_run(example_run(), tmp_path / "run.csv")
    assert not list(tmp_path.iterdir())


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write_atomically(tmp_path / "out.txt", "old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_atomically(path, "new")
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write_atomically(path, "new")
    assert [item.name for item in tmp_path.iterdir()] == ["out.txt"]
    assert path.read_text() == "old"


def test_parquet_without_pyarrow_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = save_run(example_run(), tmp_path / "run.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    for attempt in (lambda: save_run(example_run(), path), lambda: load_run(path)):
        with pytest.raises(InputError, match=r"pip install 'loratwin\[parquet\]'"):
            attempt()
