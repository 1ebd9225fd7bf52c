"""What import-linter cannot say: the kernel's imports as a list of what is allowed, not of what is forbidden."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import loratwin

PACKAGE = Path(loratwin.__file__).parent
ALLOWED = {"numpy", "numba", "loratwin.errors", "loratwin.kernel", "loratwin.lazy"}


def imported(source: str) -> Iterator[str]:
    """Modules that a source file imports, wherever in it."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def is_allowed(module: str) -> bool:
    """Standard library, or one of the allowed packages and what is in it."""
    parts = module.split(".")
    prefixes = {".".join(parts[: i + 1]) for i in range(len(parts))}
    return parts[0] in sys.stdlib_module_names or bool(prefixes & ALLOWED)


@pytest.mark.parametrize("path", sorted((PACKAGE / "kernel").rglob("*.py")), ids=lambda path: path.name)
def test_the_kernel_imports_numpy_numba_and_what_lies_below_it_only(path: Path) -> None:
    assert [module for module in imported(path.read_text()) if not is_allowed(module)] == []


def test_the_rule_would_notice() -> None:
    source = "import os, pandas\nfrom . import x\ndef f():\n    from loratwin.records import Run\n    import numpy.fft"
    assert [module for module in imported(source) if not is_allowed(module)] == ["pandas", ".", "loratwin.records"]
