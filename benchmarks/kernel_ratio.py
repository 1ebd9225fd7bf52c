"""The kernel beside that of an earlier commit: processor time of both in one process, in turn, and whether they agree.

    python -m benchmarks.kernel_ratio 1c34571~1

Other work on the machine slows both alike. The earlier kernel is taken out of git under another name, and compiled.
"""

from __future__ import annotations

import importlib
import io
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from benchmarks.hours import BUSY, OVERLOAD, ROOMY
from benchmarks.test_speed import kernel_arguments
from loratwin import kernel

FOLDER = "src/loratwin/kernel"
NAME = "earlier_kernel"
ROUNDS = {"busy": (BUSY, 60), "roomy": (ROOMY, 60), "overload": (OVERLOAD, 10)}


def earlier(commit: str, place: Path) -> ModuleType:
    """The kernel of a commit."""
    archive = subprocess.run(["git", "archive", commit, FOLDER], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        for member in files.getmembers():
            source = files.extractfile(member) if member.name.endswith(".py") else None
            if source is not None:
                target = place / NAME / Path(member.name).relative_to(FOLDER)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text(source.read().decode().replace("loratwin.kernel", NAME), encoding="utf-8")
    sys.path.insert(0, str(place))
    return importlib.import_module(NAME)


def converted(value: Any, old: ModuleType) -> Any:
    """An argument as the earlier kernel takes it: without fields that came later."""
    form = getattr(old, type(value).__name__, None)
    if form is None or not hasattr(value, "_fields"):
        return value
    return form(**{name: converted(getattr(value, name), old) for name in form._fields})


def compared(arguments: Any, old: ModuleType, rounds: int) -> tuple[float, float, bool]:
    """Least milliseconds of both, and whether all requests end at the same times."""
    theirs = tuple(converted(each, old) for each in arguments)
    now, then = kernel.run_engine(*arguments), old.run_engine(*theirs)
    same = all(np.array_equal(getattr(now, name), getattr(then, name), equal_nan=True) for name in TIMES)
    taken: dict[ModuleType, list[float]] = {kernel: [], old: []}
    for i in range(rounds):
        pair = ((kernel, arguments), (old, theirs))
        for module, given in pair if i % 2 else pair[::-1]:
            begin = time.process_time()
            module.run_engine(*given)
            taken[module].append(1e3 * (time.process_time() - begin))
    return min(taken[kernel]), min(taken[old]), same


TIMES = ("first_token_s", "finish_s")


def main(commit: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        old = earlier(commit, Path(place))
        for name, (hour, rounds) in ROUNDS.items():
            new_ms, old_ms, same = compared(kernel_arguments(hour), old, rounds)
            agree = "equal to the bit" if same else "NOT equal"
            print(
                f"{name}: {new_ms:.1f} ms, {commit} {old_ms:.1f} ms: {new_ms / old_ms:.2f} times; {agree}", flush=True
            )


if __name__ == "__main__":
    main(sys.argv[1])
