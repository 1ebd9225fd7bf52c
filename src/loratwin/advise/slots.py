"""What the memory that a batch leaves free is worth as adapter slots: the twin serves the workload with more of them.

More slots make steps slower (the kernels look at each) and leave less KV cache, but fewer adapters wait for a place and
are loaded. The most slots are those beside which the server starts and its KV cache holds what the batch fills at most.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from loratwin.advise.batch import BatchAdvice
from loratwin.metrics import summarize
from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.simulate import served_capacity, server_configs, simulate
from loratwin.workload import Workload

LARGEST = 4096
"""Slots that are looked at; more nobody has."""

MOST_TRIED = 6
"""Numbers of slots that are simulated, between those of the sweep and the most."""


@dataclass(frozen=True)
class SlotPrice:
    """What the server of a batch does with so many slots.

    Parameters
    ----------
    kv_tokens
        Size of the KV cache that is left.
    throughput
        Tokens per second, prompts included.
    itl_ms, ttft_ms
        Means.
    swap_ins
        Loads of adapters into slots.
    """

    slots: int
    kv_tokens: int
    throughput: float
    itl_ms: float
    ttft_ms: float
    swap_ins: int


@dataclass(frozen=True)
class SlotPrices:
    """Slots by rising number: first as in the sweep, last the most that leave the batch its KV cache.

    Parameters
    ----------
    rank
        Of all of them.
    itl_limit_ms
        Of the advice.
    """

    rank: int
    itl_limit_ms: float
    prices: tuple[SlotPrice, ...]

    @property
    def best(self) -> SlotPrice:
        """Of the most tokens per second within the limit, and of equal ones (to a thousandth) the fewest slots."""
        within = [price for price in self.prices if price.itl_ms <= self.itl_limit_ms] or list(self.prices[:1])
        most = max(price.throughput for price in within)
        return next(price for price in within if price.throughput >= 0.999 * most)


def price_slots(
    advice: BatchAdvice, workload: Workload, profile: Profile, max_loras: int | None = None, rank: int = 16
) -> SlotPrices | None:
    """Serve the workload at the advised batch with more and more slots.

    Parameters
    ----------
    advice
        Of a sweep of this workload and profile.
    max_loras
        Slots of that sweep; None: one for each adapter.
    rank
        Of the slots, where the workload's adapters need no higher one.

    Returns
    -------
    SlotPrices or None
        None: no batch is advised, there is no knee, so that nothing is free, or no further slot fits.

    Raises
    ------
    InputError
        As `simulate`.
    """
    if advice.point is None or not advice.knee:
        return None
    first = workload.num_adapters if max_loras is None else max_loras
    rank = max(rank, workload.smallest_rank if workload.num_adapters else rank)
    batch = advice.point.batch

    def config(slots: int) -> EngineConfig:
        (server,) = server_configs(workload, profile, [slots], max_num_seqs=batch, max_lora_rank=rank)
        return server

    def fits(slots: int) -> bool:
        capacity = served_capacity(profile, config(slots))
        return capacity.starts and capacity.tokens >= advice.kv_tokens_needed

    most = _largest(first, fits)
    if most <= first:
        return None
    return SlotPrices(
        rank, advice.slo_ms, tuple(_price(workload, profile, config(slots)) for slots in _tried(first, most))
    )


def _largest(first: int, fits: Callable[[int], bool]) -> int:
    """By halving: more slots never leave more KV cache."""
    low, high = first, LARGEST
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if fits(middle) else (low, middle - 1)
    return low


def _tried(first: int, most: int) -> list[int]:
    """The first, twice as many, and so on, and the most."""
    doubled, slots = [first], max(8, 2 * first)
    while slots < most:
        doubled.append(slots)
        slots *= 2
    return [*doubled[: MOST_TRIED - 1], most]


def _price(workload: Workload, profile: Profile, config: EngineConfig) -> SlotPrice:
    run = simulate(workload, profile, config)
    seen = summarize(run, percentiles=False)
    return SlotPrice(
        config.max_loras, int(run.kv_tokens or 0), seen.total_throughput, seen.itl_mean_ms, seen.ttft_mean_ms,
        int(seen.swap_ins or 0),
    )  # fmt: skip
