"""Which configurations are worth a try, and in which order adapters are taken."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.workload import Adapters

SLOTS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 320, 384, 512, 768, 1024)
"""Slots tried first: steps of a half to a third, since what slots cost and gain changes by ratios."""

SEQUENCES = (64, 128, 256, 512, 1024)
"""Values of `max_num_seqs` that are tried. vLLM's own: 256 below 70 GiB of GPU memory, else 1024."""

_FEW = 32


def coarse_slots(num_adapters: int) -> list[int]:
    """Slots to try first: up to one for each adapter, few only where there are few adapters."""
    if num_adapters <= 8:
        return list(range(1, num_adapters + 1))
    least = 1 if num_adapters <= _FEW else 8
    return [slots for slots in SLOTS if least <= slots < num_adapters] + [num_adapters]


def finer_slots(tried: Sequence[int], best: int) -> list[int]:
    """Slots between the best so far and its neighbours on either side; below it, where it is the least tried."""
    known = sorted({*tried, best})
    at = known.index(best)
    neighbours = [known[at - 1] if at else 0, *known[at + 1 : at + 2]]
    middles = {_round((best + other) / 2, abs(best - other)) for other in neighbours}
    return sorted(middle for middle in middles if middle >= 1 and middle not in known)


def _round(slots: float, gap: int) -> int:
    """To a multiple of 8, 4 or 1, as the gap allows."""
    unit = 8 if gap >= 32 else 4 if gap >= 16 else 1
    return int(slots / unit + 0.5) * unit


def spread_order(adapters: Adapters) -> tuple[int, ...]:
    """All adapters in an order of which every beginning has about the same mix as the whole.

    Sorted by group, rate and rank, then taken by bit-reversed position (van der Corput): first one from each half, then
    from each quarter, and so on. So the first half has every other adapter of each group, from the rarely to the often
    used. Nothing random.
    """
    by_mix = np.lexsort((np.arange(len(adapters)), adapters.rank, adapters.rate_per_s, adapters.group))
    bits = max(1, (len(by_mix) - 1).bit_length())
    reversed_bits = [int(f"{position:0{bits}b}"[::-1], 2) for position in range(2**bits)]
    return tuple(int(by_mix[position]) for position in reversed_bits if position < len(by_mix))


def measured_only(values: Sequence[int], measured: tuple[int, int] | None, most: int | None = None) -> list[int]:
    """Values inside the range that was measured, and its upper end; where it lies above all of them, all.

    Parameters
    ----------
    measured
        Lowest and highest; None: everything counts as measured.
    most
        Values above it make no sense, as slots above the number of adapters.
    """
    low, high = measured or (0, max(values))
    ends = {high} if high < max(values) and (most is None or high <= most) else set()
    return sorted({value for value in values if low <= value <= high} | ends) or sorted(values)
