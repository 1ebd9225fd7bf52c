"""A workload without its size: how often, how large and how long, for any number of adapters alike."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from loratwin.records import EngineConfig
from loratwin.records.config import ranks_that_hold
from loratwin.workload import AdapterGroup, Gamma, Lognormal, Poisson, RateChoices, Separate, ShareGpt, WorkloadSpec

F8 = NDArray[np.float64]

MAX_NUM_SEQS = 2048
"""Sequences of the measured servers; a workload is learned at this limit (arXiv 2508.08343)."""

MAX_IN_FLIGHT = 25_500
"""Requests waiting or running at which a client gives up, as in the published generation of data."""


@dataclass(frozen=True)
class Case:
    """A workload of which the number of adapters is still free.

    Parameters
    ----------
    profile
        Name of the GPU, engine version and LLM.
    rates
        Requests per second of one adapter, ascending; the adapters share these values equally.
    ranks
        Given to the adapters in turn.
    prompt_mean, output_mean
        Mean tokens of a request.
    lengths
        `sharegpt`: the shape of that set; `lognormal`: independent, standard deviation as large as the mean.
    arrivals_cv
        Std / mean of the gaps between an adapter's requests; 1: Poisson.
    """

    name: str
    profile: str
    rates: tuple[float, ...]
    ranks: tuple[int, ...]
    prompt_mean: float
    output_mean: float
    lengths: str = "sharegpt"
    arrivals_cv: float = 1.0
    window_s: float = 3600.0

    @property
    def mean_rate(self) -> float:
        """Requests per second of the average adapter."""
        return sum(self.rates) / len(self.rates)

    @property
    def max_lora_rank(self) -> int:
        """The smallest value that vLLM accepts and every adapter fits."""
        return ranks_that_hold(max(self.ranks))[0]

    def counts(self, num_adapters: int) -> tuple[int, ...]:
        """How many of the adapters have each rate; what does not divide is spread, so that the mean rate stays."""
        num = len(self.rates)
        ends = [num_adapters * k // num for k in range(num + 1)]
        return tuple(b - a for a, b in pairwise(ends))

    def average_adapters(self, num_adapters: int) -> float:
        """So many adapters as a number of adapters of the mean rate, which is what loads a server.

        Where they are few, what does not divide among the rates weighs several per cent.
        """
        return sum(n * rate for n, rate in zip(self.counts(num_adapters), self.rates, strict=True)) / self.mean_rate

    def spec(self, num_adapters: int) -> WorkloadSpec:
        """The workload with so many adapters."""
        group = AdapterGroup(
            name="adapters",
            count=num_adapters,
            ranks=self.ranks,
            rates=RateChoices(values=self.rates, counts=self.counts(num_adapters)),
            arrivals=Poisson() if self.arrivals_cv == 1.0 else Gamma(cv=self.arrivals_cv),
        )
        return WorkloadSpec(window_s=self.window_s, lengths=self._lengths(), groups=(group,))

    def _lengths(self) -> ShareGpt | Separate:
        if self.lengths == "sharegpt":
            return ShareGpt(prompt_mean=self.prompt_mean, output_mean=self.output_mean)
        return Separate(
            prompt=Lognormal(mean=self.prompt_mean, std=self.prompt_mean, max=8192),
            output=Lognormal(mean=self.output_mean, std=self.output_mean, max=8192),
        )

    def config(self, slots: int, num_adapters: int) -> EngineConfig:
        """A server with all adapters in host memory."""
        return EngineConfig(
            max_loras=slots,
            max_cpu_loras=max(slots, num_adapters),
            max_lora_rank=self.max_lora_rank,
            max_num_seqs=MAX_NUM_SEQS,
            max_in_flight=MAX_IN_FLIGHT,
        )


@dataclass(frozen=True, eq=False)
class Mix:
    """What a learned model is told of a workload: rates, ranks and lengths, however they came about.

    Parameters
    ----------
    rate_per_s, weight
        Rates of one adapter, and the share of the adapters that have each; shape (num_rates,).
    rank_mean, rank_std, rank_min, rank_max
        Of the adapters' ranks.
    context_mean
        KV tokens that a running request holds on average: E[output x (prompt + output / 2)] / E[output].
    """

    rate_per_s: F8
    weight: F8
    rank_mean: float
    rank_std: float
    rank_min: int
    rank_max: int
    max_lora_rank: int
    prompt_mean: float
    output_mean: float
    context_mean: float
    arrivals_cv: float = 1.0

    @property
    def mean_rate(self) -> float:
        """Requests per second of the average adapter."""
        return float(self.rate_per_s @ self.weight)

    @property
    def rate_cv(self) -> float:
        """Standard deviation / mean of the adapters' rates."""
        return float(np.sqrt(np.maximum(0.0, (self.rate_per_s - self.mean_rate) ** 2 @ self.weight)) / self.mean_rate)


def mix_of(case: Case, num_adapters: int | None = None) -> Mix:
    """A case as a learned model sees it; with so many adapters: with the rates that these have."""
    ranks = np.array(case.ranks, dtype=float)
    counts = np.array(case.counts(num_adapters or len(case.rates)))
    return Mix(
        rate_per_s=np.array(case.rates),
        weight=counts / counts.sum(),
        rank_mean=float(ranks.mean()),
        rank_std=float(ranks.std()),
        rank_min=min(case.ranks),
        rank_max=max(case.ranks),
        max_lora_rank=case.max_lora_rank,
        prompt_mean=case.prompt_mean,
        output_mean=case.output_mean,
        context_mean=context_mean(case._lengths()),
        arrivals_cv=case.arrivals_cv,
    )


@lru_cache(maxsize=4096)
def context_mean(lengths: ShareGpt | Separate) -> float:
    """KV tokens that a running request holds on average, from 4096 drawn lengths (always the same ones)."""
    rng = [np.random.Generator(np.random.PCG64(purpose)) for purpose in (1, 2)]
    prompt, output = (np.asarray(tokens, dtype=float) for tokens in lengths.draw(rng[0], rng[1], 4096))
    return float((output * (prompt + output / 2)).sum() / output.sum())
