"""Reading the log back: what a killed server leaves, several engines, several workers, files that are none."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest

from loratwin.errors import DataError, InputError
from loratwin.probe import read_facts, read_loads, read_notes, read_steps, server_arguments

STEP_COLUMNS = [("step", "q"), ("start_s", "d"), ("end_s", "d"), ("schedule_start_s", "d"), ("schedule_s", "d")]
STEP_COLUMNS += [("decode_requests", "i"), ("prefill_tokens", "i"), ("decode_context", "q"), ("prefill_context", "q")]
STEP_COLUMNS += [("running", "i"), ("waiting", "i"), ("skipped", "i"), ("distinct_adapters", "i"), ("kv_blocks", "i")]
STEP_COLUMNS += [("preemptions", "i"), ("output_tokens", "i")]
LOAD_COLUMNS = [("engine", "q"), ("step", "q"), ("start_s", "d"), ("duration_s", "d"), ("adapter", "q"), ("disk", "b")]


def write(folder: Path, kind: str, when: int, rows: list[tuple[float, ...]], **facts: object) -> Path:
    """A file as the server's side writes it."""
    columns = STEP_COLUMNS if kind == "steps" else LOAD_COLUMNS
    head = {"format": 1, "kind": kind, "pid": 1, "columns": columns, **facts}
    packed = struct.Struct("<" + "".join(code for _, code in columns))
    path = folder / f"{kind}-1-{when}.bin"
    path.write_bytes(json.dumps(head).encode() + b"\n" + b"".join(packed.pack(*row) for row in rows))
    return path


def step(number: int, start: float, end: float, skipped: int = 0) -> tuple[float, ...]:
    return (number, start, end, start, 0.0, 1, 0, 0, 0, 1, 0, skipped, 1, 1, 0, 1)


def test_a_torn_last_row_is_dropped(tmp_path: Path) -> None:
    path = write(tmp_path, "steps", 1, [step(0, 1, 2), step(1, 2, 3)], engine=1)
    path.write_bytes(path.read_bytes()[:-1])
    assert read_steps(tmp_path).start_s.tolist() == [1]


def test_a_torn_first_line_is_an_empty_file(tmp_path: Path) -> None:
    write(tmp_path, "steps", 1, [step(0, 1, 2)], engine=1)
    (tmp_path / "steps-1-2.bin").write_bytes(b'{"format": 1, "ki')
    assert len(read_steps(tmp_path)) == 1


def test_a_restarted_engine_goes_on(tmp_path: Path) -> None:
    write(tmp_path, "steps", 10, [step(0, 20, 21)], engine=2, max_loras=4)
    write(tmp_path, "steps", 9, [step(0, 1, 2), step(1, 2, 3)], engine=1, max_loras=2)
    write(tmp_path, "loads", 8, [(1, 0, 1.1, 0.5, 7, 0)], rank=0)
    write(tmp_path, "loads", 9, [(2, 0, 20.1, 0.25, 7, 0), (0, -1, 30.0, 0.5, 7, 0)], rank=0)
    steps = read_steps(tmp_path)
    assert steps.start_s.tolist() == [1, 2, 20]
    assert steps.load_s.tolist() == [0.5, 0, 0.25]
    assert read_loads(tmp_path).start_s.tolist() == [1.1, 20.1, 30.0]
    assert read_facts(tmp_path)["max_loras"] == 4


def test_engines_at_the_same_time_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "steps", 1, [step(0, 1, 2), step(1, 3, 4)], engine=1)
    write(tmp_path, "steps", 2, [step(0, 2, 3)], engine=2)
    with pytest.raises(DataError, match="several engines"):
        read_steps(tmp_path)


def test_workers_of_one_engine_load_side_by_side(tmp_path: Path) -> None:
    """Tensor parallel: each worker loads its part; the slowest one delays the step."""
    write(tmp_path, "steps", 1, [step(0, 1, 2), step(1, 3, 4)], engine=1)
    write(tmp_path, "loads", 1, [(1, 1, 3.1, 0.5, 7, 0)])
    write(tmp_path, "loads", 2, [(1, 1, 3.1, 0.25, 7, 0)], rank=1)
    steps = read_steps(tmp_path)
    assert steps.swap_ins.tolist() == [0, 1]
    assert steps.load_s.tolist() == [0, 0.5]
    assert len(read_loads(tmp_path)) == 1


def test_without_numbers_the_time_decides(tmp_path: Path) -> None:
    """-2: the version does not tell the step; -1: between steps, even if the clock falls into one."""
    write(tmp_path, "steps", 1, [step(0, 1, 2), step(1, 3, 4)], engine=1)
    loads = [(0, -2, 0.5, 0.1, 7, 0), (0, -2, 1.5, 0.1, 7, 0), (0, -2, 2.5, 0.1, 7, 0), (0, -2, 3.0, 0.1, 7, 1)]
    write(tmp_path, "loads", 1, [*loads, (0, -1, 3.5, 0.1, 7, 0)])
    steps = read_steps(tmp_path)
    assert steps.swap_ins.tolist() == [1, 0]
    assert steps.disk_loads.tolist() == [0, 1]


def test_steps_without_the_number_of_skipped_requests(tmp_path: Path) -> None:
    write(tmp_path, "steps", 1, [step(0, 1, 2, skipped=-1)], engine=1)
    assert read_steps(tmp_path).skipped is None


def test_an_engine_that_has_not_begun_has_no_steps(tmp_path: Path) -> None:
    write(tmp_path, "steps", 1, [], engine=1)
    assert len(read_steps(tmp_path)) == len(read_loads(tmp_path)) == 0


@pytest.mark.parametrize("text", [b"rows\n", b"[]\n", b'{"format": 1, "columns": [["step", "z"]]}\n'])
def test_other_files_are_refused(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "steps-1-1.bin").write_bytes(text)
    with pytest.raises(DataError, match="not a log of loratwin's probe"):
        read_steps(tmp_path)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, "steps", 1, [], engine=1)
    path.write_bytes(path.read_bytes().replace(b'"format": 1', b'"format": 2'))
    with pytest.raises(DataError, match="format 2"):
        read_steps(tmp_path)


def test_no_log_says_what_the_server_said(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no steps are logged: because\nno steps are logged: because\n")
    assert read_notes(tmp_path) == ("no steps are logged: because",)
    with pytest.raises(DataError, match="no steps were logged: no steps are logged: because"):
        read_steps(tmp_path)


def test_arguments_put_our_folder_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "theirs")
    arguments, environment = server_arguments(tmp_path / "a" / "log")
    ours, theirs = environment["PYTHONPATH"].split(":")
    assert theirs == "theirs" and sorted(path.name for path in Path(ours).iterdir()) == ["loratwin_vllm_probe"]
    assert environment["LORATWIN_PROBE_LOG"] == str(tmp_path / "a" / "log") and (tmp_path / "a" / "log").is_dir()
    assert arguments[0::2] == ["--scheduler-cls", "--worker-extension-cls"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot make the folder"):
        server_arguments(tmp_path / "file" / "log")
