"""The requests of a whole fleet, drawn once, and what any one server would get of them.

What a server gets is told by its contents alone, whatever the other servers hold: two plans that put the same adapters
with the same parts on a server see the same requests there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np

from loratwin.fleet.split import routing_numbers
from loratwin.workload import BASE, Workload
from loratwin.workload.arrays import F8, I4, Adapters, arrival_order


class Share(NamedTuple):
    """The requests of an adapter (-1: without adapter) whose number is in [low, high)."""

    adapter: int
    low: float
    high: float


Content = tuple[Share, ...]
"""What a server gets, by adapter; a share without width is an adapter that is held and not asked for."""


class Sample(NamedTuple):
    """A part of each class of adapters: of its load, and of its number; an ideal that no dealing beats.

    Neighbours by rate count as one adapter of their mean rate, so that the part has the same mix of rates.
    """

    parts: tuple[float, ...]  # by class
    base: float = 0.0  # of the traffic without adapter


@dataclass(frozen=True, eq=False)
class Traffic:
    """The fleet's requests for each seed.

    Parameters
    ----------
    workloads
        One draw for each seed.
    classes
        Class of each adapter, shape (num_adapters,); None: all of one.
    """

    workloads: tuple[Workload, ...]
    classes: I4 | None = None
    _sorted: dict[int, _ByAdapter] = field(default_factory=dict, repr=False, compare=False)

    def __reduce__(self) -> tuple[type[Traffic], tuple[tuple[Workload, ...], I4 | None]]:
        return Traffic, (self.workloads, self.classes)  # other processes sort for themselves

    @property
    def adapters(self) -> Adapters:
        """All adapters, as listed in the workload."""
        return self.workloads[0].adapters

    def tokens_per_s(self) -> F8:
        """What each adapter asks for, prompt and output; the last entry is without adapter. Shape (num_adapters + 1,).

        Nominal requests per second times the mean tokens of its group's requests.
        """
        group = np.append(self.adapters.group, np.int32(-1))
        rate = np.append(self.adapters.rate_per_s, self.workloads[0].base_rate_per_s)
        num_groups = int(group.max(initial=-1)) + 2  # the last is without adapter
        sums, counts = np.zeros(num_groups), np.zeros(num_groups)
        for workload in self.workloads:
            of_request = group[workload.adapter]
            tokens = workload.prompt_tokens.astype(np.float64) + workload.output_tokens
            sums += np.bincount(of_request % num_groups, weights=tokens, minlength=num_groups)
            counts += np.bincount(of_request % num_groups, minlength=num_groups)
        overall = sums.sum() / max(1.0, counts.sum())
        mean = np.where(counts > 0, sums / np.maximum(counts, 1), overall)
        load: F8 = rate * mean[group % num_groups]
        return load

    def drawn_tokens_per_s(self, content: Content) -> float:
        """What the draws ask of a server with this content, prompt and output, the mean over them."""
        found = [self._by_adapter(seed).tokens(content) / one.window_s for seed, one in enumerate(self.workloads)]
        return sum(found) / len(found)

    def _by_adapter(self, seed: int) -> _ByAdapter:
        if seed not in self._sorted:
            self._sorted[seed] = _ByAdapter.of(self.workloads[seed])
        return self._sorted[seed]

    def part(self, content: Content | Sample, seed: int) -> Workload:
        """The requests of a server with this content, for the so-manieth draw."""
        known = self._by_adapter(seed)
        return known.sample(content, self.classes) if isinstance(content, Sample) else known.part(content)


@dataclass(frozen=True, eq=False)
class _ByAdapter:
    """Requests of a draw by adapter, so that a server's are found without looking at all others'."""

    workload: Workload
    requests: np.ndarray  # index into the workload, by adapter and then arrival
    ends: np.ndarray  # of each adapter's, shape (num_adapters + 2,); the first part is without adapter
    numbers: F8  # of the requests, in the workload's order
    _by_number: dict[int, tuple[F8, np.ndarray]] = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, workload: Workload) -> _ByAdapter:
        requests = np.argsort(workload.adapter, kind="stable")
        counts = np.bincount(workload.adapter + 1, minlength=len(workload.adapters) + 1)
        ends = np.concatenate([[0], np.cumsum(counts)])
        return cls(workload, requests, ends, routing_numbers(workload.seed, workload.num_requests))

    def of_adapter(self, share: Share) -> np.ndarray:
        own: np.ndarray = self.requests[self.ends[share.adapter + 1] : self.ends[share.adapter + 2]]
        if share.low <= 0 and share.high >= 1:
            return own
        if share.adapter not in self._by_number:  # a hot one is on many servers: it is not gone through for each
            numbers = self.numbers[own]
            order = np.argsort(numbers, kind="stable")
            self._by_number[share.adapter] = numbers[order], own[order]
        sorted_numbers, requests = self._by_number[share.adapter]
        first, end = np.searchsorted(sorted_numbers, (share.low, share.high))
        kept: np.ndarray = np.sort(requests[first:end])
        return kept

    def tokens(self, content: Content) -> float:
        """Prompt and output tokens of all requests of a server."""
        return float(sum(self.tokens_of[self.of_adapter(share)].sum() for share in content if share.high > share.low))

    @cached_property
    def tokens_of(self) -> F8:
        """Prompt and output tokens of each request, in the workload's order."""
        return self.workload.prompt_tokens.astype(np.float64) + self.workload.output_tokens

    def part(self, content: Content) -> Workload:
        rows = [self.of_adapter(share) for share in content]
        hosted = np.array([share.adapter for share in content if share.adapter != BASE], np.int32)
        fraction = np.array([share.high - share.low for share in content if share.adapter != BASE])
        base = sum(share.high - share.low for share in content if share.adapter == BASE)
        place = {adapter: i for i, adapter in enumerate(hosted.tolist())}
        index = [np.full(len(own), place.get(share.adapter, BASE), np.int32) for own, share in zip(rows, content)]  # noqa: B905
        adapters = self.workload.adapters.take(hosted)
        adapters = replace(adapters, rate_per_s=adapters.rate_per_s * fraction)
        return self._taken(_joined(rows), np.concatenate([np.zeros(0, np.int32), *index]), adapters, base)

    def sample(self, content: Sample, classes: I4 | None) -> Workload:
        """A part of each class, as `Sample` says."""
        known = self.workload.adapters
        of_adapter = np.zeros(len(known), np.int32) if classes is None else classes
        parts = np.append(np.asarray(content.parts)[of_adapter], content.base)
        kept = np.flatnonzero(self.numbers < parts[self.workload.adapter])
        merged = np.full(len(known) + 1, BASE, np.int32)
        order = np.lexsort((np.arange(len(known)), known.rate_per_s, of_adapter))
        order = order[parts[order] > 0]
        place = _place_in_class(of_adapter[order])
        key = of_adapter[order] * (len(known) + 1.0) + np.floor(place * parts[order] + 1e-9)
        merged[order] = np.unique(key, return_inverse=True)[1].reshape(-1)
        num = int(merged.max(initial=-1)) + 1
        rates, ranks = np.zeros(num), np.zeros(num, np.int32)
        np.add.at(rates, merged[order], known.rate_per_s[order] * parts[order])
        np.maximum.at(ranks, merged[order], known.rank[order])
        first = np.zeros(num, np.intp)
        first[merged[order][::-1]] = order[::-1]
        adapters = Adapters(tuple(known.name[i] for i in first), ranks, rates, known.group[first])
        return self._taken(kept, merged[self.workload.adapter[kept]], adapters, content.base)

    def _taken(self, requests: np.ndarray, adapter: I4, adapters: Adapters, base: float) -> Workload:
        whole = self.workload
        arrival_s = whole.arrival_s[requests]
        order = arrival_order(arrival_s, adapter)
        requests = requests[order]
        return replace(
            whole,
            arrival_s=arrival_s[order],
            adapter=adapter[order],
            prompt_tokens=whole.prompt_tokens[requests],
            output_tokens=whole.output_tokens[requests],
            sharing=None if whole.sharing is None else whole.sharing.take(requests),
            adapters=adapters,
            base_rate_per_s=whole.base_rate_per_s * base,
        )


