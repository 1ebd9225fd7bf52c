"""How the requests of a group, and the ranks, are shared out among its adapters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, Tag, model_validator

from loratwin.errors import InputError
from loratwin.workload.adapter_folder import rank_of, ranks_in
from loratwin.workload.arrays import F8, I4
from loratwin.workload.strict import ExistingPath, Shorthand, Strict, either, refusal

MAX_RANK = 512

SHUFFLE_SEED = 20_250_803
"""Seed of the order in which `RateChoices` are given to adapters. Fixed, so that the same file means the same adapters
whatever seed the requests are drawn with."""


class Equal(Strict):
    """All adapters alike."""

    kind: Literal["equal"] = Field("equal", description="All adapters of the group are asked for equally often.")

    def weights(self, count: int) -> F8:
        """Share of each adapter, shape (count,)."""
        return np.full(count, 1.0 / count)


class Zipf(Strict):
    """The first adapter is the most popular, the i-th gets a share proportional to i**-exponent."""

    kind: Literal["zipf"] = Field("zipf", description="The i-th adapter's share is proportional to i ** -exponent.")
    exponent: float = Field(1.0, ge=0, le=20, description="0: equal; 1: the classical law; larger: more skewed.")

    def weights(self, count: int) -> F8:
        """Share of each adapter, descending, shape (count,)."""
        raw = np.arange(1, count + 1, dtype=float) ** -self.exponent
        share: F8 = raw / raw.sum()
        return share


def _law_or_weights(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return "weights"
    return "law" if isinstance(value, (str, Mapping, Equal, Zipf)) else None


_Law = Annotated[Equal | Zipf, Field(discriminator="kind"), Shorthand("equal", "zipf")]
_Weights = tuple[Annotated[float, Field(ge=0)], ...]
Popularity = Annotated[
    Annotated[_Law, Tag("law")] | Annotated[_Weights, Tag("weights")],
    either(_law_or_weights, "equal, zipf, a mapping with the key 'kind', or a list of weights"),
]
"""A law by name, or one weight for each adapter."""


def popularity_weights(popularity: Equal | Zipf | tuple[float, ...], count: int) -> F8:
    """Share of each adapter, shape (count,), summing to 1."""
    if isinstance(popularity, (Equal, Zipf)):
        return popularity.weights(count)
    given = np.array(popularity, dtype=float)
    share: F8 = given / given.sum()
    return share


class RateChoices(Strict):
    """So many adapters have this rate, so many that one, in shuffled order."""

    values: tuple[Annotated[float, Field(ge=0)], ...] = Field(
        min_length=1, description="Rates in requests per second of one adapter."
    )
    counts: tuple[Annotated[int, Field(ge=0)], ...] = Field(
        min_length=1, description="How many adapters have each of these rates; the order of the adapters is shuffled."
    )

    @model_validator(mode="after")
    def _as_many(self) -> RateChoices:
        if len(self.values) != len(self.counts):
            raise refusal("counts", f"must have one entry for each of the {len(self.values)} values")
        return self

    def rates(self) -> F8:
        """Rate of each adapter, shape (sum(counts),). Shuffled, so that rate tells nothing about index or rank."""
        in_order = np.repeat(np.array(self.values, dtype=float), self.counts)
        return np.random.Generator(np.random.PCG64(SHUFFLE_SEED)).permutation(in_order)


class RanksByName(Strict):
    """The rank of each adapter by its name."""

    by_name: dict[str, Annotated[int, Field(ge=1, le=MAX_RANK)]] = Field(
        min_length=1, description="Ranks by the names of the adapters."
    )
    others: int | None = Field(
        None, ge=1, le=MAX_RANK, description="Rank of adapters that are not named (default: all must be named)."
    )

    def of(self, names: Sequence[str]) -> I4:
        """Rank of each adapter, shape (len(names),); 0 where it is not told."""
        return np.array([self.by_name.get(name, self.others or 0) for name in names], dtype=np.int32)


class RanksInFolder(Strict):
    """The ranks that the adapters in a folder have, by the names of their folders."""

    folder: ExistingPath = Field(description="Folder of adapters (PEFT's adapter_config.json), relative to this file.")
    others: int | None = Field(
        None, ge=1, le=MAX_RANK, description="Rank of adapters that are not there (default: all must be)."
    )

    @model_validator(mode="after")
    def _readable(self) -> RanksInFolder:
        try:
            ranks_in(self.folder)
        except InputError as error:
            raise refusal("folder", str(error)) from None
        return self

    def of(self, names: Sequence[str]) -> I4:
        """Rank of each adapter, shape (len(names),); 0 where it is not told."""
        ranks = ranks_in(self.folder)
        return np.array([rank_of(name, ranks) or self.others or 0 for name in names], dtype=np.int32)


def _rank_form(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return "cycle"
    if isinstance(value, RanksByName) or (isinstance(value, Mapping) and "by_name" in value):
        return "by_name"
    if isinstance(value, RanksInFolder) or (isinstance(value, Mapping) and "folder" in value):
        return "folder"
    if isinstance(value, Mapping):
        return "shares"
    return "one" if isinstance(value, (int, float)) else None


_Rank = Annotated[int, Field(ge=1, le=MAX_RANK)]
_Cycle = Annotated[tuple[_Rank, ...], Field(min_length=1)]
_Shares = Annotated[dict[_Rank, Annotated[float, Field(ge=0)]], Field(min_length=1)]
Ranks = Annotated[
    Annotated[_Rank, Tag("one")]
    | Annotated[_Cycle, Tag("cycle")]
    | Annotated[_Shares, Tag("shares")]
    | Annotated[RanksByName, Tag("by_name")]
    | Annotated[RanksInFolder, Tag("folder")],
    either(
        _rank_form,
        "one rank (16), ranks given in turn ([8, 16]), shares ({8: 0.5, 16: 0.5}), or {by_name: {adapter: 16}}",
    ),
]
"""One rank; ranks given to the adapters in turn; shares, such as {8: 0.5, 16: 0.5}; or a rank for each name."""


def rank_list(ranks: int | tuple[int, ...] | dict[int, float], count: int) -> I4:
    """Rank of each adapter, shape (count,)."""
    if isinstance(ranks, dict):
        return _by_shares(ranks, count)
    cycle = (ranks,) if isinstance(ranks, int) else ranks
    return np.resize(np.array(cycle, dtype=np.int32), count)


def _by_shares(shares: dict[int, float], count: int) -> I4:
    """Exact shares (largest remainders), each rank spread evenly over the adapters; nothing random."""
    ranks = np.array(list(shares), dtype=np.int32)
    exact = np.array(list(shares.values()), dtype=float) * count
    whole = np.floor(exact + 1e-9).astype(np.int64)
    short = count - int(whole.sum())
    whole[np.argsort(whole - exact, kind="stable")[:short]] += 1
    places = np.concatenate([(np.arange(n) + 0.5) / max(n, 1) for n in whole])
    return np.repeat(ranks, whole)[np.argsort(places, kind="stable")]
