"""Files to rows: CSV with any delimiter, JSON lines, JSON and parquet, compressed or not, in pieces of some thousand.

Pieces keep cells as they are in the file; only where numpy's own reader understands a piece of CSV, which is ten times
as fast, are they numbers already (`cells` takes both).
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from itertools import chain, dropwhile, islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from loratwin.errors import InputError
from loratwin.extras import required
from loratwin.traces.formats import recognised
from loratwin.traces.nested import flat_records, paths
from loratwin.traces.server_log import is_server_log, log_records

_PIECE_ROWS = 8192

_PARQUET = b"PAR1"


UNREADABLE = (OSError, UnicodeError, EOFError, csv.Error, zlib.error, lzma.LZMAError, zipfile.BadZipFile)
"""What reading a file raises that is damaged, or none of the kinds."""


class Piece(NamedTuple):
    """Some rows of a file."""

    lines: Sequence[int]
    """Line (or record) of each row, counted from 1."""
    cells: Mapping[str, Any]
    """Cells of each wanted column, shape (num_rows,): a list of what is in the file, or an array of numbers."""
    num_cells: Sequence[int] | None = None
    """Cells of each row of CSV, where some have fewer than the header."""
    width: int = 0
    """Cells of the header."""


class OpenedFile(NamedTuple):
    """A file that was opened: its columns, and how to read its rows."""

    header: tuple[str, ...]
    kind: str
    """CSV, JSON or parquet; what `lines` count."""
    head: Sequence[Mapping[str, Any]]
    """The first rows, at least one."""
    pieces: Callable[[Sequence[str], Sequence[str]], Iterable[Piece]]
    """Rows with the cells of these columns, of which some are text whatever it looks like (adapters 7 and 007 are two);
    can be asked for once."""
    notes: tuple[str, ...] = ()


def open_table(path: Path) -> AbstractContextManager[Any]:
    """The file, decompressed: a context manager of a text stream; of a parquet file, of its path."""
    with open(path, "rb") as file:
        start = file.read(8)
    if start.startswith(_PARQUET):
        return nullcontext(path)
    opener = next((each for magic, each in _OPENERS.items() if start.startswith(magic)), open)
    return _text(path, opener)


@contextmanager
def _text(path: Path, opener: Any) -> Iterator[IO[str]]:
    with opener(path, "rb") as raw:
        start = raw.read(2)
    encoding = "utf-16" if start in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    with opener(path, "rb") as raw, io.TextIOWrapper(raw, encoding=encoding) as stream:
        yield stream


def _zstd(path: Path, mode: str) -> Any:
    pyarrow = required("pyarrow", "a file compressed by zstd", "parquet")
    return pyarrow.CompressedInputStream(pyarrow.OSFile(str(path)), "zstd")


@contextmanager
def _zip(path: Path, mode: str) -> Iterator[Any]:
    with zipfile.ZipFile(path) as archive:
        names = [each.filename for each in archive.infolist() if not each.is_dir()]
        if len(names) != 1:
            shown = f"{', '.join(names[:4])}{', ...' if len(names) > 4 else ''}" if names else "none"
            raise InputError(f"{path}: is a zip archive of {len(names)} files ({shown}); unpack the one that is meant")
        try:
            inside = archive.open(names[0])
        except (RuntimeError, NotImplementedError) as error:  # a password, or a method that Python does not know
            raise InputError(f"{path}: cannot be unpacked ({error})") from None
        with inside:
            yield inside


_OPENERS: dict[bytes, Any] = {
    b"\x1f\x8b": gzip.open,
    b"BZh": bz2.open,
    b"\xfd7zXZ\x00": lzma.open,
    b"\x28\xb5\x2f\xfd": _zstd,
    b"PK\x03\x04": _zip,
}
"""By what compressed files begin with."""


def read_table(opened: Any, path: Path) -> OpenedFile:
    """What kind of table it is, and its rows.

    Raises
    ------
    InputError
        It has no rows, or is none of the kinds.
    """
    if isinstance(opened, Path):
        return _parquet(opened)
    begin = list(islice(dropwhile(lambda line: not line.strip(), opened), _HEAD))
    if not begin:
        raise InputError(f"{path}: has no requests")
    first, lines = begin[0], chain(begin[1:], opened)
    at = _first_json(begin)
    if at is not None:
        return _json(path, begin[at], chain(begin[at + 1 :], opened), at + 1)
    if any(map(is_server_log, begin)):
        return _server_log(path, first, lines)
    if any(map(_ACCESS.search, begin)):
        raise InputError(
            f"{path}: is an access log of HTTP, which tells no tokens; a gateway's log does, or a server's own with "
            "--enable-log-requests"
        )
    if _SEPARATOR.fullmatch(first.strip()) and len(begin) > 1:
        return _csv(path, begin[1], chain(begin[2:], opened), 2)
    return _csv(path, first, lines, 1)


_SEPARATOR = re.compile("sep=.?", re.IGNORECASE)
"""The first line of some files of spreadsheets."""


def _first_json(begin: Sequence[str]) -> int | None:
    """Where JSON begins: at once, or behind what a program says before its log of JSON lines; None: nowhere."""
    if begin[0].lstrip()[:1] in ("{", "["):
        return 0
    found = [i for i, line in enumerate(begin) if line.lstrip()[:1] == "{"]
    return found[0] if 2 * len(found) > len(begin) else None


_ACCESS = re.compile(r'"(?:GET|POST|HEAD|OPTIONS) /\S* HTTP/[\d.]+"\s+\d{3}\b')


# CSV


def _csv(path: Path, header_line: str, file: Iterator[str], number: int) -> OpenedFile:
    """A table whose header is the line of this number."""
    delimiter = max(",;\t|", key=header_line.count)
    header = tuple(name.strip() for name in next(csv.reader([header_line], delimiter=delimiter)))
    begin = list(islice(dropwhile(lambda line: not line.strip(), file), _HEAD))
    head = [dict(zip(header, row, strict=False)) for row in csv.reader(begin, delimiter=delimiter) if any(row)]
    if not head:
        raise InputError(f"{path}: has no requests")
    lines = _Lines(chain(begin, file), number + 1)
    cells = {name: next((row[name] for row in head if row.get(name, "").strip()), "") for name in header}
    return OpenedFile(
        header,
        "CSV",
        head,
        lambda wanted, texts: _csv_pieces(lines, header, wanted, delimiter, {**cells, **dict.fromkeys(texts, "")}),
    )


_HEAD = 64
"""Rows that tell what a column holds: the first one's cell may be empty."""


