"""Named ranges around what the engine does, for whoever watches: NVTX, torch.profiler, and a file of them all."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any


class Ranges:
    """Ranges by name, written to a file of JSON lines (name, start_s, end_s: CLOCK_MONOTONIC) and to what else watches.

    Parameters
    ----------
    path
        Of the file.
    nvtx
        Whether ranges are NVTX ranges, too: of the package nvtx.
    torch_profiler
        Whether they are ranges of torch.profiler, too.

    Raises
    ------
    ImportError
        NVTX is wanted, and there is no package nvtx.
    """

    def __init__(self, path: str, nvtx: bool, torch_profiler: bool) -> None:
        self._file = open(path, "a", encoding="utf-8")  # noqa: SIM115 (until `close`)
        self._around: list[Callable[[str], Any]] = []
        if nvtx:
            import nvtx as package

            self._around.append(lambda name: package.annotate(name))
        if torch_profiler:
            import torch

            self._around.append(torch.profiler.record_function)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        with ExitStack() as stack:
            for around in self._around:
                stack.enter_context(around(name))
            yield
        self._file.write(json.dumps({"name": name, "start_s": start, "end_s": time.monotonic()}) + "\n")

    def close(self) -> None:
        """Write what is left."""
        self._file.close()
