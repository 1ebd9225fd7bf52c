"""Arrays by name, as a file in the journal's folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar
from zipfile import BadZipFile

import numpy as np

from loratwin.errors import DataError

T = TypeVar("T")


def save_arrays(path: Path, arrays: Mapping[str, Any]) -> None:
    """Write them down; None is left out."""
    np.savez(path, **{name: values for name, values in arrays.items() if values is not None})


def load_arrays(path: Path, made_of: Callable[..., T]) -> T | None:
    """What is made of them, given by name; None: there is no such file.

    Raises
    ------
    DataError
        It is damaged.
    """
    if not path.exists():
        return None
    try:
        with np.load(path) as arrays:
            return made_of(**arrays)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise DataError(f"{path}: damaged: {error}") from None
