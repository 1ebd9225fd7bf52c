"""The phase and the batch of a kernel, from the ranges (NVTX, `record_function`) that it was launched in.

A range tells its phase by the word prefill or decode in its name, and its batch by `batch=N`; `loratwin offline` names
its ranges so. Of ranges within each other the innermost that tells something decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

PHASES = ("prefill", "decode", "mixed", "")
"""Empty: no range tells it."""

_PHASE = re.compile(r"(?<![a-z])(prefill|decode|mixed)(?![a-z])", re.IGNORECASE)
_BATCH = re.compile(r"\bbatch[ =:]+(\d+)", re.IGNORECASE)


class RangePhase(NamedTuple):
    """What a range's name tells; `batch` is 0 where it does not."""

    phase: str
    batch: int


def range_phase(name: str) -> RangePhase | None:
    """Phase and batch of a range; None: it tells no phase."""
    phase = _PHASE.search(name)
    if phase is None:
        return None
    batch = _BATCH.search(name)
    return RangePhase(phase[1].lower(), int(batch[1]) if batch else 0)


class PhaseInterval(NamedTuple):
    """A range of time on some clock that tells a phase."""

    start: float
    end: float
    phase: RangePhase


def phases_at(ranges: Sequence[PhaseInterval], times: F8) -> tuple[list[RangePhase], I8]:
    """What the innermost range around each time tells.

    Parameters
    ----------
    times
        Shape (num_kernels,), on the ranges' clock.

    Returns
    -------
    list of RangePhase, array of shape (num_kernels,)
        What can be told, and which of it holds for each time; the last, `RangePhase("", 0)`, where no range is.
    """
    ordered = sorted(ranges, key=lambda one: (one.start, -one.end))
    around = _around(ordered)
    starts = np.array([one.start for one in ordered])
    ends = np.array([one.end for one in ordered] + [np.inf])  # the last stands for none
    nearest = np.searchsorted(starts, times, side="right") - 1
    nearest[nearest < 0] = len(ordered)
    while True:
        over = ends[nearest] < times
        if not over.any():
            break
        nearest[over] = around[nearest[over]]
    return [*(one.phase for one in ordered), RangePhase("", 0)], nearest


def _around(ordered: Sequence[PhaseInterval]) -> I8:
    """Of each range the nearest one that it began within; the number of ranges: none."""
    none, open_ones = len(ordered), list[int]()
    around = np.full(none + 1, none, dtype=np.int64)
    for index, one in enumerate(ordered):
        while open_ones and ordered[open_ones[-1]].end <= one.start:
            open_ones.pop()
        around[index] = open_ones[-1] if open_ones else none
        open_ones.append(index)
    return around
