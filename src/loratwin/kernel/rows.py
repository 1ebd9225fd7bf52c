"""Records of arrays in a table of addresses, so that compiled code can walk over many servers.

A server's state is some sixty arrays of several kinds. numba has lists of such records only with reference counting,
which is off here. So a record becomes a row of a table: the address and shape of each array, the value of each number;
`record_at` makes the record of a row again, in the types of an example. The arrays belong to whoever made the row.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np import arrayobj

from loratwin.kernel.types import I8

_arrays: Any = arrayobj  # numba types none of its code generators
_intrinsic: Any = intrinsic
_types: Any = types

WIDTH = 3
"""Numbers of one entry: address and shape of an array (1 or 2 dimensions), or a value and nothing."""


def leaves(record: Any) -> Iterator[Any]:
    """The arrays and numbers of nested tuples, in order."""
    if isinstance(record, tuple):
        for part in record:
            yield from leaves(part)
    else:
        yield record


def row_of(record: Any) -> I8:
    """The row of a record, shape (leaves, 3); valid as long as its arrays are kept."""
    return np.array([_entry(leaf) for leaf in leaves(record)], np.int64)


def _entry(leaf: Any) -> tuple[int, int, int]:
    if isinstance(leaf, np.ndarray):
        assert leaf.flags.c_contiguous
        return leaf.ctypes.data, leaf.shape[0], leaf.shape[1] if leaf.ndim == 2 else 1
    if isinstance(leaf, float):
        return int(np.float64(leaf).view(np.int64)), 0, 0
    return int(leaf), 0, 0


@_intrinsic
def record_at(typing_context: Any, rows: Any, row: Any, example: Any) -> Any:
    """The record of a row of a table (servers, leaves, 3), of the example's type; nothing is copied."""
    signature = example(rows, row, example)

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        table = _arrays.make_array(signature.args[0])(context, builder, arguments[0])
        index = context.cast(builder, arguments[1], signature.args[1], _types.intp)
        num_leaves = builder.extract_value(table.shape, 1)
        start = builder.mul(builder.mul(index, num_leaves), index.type(WIDTH))
        return _build(context, builder, signature.return_type, _Reader(builder, table.data, start))

    return signature, generate


class _Reader:
    """Reads the entries of a row one after the other."""

    def __init__(self, builder: Any, data: Any, start: Any) -> None:
        self.builder, self.data, self.start, self.number = builder, data, start, 0

    def entry(self) -> list[Any]:
        """The next three numbers."""
        first = self.number * WIDTH
        self.number += 1
        return [self._load(first + i) for i in range(WIDTH)]

    def _load(self, offset: int) -> Any:
        place = self.builder.add(self.start, self.start.type(offset))
        return self.builder.load(self.builder.gep(self.data, [place]))


def _build(context: Any, builder: Any, kind: Any, reader: _Reader) -> Any:
    if isinstance(kind, _types.BaseTuple):
        return context.make_tuple(builder, kind, [_build(context, builder, part, reader) for part in kind.types])
    value, *shape = reader.entry()
    if isinstance(kind, _types.Array):
        return _array(context, builder, kind, value, shape[: kind.ndim])
    if isinstance(kind, _types.Float):
        return builder.bitcast(value, context.get_value_type(kind))
    return value


def _array(context: Any, builder: Any, kind: Any, address: Any, shape: list[Any]) -> Any:
    array = _arrays.make_array(kind)(context, builder)
    size = context.get_abi_sizeof(context.get_data_type(kind.dtype))
    strides = (
        [cgutils.intp_t(size)]
        if kind.ndim == 1
        else [builder.mul(shape[1], cgutils.intp_t(size)), cgutils.intp_t(size)]
    )
    _arrays.populate_array(
        array,
        data=builder.inttoptr(address, context.get_data_type(kind.dtype).as_pointer()),
        shape=shape,
        strides=strides,
        itemsize=cgutils.intp_t(size),
        meminfo=None,
    )
    return array._getvalue()
