"""Which server gets which request, where servers hold different adapters: as a file in the journal's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError

_FILE = "routing.npz"


@dataclass(frozen=True, eq=False)
class Routing:
    """The router that the load client is.

    Parameters
    ----------
    first
        Where each adapter's row of servers begins, and last where the last one ends: shape (num_adapters + 2,). The
        last row is for requests without adapter.
    server
        Of all rows, one behind the other: numbers of servers that hold the adapter.
    chosen
        Server of each request, shape (num_requests,), where that is known beforehand; None: the one of its row that has
        fewest requests unanswered.
    numbers
        Drawn beforehand, in [0, 1), shape (num_requests,): which one it is among equals.
    """

    first: NDArray[np.int64]
    server: NDArray[np.int32]
    chosen: NDArray[np.int32] | None
    numbers: NDArray[np.float64]

    def servers_of(self, adapter: int) -> NDArray[np.int32]:
        """Those that hold an adapter; -1: that serve requests without one."""
        row = adapter if adapter >= 0 else len(self.first) - 2
        return self.server[self.first[row] : self.first[row + 1]]

    def save(self, folder: Path) -> None:
        """Write it down."""
        columns: dict[str, Any] = {name: values for name, values in vars(self).items() if values is not None}
        np.savez(folder / _FILE, **columns)

    @classmethod
    def load(cls, folder: Path) -> Routing | None:
        """Read it; None: all servers are alike, and get requests in turn.

        Raises
        ------
        DataError
            It is damaged.
        """
        path = folder / _FILE
        if not path.exists():
            return None
        try:
            with np.load(path) as columns:
                return cls(**{"chosen": None, **{name: columns[name] for name in columns.files}})
        except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
            raise DataError(f"{path}: damaged: {error}") from None
