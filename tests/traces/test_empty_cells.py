"""Cells that are empty, and lists in the text of CSV."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.traces import read_clients, read_trace, reading

MAPPED = ("time=at", "prompt=in", "output=out")


@pytest.mark.parametrize(
    ("cells", "second_s"),
    [(("", "1700000000000", "1700000002500"), 2.5), (("", "2026-11-27T10:00:00Z", "2026-11-27T10:00:04Z"), 4.0)],
)
def test_the_unit_is_told_by_the_first_cell_with_something_in_it(
    tmp_path: Path, cells: tuple[str, ...], second_s: float
) -> None:
    (tmp_path / "a.csv").write_text("at,in,out\n" + "".join(f"{cell},10,5\n" for cell in cells))
    times = [int(cell) if cell.isdigit() else cell or None for cell in cells]
    rows = [json.dumps({"at": time, "in": 10, "out": 5}) for time in times]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    for name in ("a.csv", "a.jsonl"):
        trace = read_trace(tmp_path / name, reading(None, MAPPED, None, "skip"))
        assert (trace.arrival_s - trace.arrival_s[0]).tolist() == [0.0, second_s], name


def test_lists_of_blocks_in_csv(tmp_path: Path) -> None:
    mapped = reading(None, (*MAPPED, "blocks=ids"), "s", None)
    (tmp_path / "a.csv").write_text('at,in,out,ids\n0,10,5,"[1, 2]"\n1,10,5,\n2,10,5,"[1, 3]"\n')
    shared = read_trace(tmp_path / "a.csv", mapped).blocks
    assert (shared.offset.tolist(), shared.block.tolist()) == ([0, 2, 2, 4], [1, 2, 1, 3])
    for wrong in ("1 2", '{""a"": 1}', "[1.5, x]"):
        (tmp_path / "a.csv").write_text(f'at,in,out,ids\n0,10,5,"{wrong}"\n')
        with pytest.raises(InputError, match="ids: must be lists of whole numbers"):
            read_trace(tmp_path / "a.csv", mapped)


def test_a_window_without_a_rate_is_none(tmp_path: Path) -> None:
    (tmp_path / "chunk-0-trace.csv").write_text("0,1.5,1.0\n600,,1.0\n1200,2.5,1.0\n")
    assert read_clients(tmp_path).rate_per_s.tolist() == [1.5, 2.5]
