"""Nothing outside the engines' room decides by an engine's name: it asks the `Engine`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

import loratwin
from tests.slow import slow

SOURCE = Path(loratwin.__file__).parent
ROOMS = ("engines/", "probe/server/")  # the room itself; a plugin of vLLM, which runs inside of it

ALLOWED = {
    "calibrate/results/forms.py": {"sglang"},  # a value in another tool's file
    "fleet/targets.py": {  # keys and values of other systems' files
        "vllm",
        "vllmConfig",
        "vllmServe",
        "dynamo.vllm",
        "nvcr.io/nvidia/ai-dynamo/vllm-runtime:",
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING",
    },
    "offline/measure.py": {"loratwin_vllm_probe.offline"},  # the plugin's
    "perf/operations/build.py": {"vllm_graph"},  # a column of measured operations
    "plan/export.py": {"vllm_serve"},  # a key of the file format
    "probe/launch.py": {"loratwin_vllm_probe.steps.Scheduler", "loratwin_vllm_probe.loads.WorkerProbe"},  # the plugin's
}
_DECIDES = re.compile(r"vllm|sglang|--(enable-lora|lora-modules|lora-paths)\b", re.IGNORECASE)
_VERSION = re.compile(r"([\w.-]+/)?vllm-\d+\.\d+\.\d+(/[\w.-]+)?")


def literals(tree: ast.Module) -> Iterator[ast.Constant]:
    """Strings that are no documentation."""
    said = {
        id(part.value) for part in ast.walk(tree) if isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant)
    }
    for part in ast.walk(tree):
        if isinstance(part, ast.Constant) and isinstance(part.value, str) and id(part) not in said:
            yield part


def deciding(text: str) -> bool:
    """A name, an option, a metric or a pattern of an engine; no sentence that a person reads, no version or profile."""
    return " " not in text.strip() and _VERSION.fullmatch(text) is None and _DECIDES.search(text) is not None


@pytest.mark.parametrize(
    ("text", "decides"),
    [("vllm", True), ("sglang-0.5", True), ("vllm:num_requests_running", True), (r"vllm-0\.([0-8])", True),
     ("--enable-lora", True), ("VLLM_API_KEY", True), ("start vLLM with --enable-lora", False),
     ("h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct", False), ("vllm-0.8.5", False), ("vllm-", True), ("lora", False)],
)  # fmt: skip
def test_what_decides(text: str, decides: bool) -> None:
    assert deciding(text) is decides


@slow
def test_no_literal_outside_the_room_decides_by_an_engine() -> None:
    found = []
    for path in sorted(SOURCE.rglob("*.py")):
        name = path.relative_to(SOURCE).as_posix()
        if not name.startswith(ROOMS):
            strings = literals(ast.parse(path.read_text(encoding="utf-8")))
            wrong = [part for part in strings if deciding(str(part.value)) and part.value not in ALLOWED.get(name, ())]
            found += [f"{name}:{part.lineno}: {part.value!r}" for part in wrong]
    assert not found, "\n".join(found)
