"""How the program ends: help at once, one line for bad input, nothing for a reader that went away."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable

import pytest
import typer
from typer.testing import CliRunner

import loratwin as package
from loratwin.cli.app import Commands, app
from loratwin.errors import InputError
from tests.cli.program import PROGRAM, loratwin

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = {"numpy", "numba", "pydantic", "matplotlib", "rich", "yaml", "jinja2", "pyarrow", "scipy"}


def test_version() -> None:
    assert loratwin("--version").stdout == f"loratwin {package.__version__}\n"


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(flag: str) -> None:
    done = loratwin(flag)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_answers_within_three_tenths_of_a_second(command: str | None) -> None:
    def seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = loratwin(*filter(None, [command]), "--help")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert done.returncode == 0
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, and the least of five: the claim is about the program, not about what else the machine does.
    assert min(seconds() for _ in range(5)) < 0.3


def test_nothing_heavy_is_imported_before_a_command_runs() -> None:
    code = "import sys; import loratwin.cli; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not HEAVY & set(loaded)


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--no-such-option"], ["schema", "extra"], []])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    done = loratwin(*arguments)
    assert done.returncode == 2
    assert "Usage: loratwin" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def program_with(command: Callable[[], None]) -> typer.Typer:
    other = typer.Typer(cls=Commands, pretty_exceptions_enable=False)
    other.command("run")(command)
    other.command("idle")(lambda: None)
    return other


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_2() -> None:
    def run() -> None:
        raise InputError("rate: -1,\n  but it must be positive")

    done = CliRunner().invoke(program_with(run), ["run"])
    assert (done.exit_code, done.stdout, done.stderr) == (2, "", "error: rate: -1, but it must be positive\n")


def test_an_interrupt_exits_with_130() -> None:
    def run() -> None:
        raise KeyboardInterrupt

    done = CliRunner().invoke(program_with(run), ["run"])
    assert (done.exit_code, done.stderr) == (130, "interrupted\n")


def test_a_bug_is_not_hidden() -> None:
    def run() -> None:
        raise ZeroDivisionError

    assert isinstance(CliRunner().invoke(program_with(run), ["run"]).exception, ZeroDivisionError)


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen([*PROGRAM, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
