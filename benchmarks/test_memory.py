"""Peak memory of a process that simulates the hour in deep overload. tracemalloc would not see numba's share of it."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

TARGET_MB = 400

CODE = """
import resource, sys
from benchmarks.hours import MINUTE, OVERLOAD, PROFILE
from loratwin.metrics import summarize
from loratwin.simulate import simulate

for hour in (MINUTE, OVERLOAD):
    summarize(simulate(hour.draw(), PROFILE, hour.config))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the unit of ru_maxrss differs between systems")
def test_peak_memory_of_the_overload_hour() -> None:
    assert resource.RUSAGE_SELF == 0
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", CODE], cwd=root, capture_output=True, text=True, check=True)
    minute_mb, overload_mb = (int(line) / 1024 for line in done.stdout.split())
    print(f"\npeak memory: {overload_mb:.0f} MB, of which {minute_mb:.0f} MB for Python, numba and a minute's run")
    assert overload_mb < TARGET_MB
