"""What prompts have in common, as a file in the journal's folder."""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from loratwin.errors import DataError
from loratwin.workload import Sharing

_FILE = "sharing.npz"


def save_sharing(sharing: Sharing, folder: Path) -> None:
    """Write it down."""
    np.savez(folder / _FILE, **{field.name: getattr(sharing, field.name) for field in fields(sharing)})


def load_sharing(folder: Path) -> Sharing | None:
    """Read it; None: prompts have nothing in common.

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
            return Sharing(**{field.name: columns[field.name] for field in fields(Sharing)})
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise DataError(f"{path}: damaged: {error}") from None
