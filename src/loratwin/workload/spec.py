"""What a workload is: groups of adapters, how often each is asked for, when, and with which lengths."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, Tag, model_validator
from pydantic_core import PydanticCustomError

from loratwin.errors import InputError
from loratwin.records.config import ranks_that_hold
from loratwin.refusals import did_you_mean
from loratwin.traces import MAX_TOKENS
from loratwin.workload.adapter_folder import rank_of, ranks_in
from loratwin.workload.arrays import F8, I4, OPEN, ArrivalPattern
from loratwin.workload.arrivals import MAX_REQUESTS, AtOnce, ClientRates, Closed, Poisson, Process, Replay
from loratwin.workload.lengths import Lengths, exactly_one
from loratwin.workload.popularity import (
    Equal,
    Popularity,
    Ranks,
    RanksByName,
    RanksInFolder,
    RateChoices,
    popularity_weights,
    rank_list,
)
from loratwin.workload.sharegpt import ShareGpt
from loratwin.workload.strict import ExistingPath, Strict, either, refusal

BASE_NAME = "base"
"""Reserved: the traffic that uses no adapter."""


class Prefix(Strict):
    """Tokens that prompts begin with, all of them the same: a system prompt, instructions, examples."""

    tokens: int = Field(ge=1, le=MAX_TOKENS, description="Tokens before those that lengths draw.")
    per: Literal["adapter", "group", "all"] = Field(
        "adapter",
        description="Whose prompts begin alike: an adapter's, the group's, or those of all with as many tokens.",
    )


class Sessions(Strict):
    """Conversations: each turn sends the whole one before it again, answer included, and a question."""

    turns: int = Field(ge=2, le=1000, description="Requests of a conversation; a rate counts requests.")
    think_s: float = Field(0.0, ge=0, description="Seconds between an answer and the next turn.")
    growth: int | None = Field(
        None, ge=1, le=MAX_TOKENS, description="Tokens of each further question (default: drawn as the first prompt's)."
    )


_WITHOUT_RATE = (Replay, ClientRates, Closed, AtOnce)
_WHY_NO_RATE: dict[type, str] = {
    Replay: "a replayed trace has its own rate; use arrivals.speed to change it",
    ClientRates: "the clients' file tells the rates; arrivals.scale multiplies them",
    Closed: "a closed loop sends as fast as it is answered; arrivals.concurrency says how many clients there are",
    AtOnce: "all requests come at once; arrivals.requests says how many",
}


def _rates_form(value: Any) -> str | None:
    if isinstance(value, (list, tuple)):
        return "list"
    return "choices" if isinstance(value, (Mapping, RateChoices)) else None


_List = tuple[Annotated[float, Field(ge=0)], ...]
_Rates = Annotated[
    Annotated[_List, Tag("list")] | Annotated[RateChoices, Tag("choices")],
    either(_rates_form, "a list with the rate of each adapter, or a mapping with the keys values and counts"),
]


class AdapterGroup(Strict):
    """Adapters that are alike in all but their rate and rank."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="Name of the group.")
    count: int = Field(  # type: ignore[assignment]  # never None once it is validated
        None, ge=1, le=100_000, description="Number of adapters (default: as many as names, rates or the trace tell)."
    )
    names: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = Field(
        None, description="Names of the adapters (default: name-0, name-1, ...)."
    )
    adapters: ExistingPath | None = Field(
        None, description="Folder of the adapters (PEFT), relative to this file: tells their names and ranks."
    )
    ranks: Ranks = Field(
        8,
        description="LoRA rank: one (16), given in turn ([8, 16]), shares ({8: 0.5, 16: 0.5}), or {by_name: {a: 16}}.",
    )
    rate: float | None = Field(None, ge=0, description="Requests per second of each adapter.")
    total_rate: float | None = Field(None, ge=0, description="Requests per second of the whole group, see popularity.")
    popularity: Popularity | None = Field(
        None, description="How total_rate (or a trace without adapters) is shared out: equal, zipf, or weights."
    )
    rates: _Rates | None = Field(None, description="A rate for each adapter, or values and counts in shuffled order.")
    arrivals: Process = Field(default_factory=Poisson, description="When requests arrive (default: poisson).")
    lengths: Lengths | None = Field(None, description="Prompt and output lengths (default: those of the workload).")
    prefix: Prefix | None = Field(None, description="What prompts begin with, the same for many (default: nothing).")
    sessions: Sessions | None = Field(None, description="Conversations of several turns (default: none).")
    slo: str | None = Field(
        None, description="Limits that a plan keeps for this group, in place of the workload's: ttft_p99=500ms."
    )
    pin: Annotated[tuple[Annotated[str, Field(min_length=1, max_length=20)], ...], Field(min_length=1)] | None = Field(
        None, description="Servers of a fleet that each of its adapters must be on: [gpu-0, gpu-1]."
    )
    isolated: bool = Field(False, description="Shares no server of a fleet with other groups (default: false).")

    @model_validator(mode="after")
    def _consistent(self) -> AdapterGroup:
        if self.name == BASE_NAME:
            raise refusal("name", "is reserved for traffic without adapter")
        if self.adapters is not None:
            self._take_folder(self.adapters)
        self._check_rates()
        if self.count is None:
            object.__setattr__(self, "count", self._told_count())  # frozen, and not yet anybody's
        self._check_counts()
        _check_sessions(self)
        self._check_ranks()
        return self

    def _take_folder(self, folder: Path) -> None:
        """Names, unless they are given, and ranks, as the folder has them now."""
        try:
            there = ranks_in(folder)
        except InputError as error:
            raise refusal("adapters", str(error)) from None
        names = self.names or tuple(there)
        object.__setattr__(self, "names", names)  # frozen, and not yet anybody's
        absent = next((name for name in names if rank_of(name, there) is None), None)
        if absent is not None:
            raise refusal("names", f"{folder} has no adapter {absent!r}{did_you_mean(absent, list(there))}")
        ranks = RanksByName(by_name={name: rank_of(name, there) for name in names})
        if "ranks" in self.model_fields_set and self.ranks != ranks:
            raise refusal("ranks", "the folder of the adapters tells them: leave out ranks or adapters")
        object.__setattr__(self, "ranks", ranks)

    def _told_count(self) -> int:
        """How many adapters there are by all else that is said."""
        rates = self.rates.rates() if isinstance(self.rates, RateChoices) else self.rates
        in_trace = self._told_names()
        weights = self.popularity if isinstance(self.popularity, tuple) else None
        for per_adapter in (self.names, rates, weights, in_trace):
            if per_adapter is not None and len(per_adapter):
                return len(per_adapter)
        raise refusal("count", "this key is required, unless names, rates, weights or a trace with adapters tell it")

    def _check_ranks(self) -> None:
        if isinstance(self.ranks, dict) and abs(sum(self.ranks.values()) - 1) > 1e-6:
            raise refusal("ranks", f"shares must add up to 1, they add up to {sum(self.ranks.values()):g}")
        if isinstance(self.ranks, RanksByName | RanksInFolder):
            names = self.adapter_names()
            named = self.ranks.by_name if isinstance(self.ranks, RanksByName) else ()
            known = set(names)
            unknown = next((name for name in named if name not in known), None)
            if unknown is not None:
                raise refusal("ranks.by_name", f"there is no adapter {unknown!r}{did_you_mean(unknown, names[:20])}")
            untold = names[int(self.ranks.of(names).argmin())]
            if self.ranks.of(names).min() < 1:
                key = "by_name" if isinstance(self.ranks, RanksByName) else "folder"
                raise refusal(f"ranks.{key}", f"has no rank for adapter {untold!r}; others: 8 gives one to all others")

    def _check_rates(self) -> None:
        rated = not isinstance(self.arrivals, _WITHOUT_RATE)
        for key in ("rate", "total_rate", "rates") if not rated else ():
            if getattr(self, key) is not None:
                raise refusal(key, _WHY_NO_RATE[type(self.arrivals)])
        if rated:
            exactly_one(self, "rate", "total_rate", "rates")
        if self.popularity is not None and rated and self.total_rate is None:
            raise refusal("popularity", "shares out total_rate, which is not given")
        if isinstance(self.popularity, tuple) and not sum(self.popularity) > 0:
            raise refusal("popularity", "must have a weight above 0")

    def _check_counts(self) -> None:
        for key in ("names", "popularity", "rates"):
            value = getattr(self, key)
            if isinstance(value, RateChoices):
                key, value = "rates.counts", value.rates()
            if isinstance(value, (tuple, np.ndarray)) and len(value) != self.count:
                raise refusal(key, f"is for {len(value)} adapters, but count is {self.count}")
        if isinstance(self.arrivals, Replay):
            self._check_trace(self.arrivals.trace().adapter_names)
        if isinstance(self.arrivals, ClientRates) and self.count != (clients := len(self._told_names())):
            raise refusal("count", f"must be {clients}, the number of clients in the file")
        if isinstance(self.arrivals, ClientRates) and self.popularity is not None:
            raise refusal("popularity", "the file itself says how often each client asks")

    def _check_trace(self, in_trace: tuple[str, ...]) -> None:
        if in_trace and self.popularity is not None:
            raise refusal("popularity", "the trace itself says which adapter each request is for")
        unknown = sorted(set(in_trace) - set(self.names)) if self.names is not None else []
        if unknown:
            raise refusal("names", f"the trace has requests for an adapter {unknown[0]!r} that is not among them")
        if len(in_trace) > self.count:
            raise refusal("count", f"must be at least {len(in_trace)}, the number of adapters in the trace")

    def adapter_names(self) -> tuple[str, ...]:
        """Names given, or those in a replayed trace, then name-0, name-1, ...; shape (count,)."""
        width = len(str(self.count - 1))
        default = tuple(f"{self.name}-{i:0{width}d}" for i in range(self.count))
        if self.names is not None:
            return self.names
        in_trace = self._told_names()
        there = set(in_trace)
        others = [name for name in default if name not in there]
        return (*in_trace, *others)[: self.count]

    def _told_names(self) -> tuple[str, ...]:
        """Adapters that a trace or a file of clients names."""
        if isinstance(self.arrivals, ClientRates):
            return self.arrivals.clients().names
        names: tuple[str, ...] = self.arrivals.trace().adapter_names if isinstance(self.arrivals, Replay) else ()
        return names

    def rank_of_each(self) -> I4:
        """LoRA rank of each adapter, shape (count,)."""
        if isinstance(self.ranks, RanksByName | RanksInFolder):
            return self.ranks.of(self.adapter_names())
        return rank_list(self.ranks, self.count)

    def weights(self) -> F8:
        """Share of each adapter by the popularity law, shape (count,)."""
        return popularity_weights(Equal() if self.popularity is None else self.popularity, self.count)

    def rate_per_s(self, window_s: float) -> F8:
        """Nominal requests per second of each adapter, shape (count,)."""
        if isinstance(self.arrivals, Replay):
            return self._replayed_rate(self.arrivals, window_s)
        if isinstance(self.arrivals, ClientRates):
            return self.arrivals.rate_per_s(window_s)
        if isinstance(self.arrivals, Closed | AtOnce):
            return self.weights() * (self.arrivals.num_drawn / window_s)
        if self.rate is not None:
            return np.full(self.count, self.rate)
        if self.rates is not None:
            return self.rates.rates() if isinstance(self.rates, RateChoices) else np.array(self.rates)
        return self.weights() * (self.total_rate or 0.0)

    def _replayed_rate(self, replay: Replay, window_s: float) -> F8:
        rows, trace = replay.times(window_s)[1], replay.trace()
        if trace.adapter is None:
            return self.weights() * (len(rows) / window_s)
        index = {name: i for i, name in enumerate(self.adapter_names())}
        num = np.bincount(trace.adapter[rows] + 1, minlength=len(trace.adapter_names) + 1)[1:]
        rate = np.zeros(self.count)
        rate[[index[name] for name in trace.adapter_names]] = num / window_s
        return rate


