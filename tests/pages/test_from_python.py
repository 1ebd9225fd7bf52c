"""docs/python.md names the whole front door (what it shows runs in `test_pages`), and the example notebook runs."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import loratwin
from tests.markdown import ROOT, blocks

PAGE, NOTEBOOK = "docs/python.md", "docs/first-steps.ipynb"


def test_the_page_has_five_tasks() -> None:
    assert len(blocks(PAGE, "python")) == 5


def test_every_name_of_the_front_door_stands_in_the_page() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert [name for name in loratwin.__all__ if name not in text] == []


# --- the notebook


def cells(kind: str) -> list[str]:
    document = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    assert document["nbformat"] == 4
    return ["".join(cell["source"]) for cell in document["cells"] if cell["cell_type"] == kind]


def shown(source: str, scope: dict[str, Any]) -> Any:
    """Execute a cell; what a notebook shows below it: the value of its last line, if that is an expression."""
    body = ast.parse(source).body
    last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), NOTEBOOK, "exec"), scope)
    if not isinstance(last, ast.Expr):
        return None
    value = eval(compile(ast.Expression(last.value), NOTEBOOK, "eval"), scope)
    return value._repr_html_() if hasattr(value, "_repr_html_") else repr(value)


def test_the_notebook_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pandas")
    monkeypatch.chdir(tmp_path)
    scope: dict[str, Any] = {}
    outputs = [shown(source, scope) for source in cells("code")]
    assert any(isinstance(output, str) and "One GPU serves" in output for output in outputs)
    assert sum(output is not None for output in outputs) >= 4


def test_the_notebook_keeps_no_outputs() -> None:
    """They would be those of another version, and of whoever saved it last."""
    document = json.loads((ROOT / NOTEBOOK).read_text(encoding="utf-8"))
    code = [cell for cell in document["cells"] if cell["cell_type"] == "code"]
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in code)
