"""Which workloads are learned from: the published grid, and a broader design. Measured workloads are left out."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations, combinations_with_replacement

import numpy as np

from loratwin.errors import UnknownNameError
from loratwin.learn.cases.case import Case

LLAMA = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
QWEN = "h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct"
PROFILES = (LLAMA, QWEN)

RATES = (3.2, 1.6, 0.8, 0.4, 0.1, 0.05, 0.025, 0.0125, 0.00625, 0.003125)
"""Requests per second of one adapter in the published grid."""

RANK_MIXES = tuple(mix for mix in combinations_with_replacement((8, 16, 32), 3) if mix.count(32) <= 1)
"""The seven published mixes of ranks: three of 8, 16 and 32, at most one 32."""

MEAN_TOKENS = {LLAMA: (222.8, 196.5), QWEN: (222.7, 200.1)}
"""Prompt and output tokens of the published pools, by the tokenizer of each LLM."""

MEASURED_RATES = (
    (0.05, 0.0125, 0.003125),
    (0.1, 0.05, 0.025),
    (0.4, 0.05, 0.0125),
    (0.8, 0.4, 0.05),
    (1.6, 0.8, 0.4),
    (3.2, 1.6, 0.025),
)
"""Triples of the openly measured workloads: with any ranks they are for testing only."""

DESIGNS = ("published", "broad")


def published_design(profiles: Sequence[str] = PROFILES) -> list[Case]:
    """120 triples of rates x 7 mixes of ranks for each LLM, the measured triples included (see `for_training`)."""
    return [
        Case(
            name=f"{profile.rsplit('/', 1)[-1]}|{'-'.join(map(str, rates))}|{'-'.join(map(str, ranks))}",
            profile=profile,
            rates=tuple(sorted(rates)),
            ranks=ranks,
            prompt_mean=MEAN_TOKENS[profile][0] if profile in MEAN_TOKENS else MEAN_TOKENS[LLAMA][0],
            output_mean=MEAN_TOKENS[profile][1] if profile in MEAN_TOKENS else MEAN_TOKENS[LLAMA][1],
        )
        for rates in combinations(RATES, 3)
        for ranks in RANK_MIXES
        for profile in profiles
    ]


def broad_design(num_cases: int = 1000, seed: int = 0, profiles: Sequence[str] = PROFILES) -> list[Case]:
    """Random workloads: mean rate log-uniform from 0.002 to 4, Zipf popularity, ranks 8 to 128, lengths and bursts."""
    rng = np.random.Generator(np.random.PCG64(seed))
    return [_random_case(rng, i, profiles[i % len(profiles)]) for i in range(num_cases)]


def _random_case(rng: np.random.Generator, number: int, profile: str) -> Case:
    exponent = float(rng.choice([0.0, rng.uniform(0.0, 1.5)], p=[0.25, 0.75]))
    mean = float(np.exp(rng.uniform(np.log(0.002), np.log(4.0))))
    highest = int(rng.choice([8, 16, 32, 64, 128], p=[0.25, 0.3, 0.25, 0.12, 0.08]))
    others = [int(rank) for rank in rng.choice([rank for rank in (8, 16, 32, 64, 128) if rank <= highest], 2)]
    return Case(
        name=f"{profile.rsplit('/', 1)[-1]}|broad-{number:05d}",
        profile=profile,
        rates=zipf_rates(mean, exponent),
        ranks=tuple(sorted([highest, *others])),
        prompt_mean=round(float(np.exp(rng.uniform(np.log(64), np.log(1024)))), 1),
        output_mean=round(float(np.exp(rng.uniform(np.log(32), np.log(512)))), 1),
        lengths=str(rng.choice(["sharegpt", "lognormal"], p=[0.6, 0.4])),
        arrivals_cv=float(rng.choice([1.0, 2.0, 4.0], p=[0.6, 0.25, 0.15])),
    )


def zipf_rates(mean: float, exponent: float, parts: int = 12) -> tuple[float, ...]:
    """Zipf's law cut into equal parts of the adapters, ascending: the same shape whatever their number."""
    raw = ((np.arange(parts) + 0.5) / parts) ** -exponent
    return tuple(float(f"{rate:.6g}") for rate in sorted(raw / raw.mean() * mean))


def is_measured(case: Case) -> bool:
    """Whether the workload's rates are those of a measured one."""
    return any(tuple(sorted(triple)) == case.rates for triple in MEASURED_RATES)


def for_training(cases: Sequence[Case]) -> list[Case]:
    """All but the measured workloads."""
    return [case for case in cases if not is_measured(case)]


def design(name: str, num_cases: int | None = None, seed: int = 0) -> list[Case]:
    """A design by name, in a random order that depends on the seed only: every beginning of it is a fair sample.

    Parameters
    ----------
    name
        `published` (the grid of arXiv 2508.08343) or `broad`.
    num_cases
        The first so many; None: all 1680 of the published design (less those measured), 1000 of the broad one.
    seed
        Of the order.

    Raises
    ------
    UnknownNameError
        Another name.
    """
    if name not in DESIGNS:
        raise UnknownNameError("design", name, DESIGNS)
    if name == "broad":
        return broad_design(num_cases or 1000, seed)
    cases = for_training(published_design())
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(cases))
    return [cases[i] for i in order[: num_cases or len(cases)]]