class BaseTraffic(Strict):
    """Requests for the LLM itself, without adapter."""

    rate: float | None = Field(None, ge=0, description="Requests per second.")
    arrivals: Process = Field(default_factory=Poisson, description="When requests arrive (default: poisson).")
    lengths: Lengths | None = Field(None, description="Prompt and output lengths (default: those of the workload).")
    prefix: Prefix | None = Field(None, description="What prompts begin with, the same for many (default: nothing).")
    sessions: Sessions | None = Field(None, description="Conversations of several turns (default: none).")

    @model_validator(mode="after")
    def _one_source(self) -> BaseTraffic:
        if not isinstance(self.arrivals, _WITHOUT_RATE) and self.rate is None:
            raise refusal(
                "rate", "must be given, unless a trace is replayed, or clients send in a closed loop or at once"
            )
        if isinstance(self.arrivals, _WITHOUT_RATE) and self.rate is not None:
            raise refusal("rate", _WHY_NO_RATE[type(self.arrivals)])
        if isinstance(self.arrivals, ClientRates):
            raise refusal("arrivals.kind", "clients are adapters; base traffic uses none")
        if isinstance(self.arrivals, Replay) and self.arrivals.trace().adapter_names:
            raise refusal("arrivals.path", "has an adapter column; base traffic uses no adapter")
        _check_sessions(self)
        return self

    def rate_per_s(self, window_s: float) -> float:
        """Nominal requests per second."""
        if isinstance(self.arrivals, Replay):
            return len(self.arrivals.times(window_s)[0]) / window_s
        if isinstance(self.arrivals, Closed | AtOnce):
            return self.arrivals.num_drawn / window_s
        return float(self.rate or 0.0)


