"""What a server would do if everything were average: the features with physical meaning.

A queueing estimate in closed form, with the profile's own coefficients. Little's law ties running requests B to their
time in the batch: B = rate x output x step(B), where the step grows with B, with the distinct adapters among B and with
the slots. It is rough (no chance, no queue for slots, no preemption), and so it is a feature of the learned models and
never an answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.kernel import StepWork, average_time_s
from loratwin.kernel.cost import TILE
from loratwin.learn.cases.case import F8, MAX_NUM_SEQS, Mix
from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.simulate import served_capacity

I8 = NDArray[np.int64]

_ROUNDS = 24
"""Halvings of the search for B: enough for a part in a thousand of the largest batch."""

_LONGEST = 30.0
"""Requests of an adapter that run at a time, from which on it never leaves the batch."""


@dataclass(frozen=True, eq=False)
class Steady:
    """Estimates for each configuration; arrays of shape (num_configs,)."""

    starts: NDArray[np.bool_]
    kv_tokens: F8
    requests_per_s: F8
    utilization: F8  # offered / what a full batch would serve
    seats_used: F8  # B / most that memory and max_num_seqs allow; 1 when no steady state exists
    running: F8  # B
    distinct: F8  # adapters among B, were slots no limit
    step_s: F8
    full_step_s: F8  # of a full batch
    swap_ins_per_s: F8
    stalled: F8  # share of the time spent loading adapters
    slot_wait_s: F8  # of an adapter without a slot


def kv_tokens(profile: Profile, slots: int, max_lora_rank: int) -> int:
    """Tokens of the KV cache; 0 where the server does not start."""
    config = EngineConfig(max_loras=slots, max_lora_rank=max_lora_rank, max_num_seqs=MAX_NUM_SEQS)
    capacity = served_capacity(profile, config)
    return capacity.tokens if capacity.starts else 0


def steady(mix: Mix, profile: Profile, adapters: I8 | F8, slots: I8, loading: bool = True) -> Steady:
    """Estimate configurations of one workload.

    Parameters
    ----------
    adapters, slots
        Served adapters and `max_loras` of each configuration, shape (num_configs,).
    loading
        Estimate what comes from too few slots as well, swap-ins and waiting; otherwise these are 0.
    """
    by_slots = {int(g): kv_tokens(profile, int(g), mix.max_lora_rank) for g in np.unique(slots)}
    tokens = np.array([by_slots[int(g)] for g in slots], dtype=float)
    n, g = adapters.astype(float), slots.astype(float)
    estimate = _SteadyServer(mix, profile, n, g)
    most = _largest_batch(mix, tokens)
    swap_ins = estimate.swap_ins_per_s() if loading else np.zeros_like(n)
    swap_s = profile.loading.swap_in_padded_s if mix.rank_min < mix.max_lora_rank else profile.loading.swap_in_s
    stalled = np.minimum(0.9, swap_ins * swap_s)
    rate = n * mix.mean_rate
    low, high = np.zeros_like(n), most
    for _ in range(_ROUNDS):  # the excess of needed over assumed requests changes sign once
        middle = (low + high) / 2
        needed = rate * mix.output_mean * estimate.step_s(middle)
        low, high = np.where(needed > middle, middle, low), np.where(needed > middle, high, middle)
    full_step = estimate.step_s(most)
    return Steady(
        starts=tokens > 0,
        kv_tokens=tokens,
        requests_per_s=rate,
        utilization=rate * mix.output_mean * full_step / most,
        seats_used=high / most,
        running=high,
        distinct=estimate.distinct(high),
        step_s=estimate.step_s(high),
        full_step_s=full_step,
        swap_ins_per_s=swap_ins,
        stalled=stalled,
        slot_wait_s=estimate.slot_wait_s(high) if loading else np.zeros_like(n),
    )


def _largest_batch(mix: Mix, tokens: F8) -> F8:
    """Requests that memory and `max_num_seqs` allow to run at a time; shape of `tokens`."""
    budget = MAX_NUM_SEQS / (1 + mix.prompt_mean / mix.output_mean)  # tokens of a step, shared with prefill
    most: F8 = np.clip(tokens / mix.context_mean, 1.0, budget)
    return most


FEW_SLOTS = 8
"""Slots of the estimate of the most adapters: without a queue for slots, few of them cost the least."""

MAX_ADAPTERS = 2**20
"""More than anybody has: within it the estimate falls with load and ranks wherever they are."""

_POINTS = 12
"""Numbers of adapters at which utilization is looked up, three times: then it is known to a part in 1e5."""


@dataclass(frozen=True)
class Most:
    """An estimate of the most adapters (at least 1), and of how many of them are in the batch at a time."""

    adapters: float
    distinct: float


def most_adapters(mix: Mix, profile: Profile) -> Most:
    """Adapters that would fill the largest batch, with few slots.

    Utilization is looked up on numbers of adapters, each time between two of the last ones, and interpolated.
    """
    slots = np.full(_POINTS, FEW_SLOTS)
    full = _largest_batch(mix, np.full(_POINTS, float(kv_tokens(profile, FEW_SLOTS, mix.max_lora_rank))))
    low, high = 0.0, np.log(MAX_ADAPTERS)
    for _ in range(3):
        adapters = np.linspace(low, high, _POINTS)
        estimate = _SteadyServer(mix, profile, np.exp(adapters), slots)
        used = adapters + np.log(mix.mean_rate * mix.output_mean * estimate.step_s(full) / full)  # logarithm
        above = int(np.argmax(used > 0)) if (used > 0).any() else _POINTS - 1
        low, high = adapters[max(0, above - 1)], adapters[above]
    log_adapters = float(np.interp(0.0, used, adapters))
    return Most(float(np.exp(log_adapters)), float(np.interp(log_adapters, adapters, estimate.distinct(full))))


class _SteadyServer:
    """Step time and adapters in the batch, for given numbers of running requests."""

    def __init__(self, mix: Mix, profile: Profile, adapters: F8, slots: F8) -> None:
        self.mix, self.adapters, self.slots = mix, adapters, slots
        self.cost = profile.step_time.resolve(slots, mix.max_lora_rank)
        self.share = mix.rate_per_s / mix.mean_rate  # popularity relative to the average adapter

    def distinct(self, running: F8) -> F8:
        """Distinct adapters among so many requests, each drawn by popularity, were slots no limit; shape (configs,)."""
        missing = np.exp(-np.outer(running / self.adapters, self.share)) @ self.mix.weight
        distinct: F8 = self.adapters * (1 - missing)
        return distinct

    def step_s(self, running: F8) -> F8:
        """Seconds per step in a steady mix of decode and prefill: each request brings its prompt once."""
        prefill = running * self.mix.prompt_mean / self.mix.output_mean  # prompt tokens per step
        tokens = running + prefill
        tiles = tokens / TILE
        average = StepWork(
            tokens=tokens,
            running=running,
            decode_context=running * self.mix.context_mean,
            prefill_context=0.0,
            prefill_step=0.0,
            eager=0.0,
            walked=0.0,
            lora=1.0,
            tiles=tiles,
            adapters=np.minimum(self.slots, self.distinct(running)),
            adapter_tiles=tiles * np.minimum(1.0, prefill),
            small=0.0,
            lora_prefill_tokens=prefill,
            lora_decode_requests=running,
        )
        return average_time_s(self.cost, average)

    def swap_ins_per_s(self) -> F8:
        """Adapters loaded per second if requests came one by one (Che's approximation of LRU); shape (configs,)."""
        rates, weight = self.mix.rate_per_s, self.mix.weight
        low, high = np.full(len(self.slots), -12.0), np.full(len(self.slots), 25.0)
        full = self.slots >= self.adapters
        for _ in range(_ROUNDS):  # the age (logarithm) at which as many adapters as slots are younger
            middle = (low + high) / 2
            young = self.adapters * ((1 - np.exp(-np.outer(np.exp(middle), rates))) @ weight)
            low, high = np.where(young < self.slots, middle, low), np.where(young < self.slots, high, middle)
        missed = np.exp(-np.outer(np.exp(high), rates)) @ (weight * rates)
        loads: F8 = np.where(full, 0.0, self.adapters * missed)
        return loads

    def slot_wait_s(self, running: F8) -> F8:
        """How long an adapter waits for a slot once it has a request; shape (configs,).

        vLLM gives up an adapter's place in the batch only when none of its requests runs. One with requests at rate r,
        each running for T, keeps its place for (exp(r T) - 1) / r on average (the busy period of M/G/inf), and for
        another T log(1 + r W) for those that came while it waited W. W is such that the places taken are all slots:
        from a twentieth of a second, where they suffice, to far more than an hour, where others never leave.
        """
        rates = self.mix.rate_per_s
        stay = (self.mix.output_mean * self.step_s(running))[:, None]
        asked = rates > 0  # whoever never asks never waits either
        grown = np.expm1(np.minimum(stay * rates, _LONGEST))
        busy = np.divide(grown, rates, out=stay + np.zeros_like(grown), where=asked)
        gap_s = np.divide(1, rates, out=np.full_like(rates, np.inf), where=asked)
        low, high = np.full(len(self.slots), -3.0), np.full(len(self.slots), 12.0)  # of the logarithm
        for _ in range(_ROUNDS):
            middle = (low + high) / 2
            wait = np.exp(middle)[:, None]
            place = busy + stay * np.log1p(rates * wait)
            taken = self.adapters * ((place / (place + gap_s + wait)) @ self.mix.weight)
            low, high = np.where(taken > self.slots, middle, low), np.where(taken > self.slots, high, middle)
        wait_s: F8 = np.exp(high)
        return wait_s
