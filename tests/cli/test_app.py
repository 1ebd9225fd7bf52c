"""How the program ends: help at once, one line for bad input, nothing for a reader that went away."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import typer

import loratwin as package
from loratwin.cli.app import Commands, app, main
from loratwin.errors import InputError
from tests.cli.program import PROGRAM, loratwin, loratwin_here
from tests.processes import LIMIT_S
from tests.slow import slow

COMMANDS = sorted(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
HEAVY = {"numpy", "numba", "pydantic", "matplotlib", "rich", "yaml", "jinja2", "pyarrow", "scipy"}


def test_version() -> None:
    assert loratwin("--version").stdout == f"loratwin {package.__version__}\n"


def test_the_module_is_the_command() -> None:
    done = subprocess.run([sys.executable, "-m", "loratwin", "--version"], capture_output=True, text=True)
    assert done.stdout == f"loratwin {package.__version__}\n", done.stderr


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_lists_every_command(flag: str) -> None:
    done = loratwin(flag)
    assert done.returncode == 0
    assert all(f"  {name} " in done.stdout for name in COMMANDS)


MODULES = """
import sys
from loratwin.cli import main
for line in sys.argv[1:]:
    sys.argv[1:] = line.split()
    try:
        main()
    except SystemExit as ended:
        assert not ended.code, line
print(*sys.modules, file=sys.stderr)
"""


def modules_of(*lines: str) -> tuple[str, set[str]]:
    """What command lines print, one after the other in a process of its own, and all modules that it has then."""
    done = subprocess.run([sys.executable, "-c", MODULES, *lines], capture_output=True, text=True, timeout=LIMIT_S)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.split())


def test_help_answers_at_once_since_it_imports_nothing_heavy() -> None:
    printed, modules = modules_of("--help", *(f"{command} --help" for command in COMMANDS))
    assert printed.count("Usage: loratwin") == 1 + len(COMMANDS)
    assert not (HEAVY - {"pydantic"}) & modules  # typer itself needs pydantic, for any option


def test_what_is_only_looked_up_needs_no_compiler() -> None:
    """numba alone takes longer to import than all the rest."""
    printed, modules = modules_of("profiles list", "profiles list --long", "llm show llama-3.1-8b-instruct")
    assert "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct" in printed.split() and "KV per token" in printed
    assert "loratwin.perf.step_time" in modules and not {"numba", "scipy"} & modules


COMPLETE = """
import sys
from loratwin.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("line", "expected"), [("loratwin ca", {"calibrate"}), ("loratwin calibrate server --le", {"--learn"})]
)
def test_a_shell_completes_commands_and_options_at_once(line: str, expected: set[str]) -> None:
    """As bash asks at each Tab."""
    asked = {"_LORATWIN_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(line.split()) - 1)}
    done = subprocess.run([sys.executable, "-c", COMPLETE], capture_output=True, text=True, env={**os.environ, **asked})
    assert set(done.stdout.split()) == expected, done.stderr
    assert not (HEAVY - {"pydantic"}) & set(done.stderr.split())


def test_the_completion_of_a_shell_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the shell that typer finds among our parents: where tests are started without one, there is none."""
    monkeypatch.setattr("shellingham.detect_shell", lambda *_: ("bash", "/bin/bash"))
    done = loratwin_here("--show-completion", "bash")
    assert done.returncode == 0 and "_LORATWIN_COMPLETE=complete_bash" in done.stdout


@pytest.mark.parametrize("arguments", [["no-such-command"], ["--no-such-option"], ["schema", "extra"]])
def test_usage_errors_exit_with_2(arguments: list[str]) -> None:
    done = loratwin(*arguments)
    assert done.returncode == 2
    assert "Usage: loratwin" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr


def test_without_a_command_there_is_help() -> None:
    done = loratwin()
    assert all(name in done.stdout + done.stderr for name in COMMANDS)


def run_program(error: BaseException) -> int | str | None:
    """Exit code of a program with one command that raises this."""
    program = typer.Typer(cls=Commands, pretty_exceptions_enable=False)

    @program.command()
    def run() -> None:
        raise error

    @program.command()
    def idle() -> None:
        """A second command: typer makes no group of one."""

    with pytest.raises(SystemExit) as ended:
        program(["run"])
    return ended.value.code


def test_an_error_of_ours_is_one_line_on_stderr_and_exit_code_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(InputError("rate: -1,\n  but it must be positive")) == 2
    assert capsys.readouterr() == ("", "error: rate: -1, but it must be positive\n")


@pytest.mark.parametrize("where", ["typer.main.get_command", "typer.core.TyperGroup.make_context"])
def test_an_interrupt_before_a_command_begins_is_said_as_well(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], where: str
) -> None:
    """As on a busy machine, where making the commands takes seconds."""

    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(where, interrupted)
    monkeypatch.setattr(sys, "argv", ["loratwin", "profiles", "list"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert (ended.value.code, capsys.readouterr().err) == (130, "interrupted\n")


def test_an_interrupt_exits_with_130(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_program(KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_an_interrupt_inside_pydantic_exits_with_130_too(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("Error calling function `_short`: KeyboardInterrupt: ")
    error.__cause__ = KeyboardInterrupt()
    assert run_program(error) == 130
    assert capsys.readouterr() == ("", "interrupted\n")


def test_a_bug_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        run_program(ZeroDivisionError())


def test_a_reader_that_goes_away_is_no_error() -> None:
    with subprocess.Popen([*PROGRAM, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize(
    "arguments",
    [
        ["schema"],
        pytest.param(["examples"], marks=slow),
        pytest.param(["--version"], marks=slow),
        pytest.param(["plan", "--help"], marks=slow),
    ],
)
def test_output_that_finds_no_space_is_one_line(arguments: list[str]) -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*PROGRAM, *arguments], stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (74, "error: cannot write: No space left on device\n")


def test_another_error_of_the_system_is_not_hidden() -> None:
    with pytest.raises(OSError, match="no such thing"):
        run_program(OSError(errno.ENOENT, "no such thing"))


def test_without_a_standard_output_a_command_ends_as_ever() -> None:
    program = "import sys; sys.stdout = None; sys.argv[1:] = ['schema']; from loratwin.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
