"""What holds for all tests: how many random examples they try, and that workers compile each kernel once."""

from __future__ import annotations

import fcntl
import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.slow import SLOW

os.environ.setdefault("PYTHONFAULTHANDLER", "1")  # a child that hangs says where, when it is aborted

# Images of containers often set this; the workers and a hundred children would then compile all modules anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# Who is started in the background by a script ignores Ctrl-C, and so would all children, also those that are sent it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Random examples: the same few every day, other and many more with LORATWIN_SLOW=1 (`slow.examples` for single tests).
# None has a deadline and none may be too slow to be drawn: both are of the wall clock, which a busy machine fails.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("everyday", derandomize=True, max_examples=40, **_PATIENT)
settings.register_profile("thorough", max_examples=1000, print_blob=True, **_PATIENT)
settings.load_profile("thorough" if SLOW else "everyday")


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as cores, and at least three: many tests wait for servers that they have started."""
    return max(3, os.cpu_count() or 1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where workers of pytest-xdist start without compiled kernels, each is compiled by one and the others wait."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "")
    if worker and session.items and "loratwin.kernel.engine" in sys.modules:
        from loratwin.kernel.jit import cache_folder

        if not os.access(cache_folder(), os.W_OK):
            return  # each compiles them for itself
        kernels = [_compile_the_engine]
        if any("fleet" in item.nodeid for item in session.items):
            kernels.append(_compile_the_fleet)
        for compile_it in kernels[:: -1 if int(worker.removeprefix("gw")) % 2 else 1]:  # two of them at a time
            with _one_at_a_time(cache_folder() / f"lock{compile_it.__name__}"):
                compile_it(cache_folder())


@contextmanager
def _one_at_a_time(path: Path, limit_s: float = 600.0) -> Iterator[None]:
    """Hold a lock among processes; who has waited for the limit goes on without, and compiles for itself."""
    deadline = time.monotonic() + limit_s
    with path.open("w") as lock:
        while time.monotonic() < deadline:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.1)
        yield


def _compile_the_engine(folder: Path) -> None:
    from loratwin.kernel import is_compiled, run_engine
    from tests.kernel.strategies import large_scenario

    if not is_compiled():
        run_engine(*large_scenario(seed=0))


def _compile_the_fleet(folder: Path) -> None:
    from loratwin.kernel import RouterRule
    from tests.kernel.strategies import large_scenario
    from tests.kernel.test_fleet import alone

    if not any(folder.glob("*/fleet.serve-*.nbi")):
        alone(large_scenario(seed=0), RouterRule(0), 0.0)
