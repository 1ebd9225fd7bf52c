"""Reading tables: what is wrong is said in one line."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from loratwin.calibrate.published.tables import number, numbers, read_table
from loratwin.errors import DataError, InputError


def test_rows_by_column(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("a,b\n1,x\n2,\n")
    assert read_table(path, ["a"]) == [{"a": "1", "b": "x"}, {"a": "2", "b": ""}]


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (None, InputError, "cannot be read"),
        (b"a,b\n\xff\xfe,1\n", InputError, "cannot be read"),
        (b"", DataError, "no rows"),
        (b"a,b\n", DataError, "no rows"),
        (b"a,c\n1,2\n", DataError, "column 'b' is missing; required: a, b"),
    ],
)
def test_a_table_that_cannot_be_used(
    content: bytes | None, kind: type[Exception], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "t.csv"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(kind) as caught:
        read_table(path, ("a", "b"))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("text", "expected"), [("3.5", 3.5), (" 2 ", 2.0), ("1e3", 1000.0)])
def test_a_number(text: str, expected: float) -> None:
    assert number({"x": text}, "x") == expected


@pytest.mark.parametrize("row", [{}, {"x": ""}, {"x": "  "}, {"x": None}])
def test_an_absent_number_is_nan(row: dict[str, str]) -> None:
    assert math.isnan(number(row, "x"))


def test_something_else_is_named_with_its_column() -> None:
    with pytest.raises(DataError, match="^column 'x': 'many' is not a number$"):
        number({"x": "many"}, "x")
    with pytest.raises(DataError, match="^column 'x': '1,5' is not a number$"):
        numbers({"x": "1 1,5"}, "x")


def test_numbers_are_separated_by_spaces() -> None:
    assert numbers({"x": " 8  16.5 "}, "x") == [8.0, 16.5]
    assert numbers({"x": ""}, "x") == numbers({"x": "nan"}, "x") == numbers({}, "x") == []
