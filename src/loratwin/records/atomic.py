"""Write a file whole or not at all."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from loratwin.errors import InputError


def write_atomically(path: str | Path, data: bytes | str) -> Path:
    """Write a file next to its place and move it there when it is complete; the path.

    Parameters
    ----------
    path
        In a folder that is there; a file of that name is replaced.
    data
        Text is written as UTF-8.

    Raises
    ------
    InputError
        The folder does not exist or cannot be written; nothing is left behind.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(data.encode() if isinstance(data, str) else data)
        os.replace(temporary, target)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None
    finally:  # also when interrupted; after the move there is nothing to remove
        with suppress(OSError):
            temporary.unlink()
    return target


def would_replace(path: str | Path, inputs: Iterable[str | Path]) -> bool:
    """Whether writing a file would replace one that is read.

    Parameters
    ----------
    path
        To be written.
    inputs
        What is read; names that are no files, as of shipped examples, are not looked at.
    """
    target = Path(path)
    return target.exists() and any(Path(given).exists() and target.samefile(given) for given in inputs)


def check_writable(path: str | Path) -> None:
    """Refuse before long work what `write_atomically` would refuse after it.

    Raises
    ------
    InputError
        The folder does not exist or cannot be written, or `path` is a folder.
    """
    target = Path(path)
    if target.is_dir():
        raise InputError(f"cannot write {target}: it is a folder")
    if not target.parent.is_dir():
        make = f"mkdir -p {shlex.quote(str(target.parent))}"
        raise InputError(f"cannot write {target}: no folder {target.parent} (make it with {make})")
    if not os.access(target.parent, os.W_OK):
        raise InputError(f"cannot write {target}: {target.parent} is not writable")
