"""Every error that loratwin raises on purpose.

LoratwinError
├── InputError          what the user gave cannot be used: says what was wrong, where, and what would be right
│   ├── UnknownNameError   a name that is not known; lists the known ones
│   └── SeveralErrors      several inputs cannot be used: a line for each
├── DataError           a measured file is damaged or lacks a column
├── CapacityError       the server as configured would not start
└── ServerError         a server that we started ended or does not answer (launch/failure.py)
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class LoratwinError(Exception):
    """Base of all errors that end a command with one clear line and exit code 2."""


class InputError(LoratwinError):
    """The input cannot be used as it is."""


class UnknownNameError(InputError):
    """A name is not among the known ones."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        options = sorted(known)
        close = get_close_matches(name, options, n=1)
        hint = f" Did you mean {close[0]!r}?" if close else ""
        super().__init__(f"unknown {kind} {name!r}.{hint} Known: {', '.join(options)}")


class SeveralErrors(InputError):
    """Several inputs cannot be used.

    Parameters
    ----------
    errors
        What is wrong with each.
    """

    def __init__(self, errors: Iterable[LoratwinError]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(map(str, self.errors)))


class DataError(LoratwinError):
    """A data file is damaged, or a column is missing."""


class CapacityError(LoratwinError):
    """The server would not start with this configuration."""
