"""Which server gets which request, where servers hold different adapters: as a file in the journal's folder."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loratwin.bench.shared.arrays import load_arrays, save_arrays

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
    numbers
        Drawn beforehand, in [0, 1), shape (num_requests,): which one it is among equals.
    chosen
        Server of each request, shape (num_requests,), where that is known beforehand; None: the one of its row that has
        fewest requests unanswered.
    """

    first: NDArray[np.int64]
    server: NDArray[np.int32]
    numbers: NDArray[np.float64]
    chosen: NDArray[np.int32] | None = None

    def servers_of(self, adapter: int) -> NDArray[np.int32]:
        """Those that hold an adapter; -1: that serve requests without one."""
        row = adapter if adapter >= 0 else len(self.first) - 2
        return self.server[self.first[row] : self.first[row + 1]]

    def save(self, folder: Path) -> None:
        """Write it down."""
        save_arrays(folder / _FILE, vars(self))

    @classmethod
    def load(cls, folder: Path) -> Routing | None:
        """Read it; None: all servers are alike, and get requests in turn.

        Raises
        ------
        DataError
            It is damaged.
        """
        return load_arrays(folder / _FILE, cls)
