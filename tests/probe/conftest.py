"""The server's side of the probe, imported afresh for each test, with a folder to write into."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from loratwin.probe import server_arguments


@pytest.fixture
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder for the log; the environment is as `server_arguments` wants it."""
    _, environment = server_arguments(tmp_path / "log")
    monkeypatch.syspath_prepend(environment["PYTHONPATH"].split(":")[0])
    monkeypatch.setenv("LORATWIN_PROBE_LOG", environment["LORATWIN_PROBE_LOG"])
    return tmp_path / "log"


@pytest.fixture
def server_side(log: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Imports a module of `loratwin_vllm_probe` as a server would; vLLM is an empty module unless a test made one."""
    if "vllm" not in sys.modules:
        vllm = ModuleType("vllm")
        vllm.__version__ = "0.0.1"  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "vllm", vllm)
    yield lambda name: importlib.import_module(f"loratwin_vllm_probe.{name}")
    for name in [name for name in sys.modules if name.startswith("loratwin_vllm_probe")]:
        del sys.modules[name]
