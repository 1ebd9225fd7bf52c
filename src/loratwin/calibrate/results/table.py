"""Requests that another load client measured, and the run that they make."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError, InputError
from loratwin.records import AdapterTable, EngineConfig, GapHistogram, Provenance, RequestTable, Run

F8 = NDArray[np.float64]

MOST_TOKENS = 2**31 - 1

LEAST_GAP_S, PER_OCTAVE, MOST_GAP_S = 1e-5, 64, 3600.0
"""Bins of gaps between tokens, as the load client has them."""


@dataclass
class Sent:
    """One request; times in seconds on the tool's clock, NaN where they never came or the file does not tell."""

    start_s: float
    first_s: float
    end_s: float
    prompt_tokens: int
    output_tokens: int
    failure: str = ""
    unfinished: bool = False  # cut off by the end of the benchmark
    adapter: str = ""  # where the file names it
    model: str = ""  # that was asked for, where the file tells it: an adapter's name, or the LLM's
    gaps_s: tuple[float, ...] | None = None  # between tokens (or deliveries of tokens); None: not told


@dataclass
class BenchmarkResult:
    """One benchmark of a file.

    Parameters
    ----------
    tool
        Whose file it is.
    requests
        In the order of the file.
    duration_s
        Of the benchmark; NaN: as long as its requests.
    llm
        As the file calls the model.
    notes
        What a reader must know.
    name
        Of several in one file.
    """

    tool: str
    requests: list[Sent]
    duration_s: float = float("nan")
    llm: str = ""
    gpu: str = ""
    notes: list[str] = field(default_factory=list)
    name: str = ""


def starts(e2e_s: Sequence[float], rate_per_s: float | Sequence[float], concurrency: int | None) -> list[float]:
    """When requests started that a client sent in this order, where the file does not tell.

    Evenly at the rate (all at once where it is infinite; of each request where there are several), and no more than
    `concurrency` at a time: the next goes out when one of them has come back.
    """
    slots: list[float] = []
    starts_s = []
    for e2e, start in zip(e2e_s, _due(rate_per_s, len(e2e_s)), strict=True):
        if concurrency and len(slots) >= concurrency:
            start = max(start, heapq.heappop(slots))
        starts_s.append(start)
        heapq.heappush(slots, start + (e2e if np.isfinite(e2e) else 0.0))
    return starts_s


def _due(rate_per_s: float | Sequence[float], number: int) -> list[float]:
    if isinstance(rate_per_s, (int, float)):
        return [i / rate_per_s for i in range(number)]
    gaps: list[float] = [0.0, *(1 / rate for rate in rate_per_s[:-1])]
    return [float(due) for due in np.cumsum(gaps)]


def as_run(
    result: BenchmarkResult,
    config: EngineConfig,
    provenance: Provenance,
    names: Sequence[str] = (),
    ranks: Sequence[int] = (),
    where: str = "",
) -> Run:
    """The record of a result.

    Parameters
    ----------
    config
        What the server ran with.
    names, ranks
        Adapters that were assigned in turn, where the file names none; of those that it names, their ranks in order.

    Raises
    ------
    DataError
        There is no request, or a time or length that cannot be.
    InputError
        The file names adapters of which the ranks are not told.
    """
    _check(result, where)
    adapters, who = _adapters(result, names, ranks, where)
    rows = sorted(range(len(result.requests)), key=lambda i: result.requests[i].start_s)
    sent = [result.requests[i] for i in rows]
    zero = sent[0].start_s
    start, first, end = (
        np.array([getattr(one, name) for one in sent]) - zero for name in ("start_s", "first_s", "end_s")
    )
    failed = np.array([bool(one.failure) for one in sent])
    cut = failed | np.array([one.unfinished for one in sent])
    kinds = list(dict.fromkeys(one.failure for one in sent if one.failure))
    window = np.nanmax([result.duration_s, np.nanmax(end, initial=0.0), np.nanmax(start) + 1e-9])
    table = RequestTable(
        arrival_s=start,
        admitted_s=np.full(len(sent), np.nan),
        first_token_s=np.where(failed, np.nan, first),
        finish_s=np.where(cut, np.nan, end),
        adapter=np.array([who[i] for i in rows], dtype=np.int32),
        prompt_tokens=np.array([one.prompt_tokens for one in sent], dtype=np.int32),
        output_tokens=np.array([one.output_tokens for one in sent], dtype=np.int32),
        num_preemptions=np.zeros(len(sent), dtype=np.int32),
        refused=np.zeros(len(sent), dtype=np.bool_),
        sent_s=start,
        failure=np.array([kinds.index(one.failure) if one.failure else -1 for one in sent], dtype=np.int32),
    )
    return Run(
        kind="measured",
        window_s=float(window),
        requests=table,
        adapters=adapters,
        config=config,
        kv_tokens=None,
        provenance=provenance,
        failures=tuple(kinds),
        gaps=_gaps(result.requests, who, len(adapters)),
    )


