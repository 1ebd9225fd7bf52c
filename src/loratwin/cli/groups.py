"""Groups: commands under one word, and options that several commands take.

The latter are a dataclass whose fields are declared as a command's parameters are.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import is_dataclass
from functools import wraps
from typing import Any, get_type_hints

import typer


def command_group(help: str, **options: Any) -> typer.Typer:
    """Commands under one word, which alone shows them; rich is left out, as in `cli.app`."""
    return typer.Typer(help=help, rich_markup_mode=None, **{"no_args_is_help": True, **options})


def grouped(command: Callable[..., None]) -> Callable[..., None]:
    """The command as typer is to see it: in the place of a parameter that is a dataclass, the fields of that.

    Parameters
    ----------
    command
        Called with the dataclasses, made of what the user gave.
    """
    taken = inspect.signature(command, eval_str=True).parameters
    groups = {name: _fields(parameter.annotation) for name, parameter in taken.items() if _is_group(parameter)}
    shown = [option for name, parameter in taken.items() for option in groups.get(name, [parameter])]

    @wraps(command)
    def run(**given: Any) -> None:
        made = {
            name: taken[name].annotation(**{option.name: given.pop(option.name) for option in options})
            for name, options in groups.items()
        }
        command(**given, **made)

    keyword = inspect.Parameter.KEYWORD_ONLY  # a field without a default may follow one that has it
    run.__signature__ = inspect.Signature([option.replace(kind=keyword) for option in shown])  # type: ignore[attr-defined]
    run.__annotations__ = {option.name: option.annotation for option in shown}
    return run


def _is_group(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.annotation, type) and is_dataclass(parameter.annotation)


def _fields(group: type) -> list[inspect.Parameter]:
    hints = get_type_hints(group, include_extras=True)
    fields = inspect.signature(group).parameters.values()
    return [field.replace(annotation=hints[field.name]) for field in fields]
