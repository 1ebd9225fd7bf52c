"""The cache of the compiled kernel: where it is, and what happens without one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from loratwin.kernel import jit
from tests.slow import slow

RUN = """
from loratwin.kernel import is_compiled, run_engine
from tests.kernel.strategies import large_scenario
before = is_compiled()
run_engine(*large_scenario(0))
print(before, is_compiled())
"""


def run(cache: Path) -> str:
    """Run the kernel in a process of its own with this cache."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    root = Path(__file__).parents[2]
    return subprocess.run(
        [sys.executable, "-c", RUN], cwd=root, env=environment, capture_output=True, text=True, check=True
    ).stdout


@slow
def test_the_kernel_is_compiled_once(tmp_path: Path) -> None:
    assert run(tmp_path) == "False True\n"
    (folder,) = tmp_path.iterdir()
    assert len(list(folder.glob("**/engine.advance-*.nbc"))) == 1
    assert run(tmp_path) == "True True\n"
    assert len(list(folder.glob("**/engine.advance-*.nbc"))) == 1


def test_a_changed_file_has_a_cache_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for file in Path(jit.__file__).parent.glob("*.py"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    monkeypatch.setattr(jit, "__file__", str(tmp_path / "jit.py"))
    same = jit.cache_folder()
    (tmp_path / "seats.py").write_text("# changed")
    assert jit.cache_folder() != same


@slow
def test_without_a_place_for_the_cache_the_kernel_runs_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    assert run(tmp_path / "file") == "False False\n"
