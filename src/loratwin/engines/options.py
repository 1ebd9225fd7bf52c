"""Options of a server as data: one row for each that matters here, and how its value is read."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from loratwin.errors import InputError

_MULTIPLIERS = {"k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


MOST_VALUES = 2**31


class Takes(Enum):
    """What stands behind an option."""

    NOTHING = "nothing"  # a switch, which `--no-x` takes back
    VALUE = "a value"
    VALUE_OR_NOTHING = "a value or nothing"
    VALUES = "all words up to the next option"

    @property
    def most(self) -> int:
        """Words that it takes at most."""
        return {Takes.NOTHING: 0, Takes.VALUES: MOST_VALUES}.get(self, 1)


def text(value: str, name: str) -> str:
    """The value as it is."""
    return value


def whole_number(value: str, name: str) -> int:
    """A number as vLLM reads it (`human_readable_int`): 8192, 8k = 8,000, 8K = 8,192.

    Raises
    ------
    InputError
        It is none.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kmgtKMGT])|(\d+)", value.strip())
    if match is None:
        raise InputError(f"server arguments: {name} {value!r} is no whole number")
    number, unit, plain = match.groups()
    return int(plain) if plain else round(float(number) * _MULTIPLIERS[unit])


def number(value: str, name: str) -> float:
    """A number.

    Raises
    ------
    InputError
        It is none.
    """
    try:
        return float(value)
    except ValueError:
        raise InputError(f"server arguments: {name} {value!r} is no number") from None


@dataclass(frozen=True)
class Option:
    """One option of an engine.

    Parameters
    ----------
    names
        As it is written; the first is the engine's own, others are abbreviations and older names.
    read
        From text and the option's name to its value.
    secret
        Shown nowhere.
    """

    names: tuple[str, ...]
    takes: Takes = Takes.VALUE
    read: Callable[[str, str], Any] = text
    secret: bool = False

    @property
    def name(self) -> str:
        """The engine's own name of it."""
        return self.names[0]

    def written(self, value: object) -> list[str]:
        """The option and its value as words; of a switch True or False."""
        if self.takes is not Takes.NOTHING:
            return [self.name, str(value)]
        return [self.name if value else self.off[0]]

    @property
    def off(self) -> tuple[str, ...]:
        """What takes a switch back."""
        return tuple(name.replace("--", "--no-", 1) for name in self.names) if self.takes is Takes.NOTHING else ()


def valued(*names: str) -> Option:
    """An option with a text behind it."""
    return Option(names)


def count(*names: str) -> Option:
    """An option with a whole number behind it."""
    return Option(names, read=whole_number)


def share(*names: str) -> Option:
    """An option with a number behind it."""
    return Option(names, read=number)


def switch(*names: str) -> Option:
    """An option with nothing behind it."""
    return Option(names, Takes.NOTHING)


def listed(*names: str) -> Option:
    """An option with one word or more behind it."""
    return Option(names, Takes.VALUES)


SECRETS: dict[str, Option] = {
    "api_key": Option(("--api-key",), Takes.VALUES, secret=True),
    "admin_api_key": Option(("--admin-api-key",), secret=True),
    "hf_token": Option(("--hf-token",), Takes.VALUE_OR_NOTHING, secret=True),
    "ssl_keyfile": valued("--ssl-keyfile"),  # no secret itself, but the beginning of one
    "ssl_keyfile_password": Option(("--ssl-keyfile-password",), secret=True),
}
"""Options of any engine whose values are shown nowhere."""

COMMON: dict[str, Option] = {
    "host": valued("--host"),
    "port": count("--port"),
    "config": valued("--config"),
    "max_lora_rank": count("--max-lora-rank"),
    "enable_lora": switch("--enable-lora"),
    "dtype": valued("--dtype"),
    "kv_cache_dtype": valued("--kv-cache-dtype"),
    **SECRETS,
}
"""Options that vLLM and SGLang write alike."""


def find(options: Sequence[Option], name: str) -> tuple[Option | None, str]:
    """The option of this name, as argparse finds it: a beginning will do where it is that of one option only.

    Parameters
    ----------
    name
        With hyphens, without a value.

    Returns
    -------
    option
        None: none of these.
    name
        In full; "" where several begin so.
    """
    spellings = {spelling: option for option in options for spelling in (*option.names, *option.off)}
    if name in spellings or not name.startswith("--"):
        return spellings.get(name), name
    begun = {spelling: option for spelling, option in spellings.items() if spelling.startswith(name)}
    if len({id(option) for option in begun.values()}) > 1:
        return None, ""
    return next(((option, spelling) for spelling, option in begun.items()), (None, name))
