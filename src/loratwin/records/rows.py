"""Rows as a table in a file: columns by name, None where there is nothing."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from loratwin.extras import required


def columns_of(rows: Iterable[Mapping[str, Any]]) -> tuple[str, ...]:
    """All names that rows have, in the order in which they come up."""
    return tuple(dict.fromkeys(name for row in rows for name in row))


def rows_csv(columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> str:
    """As CSV; lists and mappings as JSON."""
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: _cell(value) for name, value in row.items()})
    return out.getvalue()


def rows_parquet(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> bytes:
    """As parquet: each column of one type."""
    required("pyarrow", "a parquet table", "parquet")
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array(_of_one_type([row.get(name) for row in rows])) for name in columns}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(arrays), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def _cell(value: Any) -> Any:
    return "" if value is None else json.dumps(value) if isinstance(value, (list, dict)) else value


def _of_one_type(values: list[Any]) -> list[Any]:
    """As text, where they are of several types: a column has one."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {int, float} and kinds != {int}:
        return [None if value is None else float(value) for value in values]
    return values if len(kinds) <= 1 and not kinds & {list, dict} else [None if v is None else str(v) for v in values]
