"""The faces of packages: every name is there, documented, and costs nothing before it is asked for."""

from __future__ import annotations

import ast
import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import loratwin
from loratwin import records
from tests.processes import LIMIT_S

DESCRIBED = ["loratwin", "loratwin.bench", "loratwin.calibrate", "loratwin.learn", "loratwin.report"]
LAZY = [*DESCRIBED, "loratwin.kernel"]  # the arrays that go into the kernel are described where each stands


@pytest.mark.parametrize("name", LAZY)
def test_every_name_is_there_and_typed_as_it_is(name: str) -> None:
    """What type checkers see under TYPE_CHECKING is what is imported when it is asked for."""
    package = import_module(name)
    assert dir(package) == sorted(package.__all__)
    assert package.__file__ is not None
    tree = ast.parse(Path(package.__file__).read_text())
    (typed,) = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    imports = [node for node in typed.body if isinstance(node, ast.ImportFrom)]
    seen = {alias.asname or alias.name: (node.module, alias.name) for node in imports for alias in node.names}
    assert sorted(seen) == sorted(package.__all__)
    for known, (module, defined) in seen.items():
        assert getattr(package, known) is getattr(import_module(str(module)), defined)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing
    modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
    assert not modules & set(package.__all__)  # a module that was imported would hide what is named as it is


FRONT_DOOR = [
    "EngineConfig", "GivenServers", "LaunchedServers", "LoratwinError", "Run", "ServerSource", "advise_batch",
    "advise_replicas", "as_text", "batch_grid", "calibrate_server", "compare", "draw", "find_plan", "find_sweep",
    "kernel_report", "load_profile", "load_run", "load_workload", "make_figures", "measure", "measure_offline",
    "plan_fleet", "predict",
    "save_run", "server_configs", "server_memory", "simulate_run", "summarize", "sweep", "write_report",
]  # fmt: skip


def test_the_front_door() -> None:
    """A name that goes, or is called otherwise, breaks notebooks: CHANGELOG.md must say so."""
    assert loratwin.__all__ == FRONT_DOOR
    assert re.fullmatch(r"\d+\.\d+\.\d+", loratwin.__version__)


@pytest.mark.parametrize("name", FRONT_DOOR)
def test_what_the_front_door_leads_to_says_what_comes_back_and_what_goes_wrong(name: str) -> None:
    thing = getattr(loratwin, name)
    text = inspect.getdoc(thing) or ""
    if inspect.isclass(thing):
        return
    assert "Raises\n------\n" in text or name in CANNOT_FAIL
    assert "Returns\n-------\n" in text or "; the path" in text.split("\n")[0]


CANNOT_FAIL = {"summarize"}


def test_importing_the_front_door_imports_nothing_behind_it() -> None:
    program = "import sys; before = set(sys.modules); import loratwin; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    assert {name for name in done.stdout.split() if name.startswith("loratwin")} == {
        "loratwin", "loratwin.lazy", "loratwin.version"
    }  # fmt: skip
    assert not set(done.stdout.split()) & {"numpy", "pydantic", "yaml"}


NAMED = [getattr(import_module(name), thing) for name in DESCRIBED for thing in import_module(name).__all__]
PUBLIC = [thing for thing in NAMED if inspect.isclass(thing) or inspect.isfunction(thing)]
RECORDS = [getattr(records, name) for name in records.__all__ if name not in ("EngineConfig", "RunKind")]


@pytest.mark.parametrize("thing", [*PUBLIC, *RECORDS], ids=lambda thing: thing.__name__)
def test_what_takes_arguments_says_what_they_are(thing: Any) -> None:
    """Several parameters are described each; one alone is what the first line is about."""
    text = inspect.getdoc(thing)
    assert text
    if inspect.isclass(thing) and issubclass(thing, Exception):
        return
    parameters = list(inspect.signature(thing).parameters)
    _, _, section = text.partition("Parameters\n----------\n")
    described = {
        word for line in section.split("\n") if re.match(r"\S", line) for word in line.replace("*", "").split(", ")
    }
    assert [name for name in parameters if name not in described and len(parameters) > 1] == []


def test_the_load_clients_process_imports_none_of_what_starts_servers() -> None:
    program = "import loratwin.bench.worker.__main__, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=LIMIT_S, check=True)
    loaded = set(done.stdout.split())
    assert "loratwin.bench.worker.load" in loaded
    rooms = {f"loratwin.{room}" for room in ("launch", "probe", "synthetic", "telemetry", "calibrate")}
    assert not loaded & {*rooms, "prometheus_client"}
