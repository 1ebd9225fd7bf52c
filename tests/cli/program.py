"""Run the program as a user does: in this process, or in one of its own.

A process of its own takes a second to import everything. Every day only those tests pay for it that are about a
process: how it ends, its terminal, its signals, the same bytes from another one. With `LORATWIN_SLOW=1` all do.
"""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from loratwin.cli.app import app
from tests.slow import SLOW

PROGRAM = [sys.executable, "-c", "from loratwin.cli import main; main()"]


def loratwin(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `loratwin ARGUMENTS` to its end; `env` is added to the environment."""
    return (loratwin_process if SLOW else loratwin_here)(*arguments, cwd=cwd, env=env)


def loratwin_process(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run `loratwin ARGUMENTS` in a process of its own; options are those of `subprocess.run`."""
    with pytest.MonkeyPatch.context() as patch:
        _set(patch, env)
        return subprocess.run(
            [*PROGRAM, *arguments], cwd=cwd, capture_output=True, text=True, **({"timeout": 1800} | options)
        )


def loratwin_here(
    *arguments: str, cwd: Path | None = None, env: Mapping[str, str] | None = None, encoding: str = "utf-8"
) -> subprocess.CompletedProcess[str]:
    """Run `loratwin ARGUMENTS` in this process, as if in a terminal of this encoding."""
    out, err = _Output(encoding), _Output(encoding)
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        _set(patch, env)
        patch.setattr(sys, "argv", ["loratwin", *arguments])
        if cwd is not None:
            patch.chdir(cwd)
        with pytest.raises(SystemExit) as ended:
            _program()(prog_name="loratwin")
    return subprocess.CompletedProcess(list(arguments), _exit_code(ended.value), out.text(), err.text())


@cache
def _program() -> Any:
    """What `loratwin.cli.main` calls, made once: typer takes a tenth of a second for the signatures of all commands."""
    return typer.main.get_command(app)


class _Output(io.TextIOWrapper):
    """What is written, as bytes of a pipe."""

    def __init__(self, encoding: str) -> None:
        super().__init__(io.BytesIO(), encoding=encoding)

    def text(self) -> str:
        self.seek(0)
        return self.read()


def _set(patch: pytest.MonkeyPatch, env: Mapping[str, str] | None) -> None:
    for name, value in (env or {}).items():
        patch.setenv(name, value)


def _exit_code(ended: SystemExit) -> Any:
    return ended.code or 0