def _place_in_class(classes: I4) -> np.ndarray:
    """0, 1, ... within each run of equal classes."""
    place: np.ndarray = np.arange(len(classes)) - np.searchsorted(classes, classes)
    return place


def _joined(rows: Sequence[np.ndarray]) -> np.ndarray:
    return np.concatenate([np.zeros(0, np.intp), *rows])


def contents(adapter: I4, server: I4, fraction: F8, num_servers: int) -> list[Content]:
    """What each server gets by a placement's entries.

    Parameters
    ----------
    adapter, server, fraction
        Shape (num_entries,), in any order.
    """
    order = np.lexsort((server, adapter))
    adapter, server, fraction = adapter[order], server[order], fraction[order]
    total = np.cumsum(fraction)
    before = total - fraction
    first = np.searchsorted(adapter, adapter)
    start = before[first]
    low, high = before - start, total - start
    is_last = np.append(adapter[1:] != adapter[:-1], True)[: len(adapter)]
    high = np.where(is_last | (high > 1 - 1e-12), 1.0, high)
    low = np.where(fraction > 0, low, high)
    found: list[list[Share]] = [[] for _ in range(num_servers)]
    for i, j, lowest, highest in zip(adapter.tolist(), server.tolist(), low.tolist(), high.tolist(), strict=True):
        found[j].append(Share(i, lowest, highest))
    return [tuple(shares) for shares in found]
