"""What a run is, measured or simulated: one record, so that TTFT cannot mean two things.

All times are float seconds from the start of the run; a time that never came is NaN.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from loratwin.errors import InputError
from loratwin.records.columns import BoolArray, ColumnTable, FloatArray, IntArray, LongArray, column
from loratwin.records.config import EngineConfig
from loratwin.records.series import DeliverySeries, GapHistogram, Samples

RunKind = Literal["simulated", "measured"]


@dataclass(frozen=True, eq=False)
class RequestTable(ColumnTable):
    """One row for each request that was sent in the window, in order of arrival. Columns have shape (num_requests,)."""

    arrival_s: FloatArray = column(np.float64)  # enters the engine's queue; a client that cannot see it says sent_s
    admitted_s: FloatArray = column(np.float64)  # first in a batch
    first_token_s: FloatArray = column(np.float64)
    finish_s: FloatArray = column(np.float64)
    adapter: IntArray = column(np.int32)  # row of the adapter table; -1: the LLM without adapter
    prompt_tokens: IntArray = column(np.int32)
    output_tokens: IntArray = column(np.int32)  # what a finished request has produced; of others: asked for
    num_preemptions: IntArray = column(np.int32)
    refused: BoolArray = column(np.bool_)  # turned away on arrival
    scheduled_s: FloatArray | None = column(np.float64, optional=True)  # the client meant to send
    sent_s: FloatArray | None = column(np.float64, optional=True)  # the client sent; NaN: it did not come to that
    asked_tokens: IntArray | None = column(np.int32, optional=True)  # output tokens asked for
    received_tokens: IntArray | None = column(np.int32, optional=True)  # that reached the client within the window
    failure: IntArray | None = column(np.int32, optional=True)  # row of Run.failures; -1: did not fail
    replica: IntArray | None = column(np.int32, optional=True)  # which of several servers

    def __post_init__(self) -> None:
        super().__post_init__()
        if np.isnan(self.arrival_s).any():
            raise InputError("RequestTable.arrival_s: NaN; every request of a run has arrived")
        if (self.arrival_s[1:] < self.arrival_s[:-1]).any():
            raise InputError("RequestTable.arrival_s: not ascending; sort the requests by arrival")
        if self.adapter.size and self.adapter.min() < -1:
            raise InputError("RequestTable.adapter: below -1, which stands for no adapter")


@dataclass(frozen=True, eq=False)
class AdapterTable(ColumnTable):
    """The adapters that are served, in the order of their index. Each column has shape (num_adapters,)."""

    name: tuple[str, ...]
    rank: IntArray = column(np.int32)
    rate_per_s: FloatArray = column(np.float64)  # nominal, as asked for; NaN: unknown

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "name", tuple(self.name))
        if len(self.name) != len(self):
            raise InputError(f"AdapterTable: {len(self.name)} names for {len(self)} adapters")


@dataclass(frozen=True, eq=False)
class StepSeries(ColumnTable):
    """One row for each engine step, in order; the engine is idle between the end of one and the start of the next.

    Each column has shape (num_steps,). A step ends at `start_s + duration_s`, bit for bit the time of its tokens.
    """

    start_s: FloatArray = column(np.float64)
    duration_s: FloatArray = column(np.float64)
    decode_requests: IntArray = column(np.int32)
    prefill_tokens: IntArray = column(np.int32)
    running: IntArray = column(np.int32)
    waiting: IntArray = column(np.int32)
    distinct_adapters: IntArray = column(np.int32)
    kv_blocks: IntArray = column(np.int32)  # owned by requests
    swap_ins: IntArray = column(np.int32)
    disk_loads: IntArray = column(np.int32)
    decode_context: IntArray | None = column(np.int32, optional=True)  # tokens in the KV cache of decode requests
    prefill_context: LongArray | None = column(np.int64, optional=True)  # prompt tokens x tokens that each looks at
    skipped: IntArray | None = column(np.int32, optional=True)  # waiting requests passed over: adapter without a place
    schedule_s: FloatArray | None = column(np.float64, optional=True)  # part of the duration: the scheduler's own
    load_s: FloatArray | None = column(np.float64, optional=True)  # part of the duration: swap-ins and disk loads


@dataclass(frozen=True)
class Gauges:
    """The server's own figures over the window, time-weighted, where the step series is not kept (or never was)."""

    running_mean: float = float("nan")
    running_max: float = float("nan")
    waiting_mean: float = float("nan")
    waiting_max: float = float("nan")
    kv_usage_mean: float = float("nan")  # share of the KV tokens, 0 to 1
    kv_usage_max: float = float("nan")
    swap_ins: int | None = None
    disk_loads: int | None = None
    num_steps: int | None = None


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from. Holds no wall-clock time: the same seed gives the same bytes."""

    created_by: str = ""  # the command or function
    loratwin_version: str = ""
    engine_version: str = ""  # as "vllm-0.8.5"
    llm: str = ""  # as the server names it
    gpu: str = ""  # as NVML names it; of a server on CPU: "cpu"
    server_args: tuple[str, ...] = ()  # what the server was started with
    profile: str | None = None
    profile_hash: str | None = None
    workload_hash: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()  # what a reader must know, as "outside the profile's domain: ..."


@dataclass(frozen=True, eq=False)
class Run:
    """One run of one server: its requests, what it was started with, and where the figures come from.

    Parameters
    ----------
    window_s
        Requests arrive in [0, window_s); what finishes later does not count.
    kv_tokens
        Tokens that the KV cache holds; None: unknown, as of a server that does not tell.
    steps
        The step series, or None where it was not kept.
    gauges
        Figures of the server over the window; used by the metrics where `steps` is None.
    failures
        Kinds of failure, as "HTTP 500"; `requests.failure` are rows of it.
    invalid
        Reasons why the figures are not to be trusted, as a client that fell behind; empty: they may be.
    gaps, deliveries, samples
        Measured runs: gaps between tokens, tokens over time, and what was scraped, each source on its own cadence.
    client_overhead_s
        Simulated runs: seconds that a client sees on top of the engine's TTFT and end-to-end time (HTTP, tokenizer).
    """

    kind: RunKind
    window_s: float
    requests: RequestTable
    adapters: AdapterTable
    config: EngineConfig
    kv_tokens: int | None
    provenance: Provenance = field(default_factory=Provenance)
    steps: StepSeries | None = None
    gauges: Gauges | None = None
    client_overhead_s: float = 0.0
    failures: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    gaps: GapHistogram | None = None
    deliveries: DeliverySeries | None = None
    samples: tuple[Samples, ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in get_args(RunKind):
            raise InputError(f"Run.kind: {self.kind!r}; valid: {', '.join(get_args(RunKind))}")
        if not 0 < self.window_s < float("inf"):
            raise InputError(f"Run.window_s: {self.window_s!r}; it must be a positive number of seconds")
        if not 0 <= self.client_overhead_s < float("inf"):
            raise InputError(f"Run.client_overhead_s: {self.client_overhead_s!r}; it must be a number of seconds")
        if len(self.requests) and self.requests.adapter.max() >= len(self.adapters):
            raise InputError(
                f"Run: a request asks for adapter {self.requests.adapter.max()} of {len(self.adapters)} adapters"
            )
        failure = self.requests.failure
        if failure is not None and len(failure) and not -1 <= failure.min() <= failure.max() < len(self.failures):
            raise InputError(f"Run: a request's failure is none of the {len(self.failures)} in Run.failures")
        if self.gaps is not None and len(self.gaps.counts) != len(self.adapters) + 1:
            raise InputError(f"Run: gaps have {len(self.gaps.counts)} rows for {len(self.adapters)} adapters and none")

    def with_notes(self, notes: Sequence[str]) -> Run:
        """The same run with more in `provenance.notes`: what a reader must know."""
        return replace(self, provenance=replace(self.provenance, notes=(*self.provenance.notes, *notes)))
