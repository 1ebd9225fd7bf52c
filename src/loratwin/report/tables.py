"""Tables of a page: what is shown, what a column is sorted by, and the same as CSV with every digit."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite, isnan
from pathlib import Path
from urllib.parse import quote

from loratwin import formatting
from loratwin.errors import InputError
from loratwin.records import check_writable, write_atomically

Value = str | float | int | bool | None

_FIGURE = re.compile(r"(?P<number>[-+]?[0-9][0-9,.]*)( %)?")
"""A figure that was written as text already."""

FOUND_IN = 7
"""Rows from which a box to search them is shown."""


@dataclass(frozen=True)
class Column:
    """One column: its name in the CSV, with its unit, and its heading on the page."""

    key: str
    title: str
    below: str = ""  # in small print
    is_word: bool = False


@dataclass(frozen=True)
class Cell:
    """What a page shows, and what it stands for; `look` is a CSS class, `bar` the length of one behind the text."""

    text: str
    value: Value
    look: str = ""
    bar: float | None = None  # 0 to 100

    @property
    def sorted_by(self) -> str:
        """What the column is sorted by: nothing (which comes last) where it is unknown."""
        if isinstance(self.value, float) and not isfinite(self.value):
            return "" if isnan(self.value) else f"{self.value:e}".replace("inf", "Infinity")
        if isinstance(self.value, str) and (found := _FIGURE.fullmatch(self.value)):
            return found["number"].replace(",", "").lstrip("+")
        return plain(self.value)


@dataclass(frozen=True)
class Row:
    """Cells in the order of the columns; `look` is a CSS class."""

    cells: Sequence[Cell]
    look: str = ""


@dataclass(frozen=True)
class Table:
    """A table of a page.

    Parameters
    ----------
    name
        Of its CSV file, without suffix; unique in the page.
    title
        What it shows, for those who do not see it.
    find
        What the box above it searches for; shown from `FOUND_IN` rows on.
    in_order
        Whether the order of the rows means something, so that columns are not sorted.
    """

    name: str
    title: str
    columns: Sequence[Column]
    rows: Sequence[Row]
    find: str = "row"
    in_order: bool = False

    @property
    def is_searched(self) -> bool:
        """Whether it has a box to search it."""
        return len(self.rows) >= FOUND_IN and not self.in_order

    @property
    def is_long(self) -> bool:
        """Whether it is shown in a box of its own height."""
        return len(self.rows) > 40

    @property
    def link(self) -> str:
        """The CSV as an address that needs no server."""
        return "data:text/csv;charset=utf-8," + quote(table_csv(self), safe="/:;,@!$()*+-._~ ").replace(" ", "%20")


def word(text: str, look: str = "") -> Cell:
    """A cell that is a word."""
    return Cell(text, text, look)


def numeric(value: float, unit: str = "", look: str = "", bar: float | None = None) -> Cell:
    """A cell that is a figure, shown as everywhere."""
    return Cell(formatting.figure(value, unit).replace(" ", "\N{NO-BREAK SPACE}"), value, look, bar)


def texts(name: str, title: str, header: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """A table of words, and of figures that were written already."""
    columns = [
        Column(each or "name", each, is_word=not all(_FIGURE.fullmatch(row[i]) or not row[i] for row in rows))
        for i, each in enumerate(header)
    ]
    return Table(name, title, columns, [Row([word(text) for text in row]) for row in rows])


def titled(sections: Sequence[tuple[str, tuple[Sequence[str], Sequence[Sequence[str]]]]]) -> list[Table]:
    """Tables of words with their titles, each named after its title."""
    return [texts(file_name(title), title, *table) for title, table in sections]


def file_name(text: str) -> str:
    """Words as the name of a file."""
    return re.sub(r"\W+", "-", text.lower()).strip("-")[:60] or "table"


def plain(value: Value) -> str:
    """A value as a CSV has it: six digits of what is no whole number, nothing where it is unknown."""
    if value is None or (isinstance(value, float) and isnan(value)):
        return ""
    if isinstance(value, float):
        return f"{value:.0f}" if value.is_integer() and abs(value) < 1e15 else f"{value:.6g}"
    return str(value).lower() if isinstance(value, bool) else str(value)


def table_csv(table: Table) -> str:
    """Names with units in the first line, then a line for each row (RFC 4180).

    A word that a spreadsheet would take for a formula (it begins with = + - @) gets an apostrophe in front.
    """
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([column.key for column in table.columns])
    writer.writerows([[_harmless(cell.value) for cell in row.cells] for row in table.rows])
    return out.getvalue()


def _harmless(value: Value) -> str:
    text = plain(value)
    return "'" + text if isinstance(value, str) and text[:1] in ("=", "+", "-", "@", "\t", "\r") else text


def check_csv_folder(folder: str | Path) -> None:
    """Refuse before long work a folder that cannot be made or written.

    Raises
    ------
    InputError
        It is a file, there is no folder to make it in, or it cannot be written.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise InputError(f"--csv {folder}: it is a file, and a folder is needed")
    check_writable(Path(folder) / "table.csv" if Path(folder).is_dir() else folder)


def write_csv(tables: Sequence[Table], folder: str | Path) -> list[Path]:
    """Write every table as a CSV file of its name into a folder, which is made.

    Raises
    ------
    InputError
        The folder cannot be made or written.
    """
    check_csv_folder(folder)
    Path(folder).mkdir(exist_ok=True)
    paths = [Path(folder) / f"{table.name}.csv" for table in tables]
    for path, table in zip(paths, tables, strict=True):
        write_atomically(path, table_csv(table))
    return paths
