"""What prompts have in common, as a file in the journal's folder."""

from __future__ import annotations

from pathlib import Path

from loratwin.bench.shared.arrays import load_arrays, save_arrays
from loratwin.workload import Sharing

_FILE = "sharing.npz"


def save_sharing(sharing: Sharing, folder: Path) -> None:
    """Write it down."""
    save_arrays(folder / _FILE, vars(sharing))


def load_sharing(folder: Path) -> Sharing | None:
    """Read it; None: prompts have nothing in common.

    Raises
    ------
    DataError
        It is damaged.
    """
    return load_arrays(folder / _FILE, Sharing)