class WorkloadSpec(Strict):
    """A workload: everything about the requests but the seed."""

    window_s: float = Field(3600.0, gt=0, le=31_536_000, description="Seconds of traffic.")
    lengths: Lengths = Field(
        default_factory=ShareGpt,
        description="Prompt and output lengths of groups without their own (default: sharegpt).",
    )
    base: BaseTraffic | None = Field(None, description="Traffic that uses no adapter (default: none).")
    groups: tuple[AdapterGroup, ...] = Field((), description="Groups of adapters.")
    slo: str | None = Field(
        None, description="Limits that a plan keeps, as ttft_p99=2s,tpot_p99=100ms; of groups without their own."
    )
    slo_for: Literal["all", "groups", "adapters"] = Field(
        "all", description="Of whom the limits are asked: the server as a whole, each group, or each adapter."
    )

    @model_validator(mode="after")
    def _consistent(self) -> WorkloadSpec:
        if not self.groups and self.base is None:
            raise refusal("groups", "must have at least one group of adapters, unless there is base traffic")
        _refuse_twice([group.name for group in self.groups], "groups", "group")
        _refuse_twice([name for group in self.groups for name in group.adapter_names()], "groups", "adapter")
        self._check_pattern()
        self._check_traces()
        expected = self.total_rate_per_s * self.window_s
        if expected > MAX_REQUESTS:
            most = f"at most {MAX_REQUESTS:,} are drawn"
            raise refusal("", f"asks for about {expected:,.0f} requests in the window; {most}")
        return self

    def _check_pattern(self) -> None:
        sources = self._sources()
        for name, source in sources:
            if isinstance(source.arrivals, Closed | AtOnce) and len(sources) > 1:
                raise refusal(
                    f"{name}.arrivals",
                    f"kind {source.arrivals.kind} must be the only traffic: put all adapters into one group",
                )

    def _check_traces(self) -> None:
        for name, source in self._sources():
            if isinstance(source.arrivals, Replay):
                try:
                    source.arrivals.check_window(self.window_s)
                except PydanticCustomError as error:
                    raise refusal(f"{name}.arrivals", error.message()) from None

    def _sources(self) -> list[tuple[str, AdapterGroup | BaseTraffic]]:
        """What sends requests, by the key in the file."""
        sources: list[tuple[str, AdapterGroup | BaseTraffic]] = [(f"groups.{g.name}", g) for g in self.groups]
        return sources + ([("base", self.base)] if self.base is not None else [])

    def trace_notes(self) -> tuple[str, ...]:
        """What of replayed traces is not in the workload."""
        traces = (source.arrivals for _, source in self._sources() if isinstance(source.arrivals, Replay))
        return tuple(dict.fromkeys(note for trace in traces for note in trace.notes(self.window_s)))

    @property
    def pattern(self) -> ArrivalPattern:
        """What makes requests arrive, beyond their times."""
        source = self.base or self.groups[0]
        return source.arrivals.pattern if isinstance(source.arrivals, Closed | AtOnce) else OPEN

    @property
    def num_adapters(self) -> int:
        return sum(group.count for group in self.groups)

    @property
    def smallest_rank(self) -> int:
        """The smallest rank of slots that holds every adapter.

        Raises
        ------
        InputError
            An adapter's rank is above what vLLM allows.
        """
        ranks = [int(group.rank_of_each().max()) for group in self.groups]
        return ranks_that_hold(max(ranks, default=1))[0]

    @property
    def total_rate_per_s(self) -> float:
        """Nominal requests per second, all adapters and base traffic together."""
        base = self.base.rate_per_s(self.window_s) if self.base is not None else 0.0
        return base + sum(float(group.rate_per_s(self.window_s).sum()) for group in self.groups)


