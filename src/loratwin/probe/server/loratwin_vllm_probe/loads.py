"""Times the worker's adapter loads: from disk to host memory, and from there to a slot.

vLLM imports this module in each worker process by `--worker-extension-cls`; the import wraps the two methods that do
the work, on the base classes, so that the caches around them are left as they are.
"""

from __future__ import annotations

import functools
import importlib
import sys
import time
from collections.abc import Callable
from typing import Any

from .files import RowFile, note

COLUMNS = (
    ("engine", "q"),  # of the step log that the step belongs to
    ("step", "q"),  # OUTSIDE or UNKNOWN, or a step of that log
    ("start_s", "d"),  # CLOCK_MONOTONIC
    ("duration_s", "d"),  # host time; copies to a GPU may end later
    ("adapter", "q"),  # the engine's number of it
    ("disk", "b"),  # 1: from disk, 0: into a slot
)

OUTSIDE = -1  # between steps: at start, or asked for by /v1/load_lora_adapter
UNKNOWN = -2  # this version does not let us see which step


class WorkerProbe:
    """Nothing to add to the worker: the import of this module has done it."""


class _LoadLog:
    def __init__(self) -> None:
        self.step = (0, UNKNOWN)
        self._file: RowFile | None = None
        self._broken = False

    def add(self, start: float, adapter: int, disk: bool) -> None:
        end = time.monotonic()
        if self._broken:
            return
        try:
            if self._file is None:
                self._file = RowFile("loads", COLUMNS, {"rank": _rank()})
            self._file.add(*self.step, start, end - start, adapter, disk)
        except Exception as error:
            self._broken = True
            note(f"the log of adapter loads ends: {error!r}")


def _rank() -> int:
    """Which of an engine's workers this is: with tensor parallelism each loads its part of the same adapter."""
    distributed = sys.modules.get("torch.distributed")
    return int(distributed.get_rank()) if distributed is not None and distributed.is_initialized() else 0


_loads = _LoadLog()

_METHODS = (  # the first that exists
    ("vllm.v1.worker.worker_base", "WorkerWrapperBase", "execute_model"),
    ("vllm.worker.worker_base", "WorkerWrapperBase", "execute_model"),
    ("vllm.v1.worker.gpu_worker", "Worker", "execute_model"),
)
_DISK = (("vllm.lora.worker_manager", "WorkerLoRAManager", "_load_adapter"),)
_SLOT = (
    ("vllm.lora.model_manager", "LoRAModelManager", "activate_adapter"),
    ("vllm.lora.models", "LoRAModelManager", "activate_adapter"),  # until 0.12
)


def _step(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def execute_model(self: Any, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        _loads.step = getattr(scheduler_output, "loratwin_step", (0, OUTSIDE))
        try:
            return method(self, scheduler_output, *args, **kwargs)
        finally:
            _loads.step = (0, OUTSIDE)

    _loads.step = (0, OUTSIDE)
    return execute_model


def _disk(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def _load_adapter(self: Any, lora_request: Any, *args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        loaded = method(self, lora_request, *args, **kwargs)
        _loads.add(start, getattr(lora_request, "lora_int_id", -1), True)
        return loaded

    return _load_adapter


def _slot(method: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(method)
    def activate_adapter(self: Any, lora_id: int, *args: Any, **kwargs: Any) -> Any:
        start = time.monotonic()
        activated = method(self, lora_id, *args, **kwargs)
        if activated:  # False: it was in its slot already
            _loads.add(start, lora_id, False)
        return activated

    return activate_adapter


def _wrap(places: tuple[tuple[str, str, str], ...], wrapper: Callable[..., Any]) -> None:
    for module, owner, name in places:
        try:
            found = getattr(importlib.import_module(module), owner)
        except (ImportError, AttributeError):
            continue
        if name in vars(found):
            setattr(found, name, wrapper(vars(found)[name]))
            return
    note(f"this version has no {places[0][2]}: adapter loads are not told in full")


def install() -> None:
    """Wrap what this version of vLLM has; what it lacks is noted."""
    for places, wrapper in ((_METHODS, _step), (_DISK, _disk), (_SLOT, _slot)):
        try:
            _wrap(places, wrapper)
        except Exception as error:
            note(f"{places[0][2]} cannot be watched: {error!r}")


install()
