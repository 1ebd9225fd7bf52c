"""Folders that we fill: only new or empty ones, and our own again with the same content."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from loratwin.errors import InputError
from loratwin.records import write_atomically


def claim(folder: Path, index: str, content: dict[str, Any]) -> None:
    """Make `folder`, with a file `index` in it that says what it is to hold.

    Our own folder with the same content is used again.

    Raises
    ------
    InputError
        The folder holds something else, or cannot be made.
    """
    path = folder / index
    if path.is_file():
        if _read(path) != json.loads(json.dumps(content)):
            raise InputError(f"{folder} was made with other options (see {path}): remove it, or give another folder")
        return
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and not ours: give a new or an empty folder")
    make(folder)
    write_atomically(path, json.dumps(content, indent=1) + "\n")


def make(folder: Path) -> None:
    """Make a folder and those above it.

    Raises
    ------
    InputError
        It cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror or error}") from None


def check_room(folder: Path, num_bytes: int) -> None:
    """Refuse before the work what the disk cannot hold.

    Raises
    ------
    InputError
        Fewer than `num_bytes` bytes are free where `folder` is or will be.
    """
    there = next(each for each in (folder.absolute(), *folder.absolute().parents) if each.exists())
    free = shutil.disk_usage(there).free
    if num_bytes > free:
        raise InputError(f"{folder}: {num_bytes / 1e9:.1f} GB are needed, but only {free / 1e9:.1f} GB are free there")


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
