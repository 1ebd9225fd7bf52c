"""The application: which commands there are, and how a run of the program ends.

Exit codes: 0 done; 2 the input cannot be used (one line on stderr, no traceback); 130 interrupted; 141 whoever read our
output went away. Anything else is a bug of ours and shows its traceback.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from loratwin import __version__
from loratwin.cli.commands import (
    adapters,
    bench,
    calibrate,
    examples,
    learn,
    llm,
    plan,
    profiles,
    report,
    schema,
    simulate,
    validate,
)
from loratwin.errors import LoratwinError

INPUT_ERROR, INTERRUPTED, READER_GONE = 2, 130, 141


class Commands(TyperGroup):
    """The group of all commands; turns what a command raises into the end of the program."""

    def invoke(self, ctx: Any) -> Any:
        """Run a command, translating its errors before typer gets to see them."""
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()  # here, where a reader that went away can still be handled
            return result
        except LoratwinError as error:
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
            _exit(INPUT_ERROR)
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            _exit(INTERRUPTED)
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes once more at its end
            _exit(READER_GONE)


def _exit(code: int) -> NoReturn:
    raise SystemExit(code)


# rich is left out of help and usage errors: it would triple the time that `--help` takes. Tables and progress of the
# commands use it.
app = typer.Typer(
    cls=Commands,
    name="loratwin",
    rich_markup_mode=None,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

for command in (plan.plan, simulate.simulate, bench.bench, report.report, examples.examples, schema.schema):
    app.command()(command)
app.add_typer(profiles.app, name="profiles")
app.add_typer(calibrate.app, name="calibrate")
app.add_typer(validate.app, name="validate")
app.add_typer(learn.app, name="learn")
app.add_typer(llm.app, name="llm")
app.add_typer(adapters.app, name="adapters")


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
    app(prog_name="loratwin")
