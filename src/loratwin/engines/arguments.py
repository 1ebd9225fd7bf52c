"""A server's arguments: parsed once, asked by names that all engines share, changed in places, shown without secrets.

arguments = ServerArguments(find_engine("vllm"), "tiny --enable-lora --max_loras=8 -tp 2")
arguments.whole("tensor_parallel")  # 2
arguments.without("max_loras").words
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

from loratwin.engines.options import MOST_VALUES, Option, Takes, find, number, whole_number
from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.engines.engine import Engine

HIDDEN = "***"
"""Shown in place of a secret."""


def as_words(given: Sequence[str] | str) -> tuple[str, ...]:
    """A list as it is; text is split as a shell would, but no shell sees it.

    Raises
    ------
    InputError
        A quotation does not end.
    """
    if not isinstance(given, str):
        return tuple(given)
    try:
        return tuple(shlex.split(given))
    except ValueError as error:
        raise InputError(f"server arguments {given!r}: {error}") from None


class _OptionWords(NamedTuple):
    """Words that belong together: an option with its values, or a word that belongs to none."""

    words: tuple[str, ...]  # as given
    name: str  # of the option, in full; "" for a word that belongs to none, or where it is ambiguous
    option: Option | None  # None: one that is not known here
    values: tuple[str, ...]

    @property
    def is_option(self) -> bool:
        return _is_option(self.words[0])


@dataclass(frozen=True, init=False, repr=False)
class ServerArguments:
    """The arguments of one server, as its engine's argparse takes them: the last of an option counts.

    Understood are `--x y`, `--x=y`, `--max_loras` for `--max-loras`, abbreviations (`-tp`, `-q`), beginnings that are
    those of one option only, `--no-x`, and the LLM without an option, as `vllm serve` has it. Options that are not
    known here are kept, with the words up to the next one.

    Parameters
    ----------
    engine
        Whose they are.
    given
        In a list, or in one string that is split as a shell would.

    Raises
    ------
    InputError
        A quotation does not end. What else is wrong is said by `check`, or when it is asked for.
    """

    engine: Engine
    words: tuple[str, ...]
    """As given, secrets included."""

    def __init__(self, engine: Engine, given: Sequence[str] | str = ()) -> None:
        object.__setattr__(self, "engine", engine)
        object.__setattr__(self, "words", as_words(given))

    def __repr__(self) -> str:
        return f"<ServerArguments of {self.engine.name}: {' '.join(self.shown)}>"

    @classmethod
    def of(cls, engine: Engine, given: Sequence[str] | str | ServerArguments) -> ServerArguments:
        """These arguments as those of this engine, parsed if they are not yet."""
        if isinstance(given, ServerArguments):
            return given if given.engine is engine else cls(engine, given.words)
        return cls(engine, given)

    @cached_property
    def _parts(self) -> tuple[_OptionWords, ...]:
        return tuple(_parts(self.words, tuple(self.engine.options.values())))

    def _last(self, field: str) -> _OptionWords | None:
        option = self.engine.options.get(field)
        given = [part for part in self._parts if option is not None and part.option is option]
        return given[-1] if given else None

    # --- asked

    def __contains__(self, field: object) -> bool:
        """Whether an option is given at all."""
        return isinstance(field, str) and self._last(field) is not None

    def text(self, field: str) -> str | None:
        """What an option is given, several words joined; None if it is not."""
        if field == "model":
            return self._model or None
        part = self._last(field)
        return None if part is None else " ".join(part.values)

    def whole(self, field: str) -> int | None:
        """The same as a whole number.

        Raises
        ------
        InputError
            It is none.
        """
        value = self.text(field)
        return None if value is None else whole_number(value, self.engine.options[field].name)

    def number(self, field: str) -> float | None:
        """The same as a number.

        Raises
        ------
        InputError
            It is none.
        """
        value = self.text(field)
        return None if value is None else number(value, self.engine.options[field].name)

    def is_on(self, field: str) -> bool:
        """Whether a switch is on: `--x` and `--no-x` take each other back."""
        part = self._last(field)
        return part is not None and part.option is not None and part.name not in part.option.off

    def spelled(self, field: str) -> str:
        """An option as one writes it, by the engine's own name; "" if it is not given, or a switch that is off."""
        part = self._last(field)
        if part is None or part.option is None or part.name in part.option.off:
            return ""
        return " ".join([part.option.name, *part.values])

    def value(self, field: str) -> Any:
        """What an option is given, read as its row in the engine's table says; None: nothing, or the engine decides.

        Raises
        ------
        InputError
            It cannot be read.
        """
        part = self._last(field)
        if part is None or part.option is None:
            return None
        if part.option.takes is Takes.NOTHING:
            return self.is_on(field)
        said = " ".join(part.values)
        return None if said in ("auto", "-1") else part.option.read(said, part.option.name)

    @property
    def model(self) -> str:
        """The LLM: given by its option, or without one.

        Raises
        ------
        InputError
            There is none.
        """
        if not self._model:
            raise InputError(
                f"the server arguments name no LLM: add {self.engine.options['model'].name} FOLDER-OR-NAME"
            )
        return self._model

    @property
    def _model(self) -> str:
        part = self._last("model")
        return " ".join(part.values) if part is not None else next(iter(self._alone), "")

    @property
    def _alone(self) -> list[str]:
        """Words that belong to no option."""
        return [part.words[0] for part in self._parts if not part.is_option]

    def check(self) -> None:
        """Refuse what the engine's argparse refuses, or takes for something else than it looks like.

        Raises
        ------
        InputError
            A beginning of several options, an option without its value, a switch with one, or a word that belongs to no
        option.
        """
        for problem in self._problems():
            raise InputError(f"server arguments: {problem}")

    def _problems(self) -> list[str]:
        problems = [f"{part.words[0]} is the beginning of several options" for part in self._parts if _ambiguous(part)]
        problems += [f"{part.name} needs a value" for part in self._parts if _lacks_value(part)]
        problems += [f"{part.name} takes no value" for part in self._parts if _has_value_too_many(part)]
        alone = self._alone[0 if "model" in self else 1 :]
        problems += [f"{word!r} belongs to no option" for word in alone if word != self._model]
        return problems

    # --- changed and shown

    def without(self, *fields: str) -> ServerArguments:
        """All but these options and their values; `model` also where it is given without an option."""
        options = [self.engine.options[field] for field in fields if field in self.engine.options]
        kept = [part for part in self._parts if part.option is None or not any(part.option is one for one in options)]
        if "model" in fields:
            kept = [part for part in kept if part.is_option or part.words[0] != self._model]
        return ServerArguments(self.engine, [word for part in kept for word in part.words])

    def plus(self, given: Sequence[str] | str | ServerArguments) -> ServerArguments:
        """Further arguments behind these; they count where both give an option."""
        more = given.words if isinstance(given, ServerArguments) else as_words(given)
        return ServerArguments(self.engine, (*self.words, *more))

    def put(self, **values: object) -> ServerArguments:
        """Options added or replaced, by shared names: True for a switch, None leaves it as it is."""
        changed = {name: value for name, value in values.items() if value is not None}
        added = [word for name, value in changed.items() for word in self.engine.options[name].written(value)]
        return self.without(*changed).plus(added)

    @property
    def shown(self) -> tuple[str, ...]:
        """The words with `***` for secrets: for records, logs and errors."""
        return tuple(word for part in self._parts for word in _masked(part))

    @property
    def shown_parts(self) -> list[str]:
        """Each option with its values as one text for a shell, secrets hidden; an LLM without an option is one, too."""
        return [shlex.join(_masked(part)) for part in self._parts]

    @property
    def fields_given(self) -> list[str]:
        """For each of these the shared name of its option; "" where it has none."""
        names = {id(option): field for field, option in self.engine.options.items()}
        return [names.get(id(part.option), "") for part in self._parts]


