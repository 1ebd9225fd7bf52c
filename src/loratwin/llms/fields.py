"""Fields of a `config.json`, checked as they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratwin.errors import InputError
from loratwin.llms.layers import MOST, MOST_LAYERS


class Fields:
    """What a file says of an LLM, by key.

    Attributes
    ----------
    where
        The file, for messages.
    data
        All that it says.
    """

    def __init__(self, where: str, data: Mapping[str, Any]) -> None:
        self.where, self.data = where, data

    def size(self, *keys: str, default: int | None = None, most: int = MOST) -> int:
        """A whole number above 0, under the first of these keys that is there.

        Raises
        ------
        InputError
            It is something else, or not there and there is no default.
        """
        found = self.optional(*keys, most=most)
        if found is not None:
            return found
        if default is None:
            raise InputError(
                f"{self.where}: {keys[0]} = {self.data.get(keys[0])!r}, but it must be a whole number above 0"
            )
        return default

    def optional(self, *keys: str, most: int = MOST) -> int | None:
        """The same, or None where none of the keys is there."""
        for key in keys:
            value = self.data.get(key)
            if value is None:
                continue
            if type(value) is not int or value < 1:
                raise InputError(f"{self.where}: {key} = {value!r}, but it must be a whole number above 0")
            if value > most:
                raise InputError(f"{self.where}: {key} = {value}, but no LLM has more than {most:,}")
            return value
        return None

    def count(self, *keys: str) -> int:
        """A whole number, 0 where none of the keys is there."""
        for key in keys:
            value = self.data.get(key)
            if value is not None:
                if type(value) is not int or not 0 <= value <= MOST:
                    raise InputError(f"{self.where}: {key} = {value!r}, but it must be a whole number")
                return value
        return 0

    def flag(self, key: str, default: bool = False) -> bool:
        """Whether it says so; `default` where it does not say."""
        value = self.data.get(key)
        return default if value is None else bool(value)

    def listed(self, key: str) -> list[Any] | None:
        """A list, or None where there is none."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, list):
            raise InputError(f"{self.where}: {key} = {value!r}, but it must be a list")
        return value

    def part(self, key: str) -> Fields:
        """Fields below a key; empty where it is not there."""
        value = self.data.get(key)
        if value is not None and not isinstance(value, Mapping):
            raise InputError(f"{self.where}: {key} = {value!r}, but it must be an object")
        return Fields(f"{self.where}: {key}", value or {})

    @property
    def num_layers(self) -> int:
        """How many layers the LLM has."""
        return self.size("num_hidden_layers", "num_layers", "n_layer", most=MOST_LAYERS)

    @property
    def model_type(self) -> str:
        """What the family is called."""
        return str(self.data.get("model_type"))

    def refuse(self, key: str, reason: str) -> InputError:
        """An error that says what is wrong with a field."""
        return InputError(f"{self.where}: {key} = {self.data.get(key)!r}, but {reason}")
