"""What is measured lies in files at any moment."""

import errno
import os

import numpy as np
import pytest

from loratwin.bench.shared.journal import RequestJournal, Shape
from loratwin.errors import DataError, InputError

SHAPE = Shape(num_rows=3, num_adapters=2, num_parts=4)


def test_another_process_reads_what_was_written(tmp_path):
    writer = RequestJournal.create(tmp_path, SHAPE)
    writer.fill("adapter", np.array([1, 0, 1], dtype=np.int32))
    writer.columns["sent_s"][1] = 7.5
    writer.counters[0] = 3
    reader = RequestJournal.open(tmp_path)
    assert list(reader.array("adapter")) == [1, 0, 1]
    np.testing.assert_array_equal(reader.array("sent_s"), [np.nan, 7.5, np.nan])
    assert list(reader.array("failure")) == [-1, -1, -1]
    assert reader.count("rows") == 3


def test_growing_keeps_the_rows_and_empties_the_new_ones(tmp_path):
    journal = RequestJournal.create(tmp_path, SHAPE)
    journal.columns["first_token_s"][2] = 1.0
    journal.grow()
    journal.counters[0] = 6
    first = journal.array("first_token_s")
    assert len(first) == 6 and first[2] == 1.0 and np.isnan(first[3:]).all()
    assert list(RequestJournal.open(tmp_path).array("failure")) == [-1] * 6


def test_a_full_disk_is_said_before_the_run(tmp_path, monkeypatch):
    def full(file, offset, length):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(InputError, match="No space left"):
        RequestJournal.create(tmp_path, SHAPE)


def test_blocks_are_taken_beforehand(tmp_path):
    """A hole would be filled in mid-run, and a full disk would then kill the client (SIGBUS)."""
    RequestJournal.create(tmp_path, Shape(10_000, 2, 4))
    assert os.stat(tmp_path / "sent_s.bin").st_blocks * 512 >= 80_000


@pytest.mark.parametrize("name", ["sent_s.bin", "shape.json"])
def test_a_damaged_journal_is_refused(tmp_path, name):
    RequestJournal.create(tmp_path, SHAPE)
    (tmp_path / name).write_bytes(b"1")
    with pytest.raises(DataError, match="journal"):
        RequestJournal.open(tmp_path)


def test_no_journal(tmp_path):
    with pytest.raises(DataError, match="journal"):
        RequestJournal.open(tmp_path)
