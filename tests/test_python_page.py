"""docs/python.md and the example notebook, executed: the server at port 8000 is one of known timing at another port."""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import pytest

import loratwin
from tests.bench.servers import timed_server
from tests.markdown import ROOT, blocks

TWO_SECONDS = "workload.model_copy(update={'window_s': 2.0})"
PAGE, NOTEBOOK = "docs/python.md", "docs/first-steps.ipynb"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with the page's workload: ten minutes are two to simulate, and two seconds to measure."""
    (workload,) = blocks(PAGE, "yaml")
    (tmp_path / "traffic.yaml").write_text(workload.replace("600", "120"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def names(folder: Path) -> list[str]:
    return [name for group in loratwin.load_workload(folder / "traffic.yaml").groups for name in group.adapter_names()]


def test_the_page_has_five_tasks() -> None:
    assert len(blocks(PAGE, "python")) == 5


def test_every_name_of_the_front_door_stands_in_the_page() -> None:
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    assert [name for name in loratwin.__all__ if name not in text] == []


def test_the_tasks_run_one_after_the_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("pandas")
    scope: dict[str, Any] = {}
    said = []
    with timed_server(folder, "llm", *names(folder)) as server:
        for block in blocks(PAGE, "python"):
            block = block.replace("measure(loratwin.draw(workload,", f"measure(loratwin.draw({TWO_SECONDS},")
            exec(block.replace("http://127.0.0.1:8000", server.url), scope)
            said.append(capsys.readouterr().out)
    plan, sweep, slow, beside, advice = said
    assert plan.startswith("One GPU serves") and "ttft_p99=2s" in plan
    assert "max_loras 24" in sweep and len(sweep.splitlines()) > 40
    assert slow.count("customer-") == 5
    assert "measured by the twin" in beside and "INVALID" not in beside
    assert len(advice.splitlines()) == 3 and "adapters" in advice
    for page in ("plan.html", "measured.html"):
        assert (folder / page).read_text(encoding="utf-8").lower().startswith("<!doctype html>")


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
