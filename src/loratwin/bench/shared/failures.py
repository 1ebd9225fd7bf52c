"""Kinds of failure, numbered as they are first seen, each with its first message, in a file."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from loratwin.errors import DataError

FILE = "failures.jsonl"
MAX_KINDS = 100
"""A server that names each failure differently must not fill the disk; further kinds are one."""

_OTHER = "other failures"


class Failures:
    """Numbers for kinds of failure.

    The file is open from the start: when a client runs out of files, that, too, must be written down.

    Attributes
    ----------
    kinds
        By number, with the first message of each.
    """

    def __init__(self, folder: Path) -> None:
        self._file = (folder / FILE).open("w", encoding="utf-8")
        self.kinds: dict[str, str] = {}
        self._codes: dict[str, int] = {}

    def code(self, kind: str, detail: str) -> int:
        """The number of a kind; a new one is written down at once."""
        known = self._codes.get(kind)
        if known is not None:
            return known
        if len(self.kinds) >= MAX_KINDS and kind != _OTHER:
            return self.code(_OTHER, f"{kind}: {detail}")
        self._codes[kind] = len(self.kinds)
        self.kinds[kind] = detail
        with suppress(OSError):  # a disk that filled up must not end the run
            self._file.write(json.dumps([kind, detail]) + "\n")
            self._file.flush()
        return self._codes[kind]

    def close(self) -> None:
        """No more will come."""
        with suppress(OSError):
            self._file.close()


def read_failures(folder: Path, count: int) -> dict[str, str]:
    """The first `count` kinds with their first messages; what could not be written has a number for its name.

    Raises
    ------
    DataError
        The file is damaged, or there are more kinds than a client ever numbers.
    """
    path = folder / FILE
    try:
        lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
        kinds: dict[str, str] = dict(json.loads(line) for line in lines)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{path}: damaged: {error}") from None
    if count > MAX_KINDS + 1:
        raise DataError(f"{folder}: the column of failures is damaged: kind {count - 1:,}")
    return {**kinds, **{f"failure {number}": "" for number in range(len(kinds), count)}}