def settle_models(result: BenchmarkResult, llm: str) -> None:
    """Which of the models that requests ask for is the LLM itself: the others are adapters.

    Parameters
    ----------
    llm
        As the server's arguments name it; "": they do not.
    """
    models = {one.model for one in result.requests if one.model}
    if not result.llm:
        result.llm = llm if llm in models or not models else next(iter(models)) if len(models) == 1 else ""
    for one in result.requests:
        if not one.adapter and one.model not in (result.llm, llm):
            one.adapter = one.model


def _check(result: BenchmarkResult, where: str) -> None:
    if not result.requests:
        raise DataError(f"{where}: no request is in it")
    for one in result.requests:
        if not np.isfinite(one.start_s):
            raise DataError(f"{where}: a request has no start time")
        if not (one.failure or one.unfinished) and not one.start_s <= one.first_s <= one.end_s:
            raise DataError(
                f"{where}: a request that did not fail must start, get its first token and end in this order "
                f"({one.start_s:g}, {one.first_s:g}, {one.end_s:g})"
            )
        if not one.failure and not all(gap >= 0 for gap in one.gaps_s or ()):
            raise DataError(f"{where}: times between tokens must be numbers, 0 or more")
        if not (0 <= one.prompt_tokens <= MOST_TOKENS and 0 <= one.output_tokens <= MOST_TOKENS):
            raise DataError(f"{where}: lengths must be whole numbers of tokens, 0 or more")


def _adapters(
    result: BenchmarkResult, names: Sequence[str], ranks: Sequence[int], where: str
) -> tuple[AdapterTable, list[int]]:
    """The table, and the row of each request, -1 for the LLM itself."""
    adapter_names = [one.adapter for one in result.requests]
    distinct = sorted({name for name in adapter_names if name and name != result.llm})
    if names:
        listed = list(names)
        if any(distinct) and set(distinct) <= set(listed):
            who = [listed.index(name) if name in listed else -1 for name in adapter_names]
        else:
            who = [i % len(listed) for i in range(len(adapter_names))]
    else:
        listed = distinct
        who = [listed.index(name) if name in listed else -1 for name in adapter_names]
    if listed and not ranks:
        raise InputError(f"{where} names adapters ({', '.join(listed[:5])}); say their ranks, in turn: --ranks 8,16")
    rank = np.array([ranks[i % len(ranks)] for i in range(len(listed))], dtype=np.int32)
    return AdapterTable(tuple(listed), rank, np.full(len(listed), np.nan)), who


def _gaps(requests: Sequence[Sent], who: Sequence[int], num_adapters: int) -> GapHistogram | None:
    """Gaps of all requests that did not fail; None where a finished one tells none."""
    counted = [(one, row) for one, row in zip(requests, who, strict=True) if not one.failure]
    if any(one.gaps_s is None and one.output_tokens > 1 for one, _ in counted) or not counted:
        return None
    bins = 2 + int(PER_OCTAVE * np.log2(MOST_GAP_S / LEAST_GAP_S))
    counts = np.zeros((num_adapters + 1, bins), dtype=np.int64)
    total = 0.0
    for one, row in counted:
        gaps = np.array(one.gaps_s or (), dtype=np.float64)
        total += float(gaps.sum())
        with np.errstate(divide="ignore"):
            place = np.floor(PER_OCTAVE * np.log2(gaps / LEAST_GAP_S)) + 1
        np.add.at(counts[row], np.clip(place, 0, bins - 1).astype(np.int64), 1)  # -1 is the last row: no adapter
    return GapHistogram(counts, LEAST_GAP_S, PER_OCTAVE, sum_s=total)
