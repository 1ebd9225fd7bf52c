"""The application: which commands there are, and how a run of the program ends.

Exit codes: 0 done; 2 the input cannot be used; 74 the disk takes no more (both one line on stderr, no traceback); 130
interrupted; 141 whoever read our output went away. Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from importlib import import_module
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from loratwin.cli.options import with_json_value
from loratwin.errors import LoratwinError, SeveralErrors
from loratwin.version import __version__

INPUT_ERROR, NOT_WRITTEN, INTERRUPTED, READER_GONE = 2, 74, 130, 141  # 74: EX_IOERR of sysexits.h

_NO_SPACE = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""What a disk says that takes no more, and no bug does."""


class Commands(TyperGroup):
    """The group of all commands; turns what a command raises into the end of the program."""

    def main(self, args: Sequence[str] | None = None, *more: Any, **kwargs: Any) -> Any:
        """Run the program; here and not in `invoke`, since help and version are written before a command is."""
        try:
            return super().main(with_json_value(sys.argv[1:] if args is None else args), *more, **kwargs)
        except OSError as error:
            if error.errno not in _NO_SPACE:
                raise
            with suppress(OSError):  # stderr may lie on the same disk
                print(f"error: cannot write: {error.strerror}", file=sys.stderr)
            _drop_output()
            _exit(NOT_WRITTEN)

    def make_context(self, *words: Any, **more: Any) -> Any:
        """Read the command line; who interrupts it is answered as well."""
        try:
            return super().make_context(*words, **more)
        except KeyboardInterrupt:
            _interrupted()

    def invoke(self, ctx: Any) -> Any:
        """Run a command, translating its errors before typer gets to see them."""
        try:
            result = super().invoke(ctx)
            if sys.stdout is not None:  # as of a process that was started without one
                sys.stdout.flush()  # here, where a reader that went away can still be handled
            return result
        except LoratwinError as error:
            for each in error.errors if isinstance(error, SeveralErrors) else (error,):
                print(f"error: {' '.join(str(each).split())}", file=sys.stderr)
            _exit(INPUT_ERROR)
        except KeyboardInterrupt:
            _interrupted()
        except BrokenPipeError:
            _drop_output()
            _exit(READER_GONE)
        except Exception as error:
            if isinstance(error.__cause__, KeyboardInterrupt):  # it came in a function that pydantic had called
                _interrupted()
            raise


def _drop_output() -> None:
    """Send what is left to nowhere: Python flushes once more at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _interrupted() -> NoReturn:
    print("interrupted", file=sys.stderr)
    _exit(INTERRUPTED)


def _exit(code: int) -> NoReturn:
    raise SystemExit(code)


# rich is left out of help and usage errors: it would triple the time that `--help` takes. Tables and progress of the
# commands use it.
app = typer.Typer(
    cls=Commands,
    name="loratwin",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

COMMANDS = ("plan", "simulate", "memory", "bench", "offline", "compare", "figures", "examples", "schema")
GROUPS = (
    "report", "profiles", "calibrate", "validate", "learn", "llm", "adapters", "experiments", "advise", "fleet",
    "traffic",
)  # fmt: skip
"""Modules of `cli.commands`, in the order of `--help`: with one command of their name, and with an `app` of several."""

for name in COMMANDS:
    app.command()(getattr(import_module(f"loratwin.cli.commands.{name}"), name))
for name in GROUPS:
    app.add_typer(import_module(f"loratwin.cli.commands.{name}").app, name=name)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"loratwin {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Plan vLLM servers with many LoRA adapters: simulate an hour in milliseconds, get the configuration to run."""


def main() -> None:
    """Entry point of the `loratwin` program."""
    try:
        app(prog_name="loratwin")
    except KeyboardInterrupt:  # while typer makes the commands
        _interrupted()