def _parts(words: Sequence[str], options: Sequence[Option]) -> list[_OptionWords]:
    """The words put together."""
    parts: list[_OptionWords] = []
    i = 0
    while i < len(words):
        parts.append(_part(words, i, options) if _is_option(words[i]) else _OptionWords((words[i],), "", None, ()))
        i += len(parts[-1].words)
    return parts


def _part(words: Sequence[str], i: int, options: Sequence[Option]) -> _OptionWords:
    """The option that begins at a word."""
    written, equals, value = words[i].partition("=")
    option, name = find(options, _hyphens(written))
    if option is None and not equals and re.match(r"-[A-Za-z].", written):  # -qawq, as argparse takes it
        short, _ = find(options, written[:2])
        if short is not None and short.takes is not Takes.NOTHING and not written.startswith("--"):
            return _OptionWords((words[i],), short.name, short, (written[2:],))
    if equals or (option is None and re.fullmatch(r"-[A-Za-z]\d+", written)):  # -O3 holds its value
        return _OptionWords((words[i],), name, option, (value,) if equals else ())
    end = i + 1
    last = min(len(words), end + (MOST_VALUES if option is None else option.takes.most))
    while end < last and not _is_option(words[end]):
        end += 1
    return _OptionWords(tuple(words[i:end]), name, option, tuple(words[i + 1 : end]))


def _ambiguous(part: _OptionWords) -> bool:
    return part.is_option and not part.name


def _lacks_value(part: _OptionWords) -> bool:
    return part.option is not None and part.option.takes in (Takes.VALUE, Takes.VALUES) and not part.values


def _has_value_too_many(part: _OptionWords) -> bool:
    return part.option is not None and part.option.takes is Takes.NOTHING and bool(part.values)


def _masked(part: _OptionWords) -> tuple[str, ...]:
    if not _ambiguous(part) and (part.option is None or not part.option.secret):
        return part.words
    name, equals, _ = part.words[0].partition("=")
    return (f"{name}={HIDDEN}",) if equals else (name, *[HIDDEN] * (len(part.words) - 1))


def _is_option(word: str) -> bool:
    return re.match(r"--?[A-Za-z]", word) is not None  # and not a negative number


def _hyphens(name: str) -> str:
    """vLLM takes --max_loras for --max-loras."""
    return name.replace("_", "-") if name.startswith("--") else name
