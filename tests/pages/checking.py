"""What can be said of a block without running it: that it is one, and that the program knows all its words."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from loratwin.workload.files import parse_spec
from tests.cli.program import loratwin_here
from tests.pages.blocks import Block, lines


def check(block: Block) -> None:
    """Fail, with the place, on a block that nobody could run anywhere."""
    checks = {"bash": _check_shell, "python": _check_python, "yaml": _check_workload}
    if block.language in checks:
        checks[block.language](block)


def words_of(line: str) -> list[str]:
    """The words of a command that calls the program, without where its output goes; none of another command."""
    words = shlex.split(line, comments=True)
    words = words[: words.index(">")] if ">" in words else words
    return words[1:] if words and Path(words[0]).name == "loratwin" else []


def _check_shell(block: Block) -> None:
    parsed = subprocess.run(["bash", "-n"], input=block.code, capture_output=True, text=True)
    assert parsed.returncode == 0, (block.place, parsed.stderr)
    for line in lines(block.code):
        for part in re.split(r"&&", line):
            check_words(words_of(part), block.place)


def check_words(words: list[str], place: str) -> None:
    """Words are read before `--help` is obeyed."""
    if words:
        done = loratwin_here(*words, "--help")
        assert done.returncode == 0, (place, done.stderr)


def _check_workload(block: Block) -> None:
    if "path:" not in block.code:  # that file is looked for; the block is executed where it is there
        parse_spec(yaml.safe_load(block.code))


def _check_python(block: Block) -> None:
    tree = ast.parse(block.code, block.place)
    names: dict[str, Any] = {}
    imports = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom))]
    exec(compile(ast.Module(list(imports), []), block.place, "exec"), names)
    for call in _calls(tree):
        function = _named(call.func, names)
        if function is not None and not inspect.isbuiltin(function):  # those tell no signature
            arguments = {str(word.arg): word.value for word in call.keywords}
            inspect.signature(function).bind(*call.args, **arguments)


def _calls(tree: ast.AST) -> Iterator[ast.Call]:
    """All calls but those with a number of arguments that only running tells."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and not any(isinstance(argument, ast.Starred) for argument in node.args):
            yield node


def _named(function: ast.expr, names: dict[str, Any]) -> Any:
    """What is called, if the block imported it: a name, or a name of a module."""
    text = ast.unparse(function)
    if re.fullmatch(r"[\w.]+", text) and text.split(".")[0] in names:
        return eval(text, names)
    return None
