"""What starts a server."""

from __future__ import annotations

import importlib.util
import shutil
import sys
from collections.abc import Sequence

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.engine import Engine
from loratwin.errors import InputError


def full_command(arguments: ServerArguments, command: Sequence[str] | None = None) -> list[str]:
    """Command and arguments: a program that ends in `serve` takes the LLM first and without an option.

    Parameters
    ----------
    command
        What the arguments are appended to; None: the engine's own.

    Raises
    ------
    InputError
        The arguments name no LLM, or as `default_command`.
    """
    model, rest = arguments.model, arguments.without("model").words
    command = command or default_command(arguments.engine)
    if len(command) >= 2 and command[-1] == "serve":
        return [*command, model, *rest]
    return [*command, arguments.engine.options["model"].name, model, *rest]


def default_command(engine: Engine) -> list[str]:
    """The engine in this Python's environment, else its program on PATH.

    Raises
    ------
    InputError
        Neither is there.
    """
    if importlib.util.find_spec(engine.name) is not None:
        return [sys.executable, "-m", engine.module]
    program = shutil.which(engine.program[0]) if engine.program else None
    if program is None:
        raise InputError(
            f"{engine.name} is not installed for {sys.executable}: install it there, or give the command "
            "that starts it (--server-command)"
        )
    return [program, *engine.program[1:]]
