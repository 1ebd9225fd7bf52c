"""The gate around a literal scheduler: all prompts first, then all decode."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from loratwin.probe.log import _steps
from tests.probe.engine import Clock, OldScheduler, Request, Scheduler


@pytest.mark.parametrize("base", [Scheduler, OldScheduler])
def test_all_prompts_then_all_decode(
    base: type,
    server_side: Callable[[str], ModuleType],
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, phases, steps = Clock(), server_side("phases"), server_side("steps")
    monkeypatch.setattr(steps, "time", clock)
    scheduler = steps.probed(phases.gated(base))(clock=clock)
    for number in range(6):
        scheduler.add(Request(f"r{number}", 60, 5, adapter=number % 3))
    phases.Gate.open = False
    for _ in range(40):
        if all(request.num_outputs for request in scheduler.requests.values()):
            break
        _step(scheduler)
    assert [request.num_outputs for request in scheduler.requests.values()] == [1] * 6
    phases.Gate.open = True
    while scheduler.requests:
        _step(scheduler)
    scheduler.shutdown()
    rows = _steps(log, 0.0, 0.0, float("inf"))
    prompts = rows["prefill_tokens"] > 0
    first_decode = int(prompts.argmin())
    assert first_decode > 1 and not prompts[first_decode:].any()
    assert (rows["decode_requests"][:first_decode] == 0).all() and (rows["decode_requests"][first_decode:] == 6).all()
    assert rows["prefill_tokens"].sum() == 6 * 60 and rows["preemptions"].sum() == 0


def test_prompts_that_cannot_be_computed_end_it(
    server_side: Callable[[str], ModuleType],
    log: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, phases, steps = Clock(), server_side("phases"), server_side("steps")
    monkeypatch.setattr(steps, "time", clock)
    scheduler = steps.probed(phases.gated(Scheduler))(clock=clock, blocks=9)
    for number in range(4):
        scheduler.add(Request(f"r{number}", 60, 5, adapter=0))
    phases.Gate.open = False
    try:
        with pytest.raises(RuntimeError, match="prompts wait and none can be scheduled"):
            for _ in range(20):
                _step(scheduler)
    finally:
        phases.Gate.open = True


def _step(scheduler: object) -> None:
    output = scheduler.schedule()  # type: ignore[attr-defined]
    scheduler.clock.now += 0.01  # type: ignore[attr-defined]
    scheduler.update_from_output(output, None)  # type: ignore[attr-defined]
