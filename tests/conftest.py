"""What holds for all tests: how many random examples they try, and that workers compile the kernel once."""

from __future__ import annotations

import fcntl
import os
import sys
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from tests.slow import SLOW

# Random examples: the same few every day, other and many more with LORATWIN_SLOW=1 (`slow.examples` for single tests).
# None has a deadline and none may be too slow to be drawn: both are of the wall clock, which a busy machine fails.
_PATIENT: dict[str, Any] = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("everyday", derandomize=True, max_examples=100, **_PATIENT)
settings.register_profile("thorough", max_examples=1000, print_blob=True, **_PATIENT)
settings.load_profile("thorough" if SLOW else "everyday")


def pytest_xdist_auto_num_workers() -> int:
    """As many processes as cores, and at least four: many tests wait for servers that they have started."""
    return max(4, os.cpu_count() or 1)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Where workers of pytest-xdist start without a compiled kernel, one compiles it and the others wait."""
    if os.environ.get("PYTEST_XDIST_WORKER") and session.items and "loratwin.kernel" in sys.modules:
        _compile_the_kernel()


def _compile_the_kernel() -> None:
    from loratwin.kernel import is_compiled, run_engine
    from loratwin.kernel.jit import cache_folder
    from tests.kernel.strategies import large_scenario

    if not os.access(cache_folder(), os.W_OK):
        return  # each compiles it for itself
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not is_compiled():
            run_engine(*large_scenario(seed=0))
