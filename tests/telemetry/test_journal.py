"""Journals that were cut off, damaged, or are none."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from loratwin.errors import DataError
from loratwin.telemetry import read_journal
from loratwin.telemetry.journal import Journal
from loratwin.telemetry.table import Kind, SampleTable, SeriesKey

RUNNING = SeriesKey("running", (("engine", "0"),), Kind.GAUGE)
TOKENS = SeriesKey("tokens", (), Kind.COUNTER)
COUNT = SeriesKey("ttft_count", (), Kind.HISTOGRAM)


def write(path: Path) -> SampleTable:
    """Four samples, one of them failed; the same in a table."""
    journal, table = Journal(path, "server"), SampleTable("server")
    for time_s, values in (
        (10.0, {RUNNING: 1.0, TOKENS: 1e7}),
        (11.0, {RUNNING: 1.0, TOKENS: 1e7 + 1, COUNT: 3.0}),
        (12.0, {}),
        (13.0, {RUNNING: math.nan, COUNT: 5.0}),
    ):
        assert journal.append(time_s, values, "HTTP 500" if time_s == 12 else None) is None
        table.append(time_s, values)
    journal.close()
    return table


def test_all_comes_back(tmp_path: Path) -> None:
    expected = write(tmp_path / "journal").samples(10.0, 10.0, 12.5)
    found = read_journal(tmp_path / "journal", 10.0, 10.0, 12.5)
    assert found is not None and found.time_s.tolist() == expected.time_s.tolist() == [0, 1, 2]
    for one, other in zip(found.series, expected.series, strict=True):
        assert (one.name, one.labels) == (other.name, other.labels)
        np.testing.assert_array_equal(one.values, other.values)
    (count,) = read_journal(tmp_path / "journal").find("ttft_count")
    np.testing.assert_array_equal(count.values, [np.nan, np.nan, np.nan, 2])


def test_every_way_to_be_cut_off(tmp_path: Path) -> None:
    write(tmp_path / "journal")
    whole = (tmp_path / "journal").read_bytes()
    (tmp_path / "cut").write_bytes(b"")
    assert read_journal(tmp_path / "cut") is None
    for end in range(len(whole)):
        (tmp_path / "cut").write_bytes(whole[:end])
        found = read_journal(tmp_path / "cut")
        samples = max(0, whole[:end].count(b"\n") - 1)
        assert (0 if found is None else len(found.time_s)) == samples


@pytest.mark.parametrize("line", [0, 1, 2])
def test_damage_before_the_end_is_refused(tmp_path: Path, line: int) -> None:
    write(tmp_path / "journal")
    lines = (tmp_path / "journal").read_bytes().splitlines(keepends=True)
    lines[line] = b"\0" * 20 + b"\n"
    (tmp_path / "journal").write_bytes(b"".join(lines))
    with pytest.raises(DataError, match="not a journal of samples, or damaged"):
        read_journal(tmp_path / "journal")


def test_a_newer_format_and_no_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "journal").write_text('{"loratwin_samples":2,"source":"server"}\n')
    with pytest.raises(DataError, match="format 2"):
        read_journal(tmp_path / "journal")
    with pytest.raises(DataError, match="cannot read"):
        read_journal(tmp_path / "none")


def test_an_hour_of_300_series_stays_small() -> None:
    """8 bytes a value: what is kept does not depend on what was on the pages."""
    table = SampleTable("server")
    keys = [SeriesKey(f"series_{i}", (), Kind.COUNTER) for i in range(300)]
    for second in range(3600):
        table.append(float(second), {key: float(second) for key in keys})
    assert sum(column.buffer_info()[1] * column.itemsize for column in table._columns.values()) == 300 * 3600 * 8
    assert len(table.samples(0.0, 3000.0, 3599.0).series[0].values) == 600