def _check_sessions(source: AdapterGroup | BaseTraffic) -> None:
    """A conversation's turns come when answers do; a trace and clients that wait say themselves when they come."""
    if source.sessions is not None and isinstance(source.arrivals, _WITHOUT_RATE):
        raise refusal("sessions", f"need arrivals with a rate, not kind {source.arrivals.kind}")


def _refuse_twice(names: Sequence[str], key: str, kind: str) -> None:
    name, times = Counter(names).most_common(1)[0] if names else ("", 0)
    if times > 1:
        raise refusal(key, f"{kind} name {name!r} is used {times} times; names must differ")


def uniform_groups(
    rate_values: Sequence[float],
    rate_counts: Sequence[int],
    ranks_cycle: Sequence[int],
    prompt_mean: float,
    output_mean: float,
    window_s: float = 3600.0,
) -> WorkloadSpec:
    """The workloads of the measured runs: a few rates and ranks, Poisson arrivals, ShareGPT lengths.

    Ranks are given to the adapters in turn. Rates are shuffled over the adapters by a fixed seed
    (`popularity.SHUFFLE_SEED`, whatever the seed of the requests), so that neither tells anything about the other.

    Parameters
    ----------
    rate_values, rate_counts : requests/s of one adapter, and how many adapters have it; shape (num_rates,)
    ranks_cycle : shape (num_ranks,)
    prompt_mean, output_mean : mean tokens of a request

    Raises
    ------
    InputError
        A value is impossible.
    """
    group = AdapterGroup(
        name="adapters",
        count=sum(rate_counts),
        ranks=tuple(ranks_cycle),
        rates=RateChoices(values=tuple(rate_values), counts=tuple(rate_counts)),
    )
    lengths = ShareGpt(prompt_mean=prompt_mean, output_mean=output_mean)
    return WorkloadSpec(window_s=window_s, lengths=lengths, groups=(group,))


def spec_json_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a workload file, so that editors complete and check it."""
    schema = _without_titles(WorkloadSpec.model_json_schema())
    for part in schema["$defs"].values():
        if "kind" in part["properties"]:  # may be left out in Python, where the class says it, but not in a file
            part["required"] = ["kind", *part.get("required", ())]
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "loratwin workload", **schema}


def _without_titles(schema: Any) -> Any:
    """Drop the titles that pydantic makes up ("Window S"): an editor would show them above our descriptions."""
    if isinstance(schema, list):
        return [_without_titles(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {key: _without_titles(item) for key, item in schema.items() if key != "title"}
