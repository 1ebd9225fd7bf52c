"""What a run is, measured or simulated: one record, so that TTFT cannot mean two things.

All times are float seconds from the start of the run; a time that never came is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from statistics import fmean
from typing import Any, Literal, get_args

import numpy as np

from loratwin import notebook
from loratwin.errors import InputError
from loratwin.extras import required
from loratwin.formatting import number
from loratwin.records.columns import AnyArray, BoolArray, ColumnTable, FloatArray, IntArray, LongArray, column
from loratwin.records.config import EngineConfig
from loratwin.records.series import DeliverySeries, GapHistogram, Samples
from loratwin.records.sharing import Sharing

RunKind = Literal["simulated", "measured"]

STEADY = 1.1
"""A machine whose reference loads differ by a smaller factor counts as steady."""


@dataclass(frozen=True, eq=False)
class RequestTable(ColumnTable):
    """One row for each request that was sent in the window, in order of arrival. Columns have shape (num_requests,).

    Times are seconds from the start of the run; NaN: it never came to that. `columns` gives all as a dictionary.

    Parameters
    ----------
    arrival_s
        It enters the engine's queue; a client that cannot see it takes `sent_s`.
    admitted_s
        First in a batch.
    first_token_s, finish_s
        Its first token; its last.
    adapter
        Row of the adapter table; -1: the LLM without adapter.
    prompt_tokens
        Tokens of its prompt.
    output_tokens
        What a finished request has produced; of others: asked for.
    num_preemptions
        Times that it lost its KV blocks and began again.
    cached_tokens
        Tokens of its prompt that the prefix cache held when it was first admitted; -1: unknown.
    refused
        Turned away on arrival.
    scheduled_s
        Measured runs: the client meant to send.
    sent_s
        Measured runs: the client sent.
    asked_tokens
        Output tokens asked for.
    received_tokens
        Output tokens that reached the client within the window.
    failure
        Row of `Run.failures`; -1: did not fail.
    replica
        Which of several servers.

    Raises
    ------
    InputError
        Arrivals are NaN or do not ascend, or as `ColumnTable`.
    """

    arrival_s: FloatArray = column(np.float64)
    admitted_s: FloatArray = column(np.float64)
    first_token_s: FloatArray = column(np.float64)
    finish_s: FloatArray = column(np.float64)
    adapter: IntArray = column(np.int32)
    prompt_tokens: IntArray = column(np.int32)
    output_tokens: IntArray = column(np.int32)
    num_preemptions: IntArray = column(np.int32)
    refused: BoolArray = column(np.bool_)
    scheduled_s: FloatArray | None = column(np.float64, optional=True)
    sent_s: FloatArray | None = column(np.float64, optional=True)
    asked_tokens: IntArray | None = column(np.int32, optional=True)
    received_tokens: IntArray | None = column(np.int32, optional=True)
    failure: IntArray | None = column(np.int32, optional=True)
    replica: IntArray | None = column(np.int32, optional=True)
    cached_tokens: IntArray | None = column(np.int32, optional=True)

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
    """The adapters that are served, in the order of their index. Each column has shape (num_adapters,).

    Parameters
    ----------
    name
        Each once.
    rank
        Of its matrices.
    rate_per_s
        Requests per second, nominal, as asked for; NaN: unknown.
    """

    name: tuple[str, ...]
    rank: IntArray = column(np.int32)
    rate_per_s: FloatArray = column(np.float64)

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "name", tuple(self.name))
        if len(self.name) != len(self):
            raise InputError(f"AdapterTable: {len(self.name)} names for {len(self)} adapters")


@dataclass(frozen=True, eq=False)
class StepSeries(ColumnTable):
    """One row for each engine step, in order; the engine is idle between the end of one and the start of the next.

    Each column has shape (num_steps,). A step ends at `start_s + duration_s`, bit for bit the time of its tokens.

    Parameters
    ----------
    start_s, duration_s
        Seconds, from the start of the run.
    decode_requests
        Requests that compute one token.
    prefill_tokens
        Prompt tokens that are computed.
    running, waiting
        Requests in the batch, and in the queue.
    distinct_adapters
        Adapters in the batch.
    kv_blocks
        Owned by requests.
    swap_ins, disk_loads
        Adapters brought from host memory to a slot, and from disk to host memory.
    decode_context
        Tokens in the KV cache of decode requests.
    prefill_context
        Prompt tokens x tokens that each looks at.
    skipped
        Waiting requests that were passed over: their adapter has no place.
    schedule_s, load_s
        Parts of the duration: the scheduler's own; swap-ins and disk loads.
    """

    start_s: FloatArray = column(np.float64)
    duration_s: FloatArray = column(np.float64)
    decode_requests: IntArray = column(np.int32)
    prefill_tokens: IntArray = column(np.int32)
    running: IntArray = column(np.int32)
    waiting: IntArray = column(np.int32)
    distinct_adapters: IntArray = column(np.int32)
    kv_blocks: IntArray = column(np.int32)
    swap_ins: IntArray = column(np.int32)
    disk_loads: IntArray = column(np.int32)
    decode_context: IntArray | None = column(np.int32, optional=True)
    prefill_context: LongArray | None = column(np.int64, optional=True)
    skipped: IntArray | None = column(np.int32, optional=True)
    schedule_s: FloatArray | None = column(np.float64, optional=True)
    load_s: FloatArray | None = column(np.float64, optional=True)


@dataclass(frozen=True)
class Gauges:
    """The server's own figures over the window, time-weighted, where the step series is not kept (or never was).

    Parameters
    ----------
    running_mean, running_max
        Requests in a batch; NaN: unknown, as in all of these.
    waiting_mean, waiting_max
        Requests in the queue.
    kv_usage_mean, kv_usage_max
        Share of the KV tokens, 0 to 1.
    swap_ins, disk_loads, num_steps
        Totals; None: unknown.
    """

    running_mean: float = float("nan")
    running_max: float = float("nan")
    waiting_mean: float = float("nan")
    waiting_max: float = float("nan")
    kv_usage_mean: float = float("nan")
    kv_usage_max: float = float("nan")
    swap_ins: int | None = None
    disk_loads: int | None = None
    num_steps: int | None = None


@dataclass(frozen=True)
class PrefixCounts:
    """What the server's prefix cache was asked and had, in tokens, as it counts itself (engine.md 1.9).

    Parameters
    ----------
    queries
        Tokens of the requests that were looked up.
    hits
        Of these, tokens that were there and were not computed again.
    """

    queries: int
    hits: int

    @property
    def hit_rate(self) -> float:
        """Hits / queries; NaN where nothing was asked."""
        return self.hits / self.queries if self.queries else float("nan")


@dataclass(frozen=True)
class ReferenceLoad:
    """How fast the machine was: seconds between two tokens of a small load, always the same, on the served engine.

    Parameters
    ----------
    before_s, after_s
        Mean over the load before the window and over that after it; NaN: it was not measured.
    """

    before_s: float
    after_s: float = float("nan")

    @property
    def mean_s(self) -> float:
        """Geometric mean of those that are known: what the window saw; NaN without."""
        logs = [math.log(seconds) for seconds in (self.before_s, self.after_s) if seconds > 0]
        return math.exp(fmean(logs)) if logs else math.nan

    @property
    def change(self) -> float:
        """log(after / before): above 0 the machine has become slower; NaN where one is not known."""
        return math.log(self.after_s / self.before_s) if self.before_s > 0 and self.after_s > 0 else math.nan

    def __str__(self) -> str:
        if math.isnan(self.change):
            return f"reference load: {1e3 * self.mean_s:.3g} ms between tokens"
        text = (
            f"reference load: {1e3 * self.before_s:.3g} ms between tokens before the window, "
            f"{1e3 * self.after_s:.3g} ms after it ({100 * math.expm1(self.change):+.0f} %)"
        )
        steady = abs(self.change) <= math.log(STEADY)
        return text if steady else f"{text}: the machine's speed changed under the run"


@dataclass(frozen=True)
class Provenance:
    """Where a run comes from. Holds no wall-clock time: the same seed gives the same bytes.

    Parameters
    ----------
    created_by
        The command or function.
    loratwin_version
        That made it.
    engine_version
        As "vllm-0.8.5"; empty: unknown.
    llm
        As the server names it.
    gpu
        As NVML names it; of a server on CPU: "cpu".
    server_args
        What the server was started with, without secrets; empty: unknown.
    server_env
        Environment variables of the server that say how it computes, as NAME=value, without secrets; None: unknown.
    assumed
        Fields of `EngineConfig` that nobody told of the server: the engine's defaults stand in their place.
    left_out
        Fields of requests that the server refused, so that they were not sent (`RequestForm.left_out`); "ignore_eos
        unheeded": it was sent, and answers ended early all the same.
    profile, profile_hash
        Simulated runs: name and hash of the profile.
    workload_hash, seed
        Of the workload that was sent.
    notes
        What a reader must know, as "outside the profile's domain: ...".
    """

    created_by: str = ""
    loratwin_version: str = ""
    engine_version: str = ""
    llm: str = ""
    gpu: str = ""
    server_args: tuple[str, ...] = ()
    server_env: tuple[str, ...] | None = None
    assumed: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    profile: str | None = None
    profile_hash: str | None = None
    workload_hash: str | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()

    def as_plain(self) -> dict[str, Any]:
        """As records have it: without what nobody knew before there was a place for it."""
        later = {"server_env": None, "assumed": (), "left_out": ()}
        return {name: value for name, value in asdict(self).items() if name not in later or value != later[name]}


@dataclass(frozen=True, eq=False, repr=False)
class Run:
    """One run of one server: its requests, what it was started with, and where the figures come from.

    Parameters
    ----------
    kind
        "simulated" or "measured".
    window_s
        Seconds. Requests arrive in [0, window_s); what finishes later does not count.
    requests
        A row for each.
    adapters
        That were served, whether or not they were asked for.
    config
        What the server was started with.
    kv_tokens
        Tokens that the KV cache holds; None: unknown, as of a server that does not tell.
    provenance
        Where the run comes from.
    steps
        The step series, or None where it was not kept.
    gauges
        Figures of the server over the window; used by the metrics where `steps` is None.
    prefix_cache
        What the prefix cache had; None: there is none, or nobody told.
    failures
        Kinds of failure, as "HTTP 500"; `requests.failure` are rows of it.
    invalid
        Reasons why the figures are not to be trusted, as a client that fell behind; empty: they may be.
    sharing
        What the requests had in common as the workload states it, a row for each; None: nothing, or nobody told.
    reference
        Measured runs: a reference load before and after; None: there was none.
    gaps, deliveries, samples
        Measured runs: gaps between tokens, tokens over time, and what was scraped, each source on its own cadence.
    client_overhead_s
        Simulated runs: seconds that a client sees on top of the engine's TTFT and end-to-end time (HTTP, tokenizer).

    Raises
    ------
    InputError
        Parts do not fit together: another kind, a window that is none, an adapter or a failure that is not there.
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
    prefix_cache: PrefixCounts | None = None
    client_overhead_s: float = 0.0
    failures: tuple[str, ...] = ()
    invalid: tuple[str, ...] = ()
    gaps: GapHistogram | None = None
    deliveries: DeliverySeries | None = None
    samples: tuple[Samples, ...] = ()
    reference: ReferenceLoad | None = None
    sharing: Sharing | None = None

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
        if self.sharing is not None and len(self.sharing) != len(self.requests):
            raise InputError(f"Run: sharing of {len(self.sharing)} requests, and there are {len(self.requests)}")
        failure = self.requests.failure
        if failure is not None and len(failure) and not -1 <= failure.min() <= failure.max() < len(self.failures):
            raise InputError(f"Run: a request's failure is none of the {len(self.failures)} in Run.failures")
        if self.gaps is not None and len(self.gaps.counts) != len(self.adapters) + 1:
            raise InputError(f"Run: gaps have {len(self.gaps.counts)} rows for {len(self.adapters)} adapters and none")

    def __repr__(self) -> str:
        invalid = ", INVALID" if self.invalid else ""
        return f"<Run: {self.headline}, max_loras {self.config.max_loras}{invalid}>"

    @property
    def headline(self) -> str:
        """One line: measured or simulated, of what, and how much."""
        source = self.provenance
        who = [part for part in (source.profile or source.engine_version, source.llm, source.gpu) if part]
        rate = number(len(self.requests) / self.window_s)
        return ", ".join([self.kind, *who, f"{len(self.adapters):,} adapters, {rate} requests/s, {self.window_s:g} s"])

    def _repr_html_(self) -> str:
        """What a notebook shows: where it comes from. Its figures are `loratwin.summarize(run)`."""
        config = {name: value for name, value in self.config.model_dump().items() if value is not None}
        facts = {
            "made by": f"{self.provenance.created_by} {self.provenance.loratwin_version}".strip(),
            "requests": number(len(self.requests)),
            "KV tokens": "" if self.kv_tokens is None else number(self.kv_tokens),
            "server": ", ".join(f"{name} {value}" for name, value in config.items()),
        }
        remarks = [*(f"INVALID: {reason}" for reason in self.invalid), *self.provenance.notes]
        rows = [(name, value) for name, value in facts.items() if value]
        return notebook.view(self.headline, notebook.table(rows), notebook.lines(remarks))

    def to_pandas(self) -> Any:
        """The requests as a `pandas.DataFrame`, one row for each; columns as in `request_columns`.

        Raises
        ------
        InputError
            pandas is not installed.
        """
        return required("pandas", "to_pandas()", "pandas").DataFrame(self.request_columns())

    def to_arrow(self) -> Any:
        """The requests as a `pyarrow.Table`, one row for each; columns as in `request_columns`.

        Raises
        ------
        InputError
            pyarrow is not installed.
        """
        return required("pyarrow", "to_arrow()", "parquet").table(self.request_columns())

    def with_notes(self, notes: Sequence[str]) -> Run:
        """The same run with more in `provenance.notes`: what a reader must know."""
        return replace(self, provenance=replace(self.provenance, notes=(*self.provenance.notes, *notes)))

    def request_columns(self) -> dict[str, AnyArray]:
        """The table of requests with the adapters' names and the kinds of failure, for pandas, pyarrow or polars.

        pandas.DataFrame(run.request_columns())

        Returns
        -------
        dict of arrays, each of shape (num_requests,)
            Those of `RequestTable` that are there; `adapter_name` ("" without adapter) and `adapter_rank` (0); of a
            measured run `failure_kind` ("" where it did not fail).
        """
        who = self.requests.adapter  # -1 is the last entry
        extra = {
            "adapter_name": np.array([*self.adapters.name, ""], dtype=np.str_)[who],
            "adapter_rank": np.append(self.adapters.rank, np.int32(0))[who],
        }
        if self.requests.failure is not None:
            extra["failure_kind"] = np.array([*self.failures, ""], dtype=np.str_)[self.requests.failure]
        return {**self.requests.columns(), **extra}
