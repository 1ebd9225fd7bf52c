"""Kinds of failure, numbered as they are first seen, each with its first message, in a file."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from loratwin.errors import InputError
from loratwin.records import write_atomically

MAX_KINDS = 100
"""A server that names each failure differently must not fill the disk; further kinds are one."""

_OTHER = "other failures"


class Failures:
    """Numbers for kinds of failure.

    Attributes
    ----------
    kinds
        By number, with the first message of each.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.kinds: dict[str, str] = read_failures(path)
        self._codes = {kind: code for code, kind in enumerate(self.kinds)}

    def code(self, kind: str, detail: str) -> int:
        """The number of a kind; a new one is written down at once."""
        found = self._codes.get(kind)
        if found is not None:
            return found
        if len(self.kinds) >= MAX_KINDS and kind != _OTHER:
            return self.code(_OTHER, f"{kind}: {detail}")
        self._codes[kind] = len(self.kinds)
        self.kinds[kind] = detail
        with suppress(InputError):  # a disk that filled up must not end the run; the kinds stay in memory
            write_atomically(self._path, json.dumps(self.kinds))
        return self._codes[kind]


def read_failures(path: Path) -> dict[str, str]:
    """Kinds and first messages; empty where there is no file."""
    return dict(json.loads(path.read_text())) if path.exists() else {}