class _Lines:
    """Lines of a file, counted."""

    def __init__(self, lines: Iterator[str], number: int) -> None:
        self._lines, self.number = lines, number

    def piece(self) -> list[str]:
        """Some lines more, without empty ones where they are the last."""
        return list(islice(self._lines, _PIECE_ROWS))

    def rest(self) -> Iterator[str]:
        return self._lines


def _csv_pieces(
    lines: _Lines, header: tuple[str, ...], wanted: Sequence[str], delimiter: str, first: Mapping[str, str]
) -> Iterator[Piece]:
    """By numpy's reader as long as it understands the lines, by Python's where it does not."""
    columns = [header.index(name) for name in wanted]
    dtypes = [_dtype(first.get(name, "")) for name in wanted]
    number = lines.number
    while piece := lines.piece():
        if '"' in "".join(piece):  # a cell may go over several lines
            yield from _csv_carefully(chain(piece, lines.rest()), number, len(header), wanted, columns, delimiter)
            return
        fast = _by_numpy(piece, wanted, columns, dtypes, delimiter)
        if fast is None:
            yield from _csv_carefully(iter(piece), number, len(header), wanted, columns, delimiter)
        else:
            yield Piece(range(number, number + len(piece)), fast)
        number += len(piece)


def _dtype(cell: str) -> str:
    """What numpy is to take a column for, by its first cell with something in it."""
    try:
        int(cell)
        return "i8"
    except ValueError:
        pass
    try:
        float(cell)
        return "f8"
    except ValueError:
        return "M8[ns]" if len(cell) >= 19 and cell[4:5] == "-" and not cell.rstrip()[19:20].isalpha() else "O"


