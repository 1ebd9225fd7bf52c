"""Adapter loads in the worker: which step they delayed, and how long they took."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from loratwin.probe import read_loads, read_notes, read_steps
from tests.probe.engine import Clock, Request, Scheduler


class WorkerWrapperBase:
    """Its worker loads what a step asks for: ("disk" or "slot", adapter)."""

    def __init__(self, clock: Clock) -> None:
        self.lora, self.clock = WorkerLoRAManager(clock), clock

    def execute_model(self, scheduler_output: Any) -> str:
        for kind, adapter in getattr(scheduler_output, "wanted", ()):
            if kind == "disk":
                self.lora._load_adapter(SimpleNamespace(lora_int_id=adapter))
            else:
                self.lora.manager.activate_adapter(adapter)
        return "output"


class LoRAModelManager:
    def __init__(self, clock: Clock) -> None:
        self.active: set[int] = set()
        self.clock = clock

    def activate_adapter(self, lora_id: int) -> bool:
        if lora_id in self.active:
            return False
        self.clock.now += 0.25
        self.active.add(lora_id)
        return True


class WorkerLoRAManager:
    def __init__(self, clock: Clock) -> None:
        self.manager, self.clock = LoRAModelManager(clock), clock

    def _load_adapter(self, lora_request: Any) -> str:
        if lora_request.lora_int_id == 13:
            raise ValueError("no such adapter")
        self.clock.now += 0.5
        return "adapter"


@pytest.fixture
def worker(server_side: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> WorkerWrapperBase:
    """A worker of a vLLM whose classes the probe has wrapped."""
    clock = Clock()
    for name, owner in (
        ("vllm.v1.worker.worker_base", WorkerWrapperBase),
        ("vllm.lora.worker_manager", WorkerLoRAManager),
        ("vllm.lora.model_manager", LoRAModelManager),
    ):
        copied = type(owner.__name__, (), dict(vars(owner)))  # the wrappers must not outlive the test
        monkeypatch.setitem(sys.modules, name, SimpleNamespace(**{owner.__name__: copied}))
        monkeypatch.setitem(globals(), owner.__name__, copied)
    monkeypatch.setattr(server_side("loads"), "time", clock)
    return WorkerWrapperBase(clock)


def flush(server_side: Callable[[str], ModuleType]) -> None:
    server_side("loads")._loads._file.flush()


def test_loads_belong_to_their_step(
    worker: WorkerWrapperBase, server_side: Any, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_side("steps"), "time", worker.clock)
    worker.lora.manager.activate_adapter(9)  # between steps, as /v1/load_lora_adapter does
    scheduler = server_side("steps").probed(Scheduler)(clock=worker.clock)
    scheduler.add(Request("r", 10, 3, 1))
    for wanted in [("disk", 1), ("slot", 1)], [("slot", 1)], [("slot", 2), ("slot", 3)]:
        output = scheduler.schedule()
        output.wanted = wanted
        assert worker.execute_model(output) == "output"
        scheduler.update_from_output(output)
    worker.lora.manager.activate_adapter(10)
    scheduler.shutdown()
    flush(server_side)
    steps, loads = read_steps(log), read_loads(log, zero_s=100.0)
    assert steps.disk_loads.tolist() == [1, 0, 0]
    assert steps.swap_ins.tolist() == [1, 0, 2]  # 0: the adapter was in its slot already
    assert steps.load_s == pytest.approx([0.75, 0.0, 0.5])
    assert steps.duration_s == pytest.approx([0.753, 0.003, 0.503])
    assert loads.adapter.tolist() == [9, 1, 1, 2, 3, 10]
    assert loads.in_step.tolist() == [False, True, True, True, True, False]
    assert loads.start_s[:2] == pytest.approx([0.0, 0.251])
    assert loads.disk.tolist() == [False, True, False, False, False, False]


def test_a_load_that_fails_fails_as_before_and_is_none(worker: WorkerWrapperBase, server_side: Any, log: Path) -> None:
    with pytest.raises(ValueError, match="no such adapter"):
        worker.execute_model(SimpleNamespace(loratwin_step=(1, 1), wanted=[("disk", 13)]))
    worker.lora.manager.activate_adapter(1)
    flush(server_side)
    assert read_loads(log).in_step.tolist() == [False]


def test_a_log_that_cannot_be_written_leaves_the_worker_alone(
    worker: WorkerWrapperBase, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LORATWIN_PROBE_LOG", str(log / "notes.txt" / "no folder"))
    assert worker.lora.manager.activate_adapter(1)
    assert worker.lora.manager.activate_adapter(2)


def test_a_version_without_the_methods_is_noted(server_side: Any, log: Path) -> None:
    server_side("loads")
    assert len(read_notes(log)) == 3
    assert "no activate_adapter" in read_notes(log)[-1]
