"""What is not installed is said in one line."""

from __future__ import annotations

import json
import sys

import pytest

from loratwin.errors import InputError
from loratwin.extras import required


def test_what_is_there_is_given() -> None:
    assert required("json", "a record", "parquet") is json


@pytest.mark.parametrize(
    ("module", "package"), [("sklearn", "scikit-learn"), ("pyarrow", "pyarrow"), ("pyarrow.parquet", "pyarrow")]
)
def test_what_is_missing_is_named_as_it_is_installed(
    module: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module.split(".")[0], None)
    monkeypatch.delitem(sys.modules, "pyarrow.parquet", raising=False)
    with pytest.raises(InputError) as refused:
        required(module, "this", "learn")
    assert str(refused.value) == f"this needs {package}: pip install 'loratwin[learn]'"


def test_a_library_that_does_not_load_says_why(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "broken_library.py").write_text("import nothing_of_the_kind\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"needs broken_library \(No module named 'nothing_of_the_kind'\): pip"):
        required("broken_library", "this", "learn")
