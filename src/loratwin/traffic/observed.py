"""What was seen of each adapter's traffic, in steps of time; the same whatever it was seen through."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, cast, get_args

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError, InputError
from loratwin.traces import Trace

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]
Hours = Literal["busiest", "median", "all"]
HOUR_S = 3600.0
ALL = "all that was seen"


class Buckets(NamedTuple):
    """A histogram of lengths that a server counts: only the buckets and steps with requests in them."""

    upper: F8
    """Upper ends, ascending, without infinity; shape (num_buckets,)."""
    step: I8
    """Shape (num_cells,), as both below."""
    bucket: I8
    requests: F8

    @classmethod
    def of(cls, upper: F8, counts: F8) -> Buckets:
        """From a table of shape (num_steps, num_buckets)."""
        at = np.nonzero(counts)
        return cls(upper, at[0], at[1], counts[at])

    def within(self, steps: slice) -> F8:
        """Requests of each bucket in some steps, shape (num_buckets,)."""
        kept = (self.step >= steps.start) & (self.step < steps.stop)
        return _sums(self.bucket[kept], self.requests[kept], len(self.upper))


@dataclass(frozen=True, eq=False)
class Cells:
    """What was counted of each adapter in steps of time: only cells with something in them, by adapter, then by step.

    10,000 adapters have 14 million steps in a day, and requests in few of them.
    """

    num_adapters: int
    num_steps: int
    adapter: I8
    """Shape (num_cells,), as all below."""
    step: I8
    requests: F8
    prompt_tokens: F8
    """Sum over the requests of a cell."""
    output_tokens: F8

    def within(self, first: int, last: int) -> Cells:
        """The cells of some steps, which count from `first`."""
        kept = (self.step >= first) & (self.step < last)
        values = (self.requests[kept], self.prompt_tokens[kept], self.output_tokens[kept])
        return Cells(self.num_adapters, last - first, self.adapter[kept], self.step[kept] - first, *values)

    def by_adapter(self, values: F8) -> F8:
        """Sums of one of the columns, shape (num_adapters,)."""
        return _sums(self.adapter, values, self.num_adapters)

    def by_step(self, values: F8, adapter: int | None = None) -> F8:
        """The same by step, of all adapters or of one; shape (num_steps,)."""
        if adapter is None:
            return _sums(self.step, values, self.num_steps)
        first, last = np.searchsorted(self.adapter, (adapter, adapter + 1))
        return _sums(self.step[first:last], values[first:last], self.num_steps)


def _sums(place: I8, values: F8, num: int) -> F8:
    return np.bincount(place, values, num).astype(np.float64, copy=False)


class Grown(NamedTuple):
    """By how much something grew, in the steps in which it did; a step may stand there several times."""

    step: I8
    """Shape (num_cells,), as below."""
    amount: F8

    @classmethod
    def together(cls, parts: Sequence[Grown]) -> Grown:
        """Of several series."""
        return cls(*(np.concatenate(column) for column in zip(*parts, strict=True))) if parts else NOTHING


NOTHING = Grown(np.zeros(0, np.int64), np.zeros(0))


def cells_of(
    num_steps: int, requests: Sequence[Grown], prompt_tokens: Sequence[Grown], output_tokens: Sequence[Grown]
) -> Cells:
    """From what grew of each adapter, one entry for each in all three."""
    columns = [_placed(column, num_steps) for column in (requests, prompt_tokens, output_tokens)]
    at, place = np.unique(np.concatenate([places for places, _ in columns]), return_inverse=True)
    ends = np.cumsum([len(places) for places, _ in columns])[:-1]
    sums = (_sums(where, amounts, len(at)) for where, (_, amounts) in zip(np.split(place, ends), columns, strict=True))
    return Cells(len(requests), num_steps, at // num_steps, at % num_steps, *sums)


def _placed(column: Sequence[Grown], num_steps: int) -> tuple[I8, F8]:
    whole = Grown.together(column)
    adapter = np.repeat(np.arange(len(column)), [len(each.step) for each in column])
    return adapter * num_steps + whole.step, whole.amount


@dataclass(frozen=True, eq=False)
class Observed:
    """Requests of each adapter in steps of time."""

    names: tuple[str, ...]
    """As in the source; "" is traffic without a name."""
    step_s: float
    cells: Cells
    begin: str
    """When the first step begins, as the source has it."""
    source: str
    """What it was seen through, in words."""
    prompt_buckets: Mapping[str, Buckets] | None = None
    output_buckets: Mapping[str, Buckets] | None = None
    trace: Trace | None = None
    """The single requests, where the source is a log; steps begin at its first."""
    base: tuple[str, ...] = ()
    """Names that are known to be the LLM itself."""
    running: Mapping[str, float] | None = None
    """Of adapters that no series counts: share of the time in which each had a request running."""
    notes: tuple[str, ...] = ()

    @property
    def num_requests(self) -> float:
        """Of all adapters in all steps."""
        return float(self.cells.requests.sum())

    @property
    def span_s(self) -> float:
        """Seconds of all steps."""
        return float(self.cells.num_steps * self.step_s)

    @property
    def total(self) -> F8:
        """What steps are compared by: tokens, or requests where nothing tells tokens; shape (num_steps,)."""
        cells = self.cells
        tokens = cells.by_step(cells.prompt_tokens + cells.output_tokens)
        return tokens if tokens.any() else cells.by_step(cells.requests)


class Chosen(NamedTuple):
    """The steps that a workload is made of."""

    first: int
    last: int
    """One behind the last."""
    why: str


def choose(observed: Observed, hours: Hours, window_s: float = HOUR_S) -> Chosen:
    """The window that is taken: the busiest, the median one by tokens, or all.

    Raises
    ------
    DataError
        No requests at all.
    """
    total = observed.total
    num = len(total)
    if not observed.num_requests > 0:
        raise DataError(f"{observed.source}: no requests in {observed.span_s:g} s")
    length = max(1, round(window_s / observed.step_s))
    if hours == "all" or num <= length:
        return Chosen(0, num, ALL)
    sums = np.concatenate([[0.0], np.cumsum(total)])
    if hours == "busiest":
        inside = sums[length:] - sums[:-length]
        first = int(inside.argmax())
        mean = sums[-1] * length / num
        return Chosen(first, first + length, f"the busiest, {inside[first] / mean:.3g} times the mean")
    starts = np.arange(0, num - length + 1, length)
    inside = sums[starts + length] - sums[starts]
    first = int(starts[np.argsort(inside, kind="stable")[len(starts) // 2]])
    return Chosen(first, first + length, f"the median of {len(starts)}")


def of_trace(trace: Trace, base: Sequence[str], source: str) -> Observed:
    """A log's requests, counted by the minute.

    Raises
    ------
    InputError
        It has no times or no lengths.
    """
    if trace.arrival_s is None or trace.prompt_tokens is None or trace.output_tokens is None:
        lacks = [
            word
            for word, column in (
                ("times", trace.arrival_s),
                ("prompt tokens", trace.prompt_tokens),
                ("output tokens", trace.output_tokens),
            )
            if column is None
        ]
        raise InputError(f"{source}: has no {' and no '.join(lacks)}; --column says where they are")
    step_s = 60.0 if trace.arrival_s[-1] - trace.arrival_s[0] >= 1800 else 1.0
    at = ((trace.arrival_s - trace.arrival_s[0]) / step_s).astype(np.int64)
    who = np.zeros(len(at), np.int64) if trace.adapter is None else trace.adapter.astype(np.int64) + 1
    seen, who = np.unique(who, return_inverse=True)
    num = int(at[-1]) + 1
    place, row = np.unique(who * num + at, return_inverse=True)
    requests, prompt, output = (
        np.bincount(row, weights, len(place)).astype(np.float64)
        for weights in (None, trace.prompt_tokens, trace.output_tokens)
    )
    names = ("", *trace.adapter_names)
    origin = trace.facts.origin
    return Observed(
        names=tuple(names[i] for i in seen),
        step_s=step_s,
        cells=Cells(len(seen), num, place // num, place % num, requests, prompt, output),
        begin=f"{origin} (UTC)" if origin else f"{trace.arrival_s[0]:g} s of the log",
        source=source,
        trace=trace,
        base=tuple(base),
        notes=trace.facts.changes,
    )


def with_base(observed: Observed, base: Sequence[str]) -> Observed:
    """With further names that are the LLM itself.

    Raises
    ------
    InputError
        One is not among the names.
    """
    for name in base:
        if name not in observed.names:
            raise InputError(f"{observed.source}: nothing is named {name!r}; there are {', '.join(observed.names)}")
    return replace(observed, base=tuple(dict.fromkeys((*observed.base, *base))))


def hours_named(name: str) -> Hours:
    """Which window, by its word.

    Raises
    ------
    InputError
        It is none of them.
    """
    if name not in get_args(Hours):
        raise InputError(f"hours {name!r}: expected {', '.join(get_args(Hours))}")
    return cast(Hours, name)
