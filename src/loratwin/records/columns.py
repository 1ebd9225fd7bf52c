"""A table as a frozen dataclass of arrays: checked once when it is made, read-only from then on."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from loratwin.errors import InputError

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int32]
LongArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
AnyArray = NDArray[Any]

Table = TypeVar("Table", bound="ColumnTable")

_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "b": "b"}


def column(dtype: DTypeLike, *, optional: bool = False) -> Any:
    """A dataclass field that holds one column of this dtype; an optional one may be None."""
    metadata = {"dtype": np.dtype(dtype)}
    return field(default=None, metadata=metadata) if optional else field(metadata=metadata)


@dataclass(frozen=True, eq=False)
class ColumnTable:
    """Base of tables: every field made with `column` is an array of shape (num_rows,).

    Raises
    ------
    InputError
        Columns differ in length, are not one-dimensional, have another kind of number, or hold an infinite value.
    """

    def __post_init__(self) -> None:
        for name, dtype in self.column_types().items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _checked(type(self).__name__, name, value, dtype))
        lengths = {name: len(values) for name, values in self.columns().items()}
        if len(set(lengths.values())) > 1:
            raise InputError(f"{type(self).__name__}: columns differ in length: {lengths}")

    def __len__(self) -> int:
        return len(next(iter(self.columns().values())))

    @classmethod
    def column_types(cls) -> dict[str, np.dtype[Any]]:
        """Name and dtype of every column, in order, optional ones included."""
        return {item.name: item.metadata["dtype"] for item in fields(cls) if "dtype" in item.metadata}

    def columns(self) -> dict[str, AnyArray]:
        """The columns that are there, in order."""
        all_columns = {name: getattr(self, name) for name in self.column_types()}
        return {name: values for name, values in all_columns.items() if values is not None}

    def take(self: Table, which: BoolArray) -> Table:
        """The same table with some of its rows, in the same order. `which` has shape (num_rows,)."""
        if which.all():
            return self
        rows = np.flatnonzero(which)  # a mask would be searched anew for every column
        taken = copy(self)  # rows of what was checked need no check
        for name, values in self.columns().items():
            part = values.take(rows)
            part.flags.writeable = False
            object.__setattr__(taken, name, part)
        return taken


def _checked(table: str, name: str, value: Any, dtype: np.dtype[Any]) -> AnyArray:
    raw = np.asarray(value)
    if raw.ndim != 1:
        raise InputError(f"{table}.{name}: expected one dimension, found shape {raw.shape}")
    if raw.size and raw.dtype.kind not in _ACCEPTED_KINDS[dtype.kind]:
        raise InputError(f"{table}.{name}: expected {dtype}, found {raw.dtype}")
    if raw.dtype.kind == "f" and np.isinf(raw).any():
        raise InputError(f"{table}.{name}: an infinite value; a time that never came is NaN")
    array: AnyArray = raw.astype(dtype, copy=False).view()
    if dtype.kind == "i" and raw.dtype != dtype and (array != raw).any():
        raise InputError(f"{table}.{name}: a value beyond what {dtype} holds")
    array.flags.writeable = False
    return array
