"""How much of the machine others use."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import pytest

from loratwin.launch import machine
from loratwin.launch.machine import busy_share, share_between

BEFORE = "cpu  1000 10 200 5000 100 0 10 30 7 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"
AFTER = "cpu  1040 10 210 5120 110 0 15 45 9 0\ncpu0 1 1 1 1 1 1 1 1 1 1\n"


def test_idle_and_waiting_for_a_disk_are_not_busy() -> None:
    # busy: user 40, system 10, soft interrupts 5, stolen 15; else: idle 120, iowait 10
    assert share_between(BEFORE, AFTER) == pytest.approx(70 / 200)
    assert isnan(share_between(BEFORE, BEFORE))


@pytest.mark.skipif(not machine._STAT.exists(), reason="this system has no /proc/stat")
def test_a_real_machine_tells() -> None:
    assert isnan(share := busy_share(0.1)) or 0 <= share <= 1


def test_a_system_that_does_not_tell_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_STAT", Path("/proc/no-such-file"))
    assert isnan(busy_share(0.1))