def _by_numpy(
    piece: list[str], wanted: Sequence[str], columns: list[int], dtypes: list[str], delimiter: str
) -> dict[str, Any] | None:
    """Cells as arrays; None where a line is not as the first one was."""
    dtype = np.dtype([(f"c{i}", kind) for i, kind in enumerate(dtypes)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # whatever numpy has doubts about is read with care
        try:
            rows = np.loadtxt(piece, dtype, comments=None, delimiter=delimiter, usecols=columns, ndmin=1)
        except (ValueError, Warning, OverflowError, UnicodeError):
            return None
    if len(rows) != len(piece):  # empty lines: where which row stands is counted below
        return None
    return {name: rows[f"c{i}"] for i, name in enumerate(wanted)}


def _csv_carefully(
    lines: Iterator[str], number: int, width: int, wanted: Sequence[str], columns: list[int], delimiter: str
) -> Iterator[Piece]:
    reader = csv.reader(lines, delimiter=delimiter)
    counted = ((number + reader.line_num - 1, row) for row in reader if any(cell.strip() for cell in row))
    while piece := list(islice(counted, _PIECE_ROWS)):
        short = any(len(row) < width for _, row in piece)
        rows = [row + [""] * (width - len(row)) for _, row in piece] if short else [row for _, row in piece]
        cells = {name: [row[column].strip() for row in rows] for name, column in zip(wanted, columns, strict=True)}
        yield Piece([line for line, _ in piece], cells, [len(row) for _, row in piece] if short else None, width)


# JSON


def _json(path: Path, first: str, file: Iterator[str], number: int) -> OpenedFile:
    """Records of JSON, of which the first begins in a line of this number."""
    try:
        opening = json.loads(first)
    except ValueError:
        opening = None
    values: Iterator[tuple[int, Any]]
    if isinstance(opening, dict):
        values = chain([(number, opening)], _json_lines(path, file, number + 1))
    else:
        values = iter(enumerate(_json_values(path, first + "".join(file)), start=1))
    counted, notes = flat_records(values)
    head = list(islice(counted, _HEAD))  # a form's optional keys need not be in the first
    if not head:
        raise InputError(f"{path}: has no requests: it holds no records with named fields")
    header = _names(head)
    while recognised(header) is None and len(head) < _FAR and (more := list(islice(counted, _HEAD))):
        head += more  # a log may begin with what is no request
        header = tuple(dict.fromkeys((*header, *_names(more))))
    return OpenedFile(
        header,
        "JSON",
        [record for _, record in head],
        lambda wanted, _: _json_pieces(chain(head, counted), wanted),
        notes,
    )


def _server_log(path: Path, first: str, file: Iterator[str]) -> OpenedFile:
    records, notes = log_records(enumerate(chain([first], file), start=1))
    if not records:
        raise InputError(f"{path}: a server's log without requests; it logs them with --enable-log-requests")
    header = tuple(dict.fromkeys(name for _, record in records for name in record))
    return OpenedFile(
        header,
        "log",
        [record for _, record in records[:_HEAD]],
        lambda wanted, _: _json_pieces(iter(records), wanted),
        notes,
    )


_FAR = 4096
"""Records in which one is looked for that tells the form."""


def _names(records: Sequence[tuple[int, Any]]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name for _, record in records for name in paths(record)))


def _json_lines(path: Path, file: Iterator[str], first: int) -> Iterator[tuple[int, Any]]:
    """Values of the lines; what is no JSON at all, as a program says it beside its log, is a record of nothing."""
    for number, line in enumerate(file, start=first):
        if line.strip() and line.lstrip()[0] not in "{[":
            yield number, {}
        elif line.strip():
            try:
                yield number, json.loads(line)
            except ValueError as error:
                raise InputError(f"{path}: line {number} is not JSON ({error})") from None


def _json_values(path: Path, text: str) -> Iterator[Any]:
    """All JSON values of a text; those in a list one by one."""
    decoder, at = json.JSONDecoder(), 0
    while at < len(text):
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as error:
            raise InputError(f"{path}: not valid JSON ({error})") from None
        yield from value if isinstance(value, list) else [value]
        while at < len(text) and text[at].isspace():
            at += 1


def _json_pieces(records: Iterator[tuple[int, Any]], wanted: Sequence[str]) -> Iterator[Piece]:
    while piece := list(islice(records, _PIECE_ROWS)):
        cells = {name: [value_at(record, name) for _, record in piece] for name in wanted}
        yield Piece([line for line, _ in piece], cells)


def value_at(record: Any, path: str) -> Any:
    """What a dotted path leads to; None where it leads nowhere. A key that has dots itself goes before."""
    if not isinstance(record, dict):
        return None
    if path in record:
        return record[path]
    dots = (at for at, character in enumerate(path) if character == "." and path[:at] in record)
    return next((value_at(record[path[:at]], path[at + 1 :]) for at in dots), None)


# Parquet


def _parquet(path: Path) -> OpenedFile:
    pq = required("pyarrow.parquet", "a parquet file", "parquet")
    try:
        file = pq.ParquetFile(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read as parquet ({error})") from None
    top = tuple(file.schema_arrow.names)
    head = next((batch.to_pylist() for batch in file.iter_batches(_HEAD) if batch.num_rows), None)
    if head is None:
        raise InputError(f"{path}: has no requests")
    header = tuple(dict.fromkeys((*top, *(name for row in head for name in paths(row)))))
    return OpenedFile(header, "parquet", head, lambda wanted, _: _parquet_pieces(file, top, wanted))


def _parquet_pieces(file: Any, top: Sequence[str], wanted: Sequence[str]) -> Iterator[Piece]:
    """Columns as they are; of a path into a structure what it leads to."""
    number = 1
    held = {name: name if name in top else next(at for at in top if name.startswith(f"{at}.")) for name in wanted}
    for batch in file.iter_batches(_PIECE_ROWS, columns=list(dict.fromkeys(held.values()))):
        cells = {
            name: _arrow(batch.column(at))
            if name == at
            else [value_at({at: value}, name) for value in batch.column(at).to_pylist()]
            for name, at in held.items()
        }
        yield Piece(range(number, number + batch.num_rows), cells)
        number += batch.num_rows


def _arrow(column: Any) -> Any:
    """Numbers and times as arrays, the rest as a list."""
    if column.null_count == 0:
        array = column.to_numpy(zero_copy_only=False)
        if array.dtype.kind in "iuf":
            return array
        if array.dtype.kind == "M":
            return array.astype("M8[ns]")
    return column.to_pylist()
