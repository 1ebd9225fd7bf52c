"""The Python example of docs/reference/simulate.md, executed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "simulate.md"


def test_the_example_runs(capsys: pytest.CaptureFixture[str]) -> None:
    (code,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    exec(compile(code, str(PAGE), "exec"), {"__name__": "__main__"})
    shown = capsys.readouterr().out.splitlines()
    assert len(shown) == 2 + 16
    assert float(shown[0]) > 0
    assert shown[-1].startswith("128 ")
