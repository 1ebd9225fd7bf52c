"""One row of a `serving_*.csv`: a server's configuration, its workload, and what was measured (if it was).

Predictions use the configuration only: `ServingRun.workload` and `.config` never look at a measured column.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from loratwin.calibrate.published.tables import Row, number, numbers, read_table
from loratwin.errors import DataError
from loratwin.perf import Profile, load_profile
from loratwin.perf.profile import shipped_names
from loratwin.records import EngineConfig
from loratwin.simulate.engine import MOST_COUNT, MOST_STEP_TOKENS
from loratwin.workload import Workload, draw, uniform_groups

CONFIGURATION = (
    "run",
    "model",
    "max_loras",
    "served_adapters",
    "max_lora_rank",
    "max_num_seqs",
    "max_num_batched_tokens",
    "adapter_ranks_cycle",
    "adapter_rate_values",
    "adapter_rate_counts",
    "prompt_tokens_mean",
    "output_tokens_mean",
)

CLIENT_LAG_S = 1.76e-4
"""The measuring client slept between requests: at R requests/s it sent R / (1 + R x this), 15 % less at 1,000/s (README
of the measurements)."""

CLIENT_MAX_IN_FLIGHT = 26_000
"""Requests in flight beyond which its connections failed: `waiting_max` + `running_max` of the overloaded runs."""

DEFAULT_WINDOW_S = 3600.0

_MOST_ADAPTERS = 100_000  # as in a workload
_MOST = {
    "served_adapters": _MOST_ADAPTERS,
    "adapter_rate_counts": _MOST_ADAPTERS,
    "max_num_batched_tokens": MOST_STEP_TOKENS,
}
"""By column, what the twin can serve; of the others `MOST_COUNT`."""


@dataclass(frozen=True)
class ServingRun:
    """A server and its workload; `row` keeps the measured columns for scoring and fitting."""

    name: str
    model: str
    max_loras: int
    served_adapters: int
    max_lora_rank: int
    max_num_seqs: int
    max_num_batched_tokens: int
    ranks_cycle: tuple[int, ...]
    rates: str  # the workload's rates as in the file, empty where the file has no such column
    rate_values: tuple[float, ...]
    rate_counts: tuple[int, ...]
    prompt_tokens_mean: float
    output_tokens_mean: float
    window_s: float
    row: Row

    @property
    def group(self) -> str:
        """The workload that this run belongs to: rates and ranks, whatever slots and number of adapters."""
        return f"{self.rates or ' '.join(map(str, sorted(self.rate_values)))} | {self.row['adapter_ranks_cycle']}"

    @property
    def has_workload(self) -> bool:
        """False for servers that did not start: their rates and lengths are unknown."""
        return bool(self.rate_values) and math.isfinite(self.prompt_tokens_mean + self.output_tokens_mean)

    @property
    def total_rate(self) -> float:
        """Requests per second asked for."""
        return sum(v * c for v, c in zip(self.rate_values, self.rate_counts, strict=True))

    @property
    def sent_per_s(self) -> float:
        """Requests per second that the measuring client really sent (see CLIENT_LAG_S)."""
        return self.total_rate / (1 + self.total_rate * CLIENT_LAG_S)

    @property
    def measured(self) -> bool:
        """True when the run completed and its figures are in the row."""
        return self.row.get("outcome") == "ok" and math.isfinite(number(self.row, "completed"))

    def figure(self, column: str) -> float:
        """A measured figure; NaN when absent."""
        return number(self.row, column)

    @property
    def config(self) -> EngineConfig:
        """What the server was started with; its client could not hold more than `CLIENT_MAX_IN_FLIGHT` requests."""
        return EngineConfig(
            max_loras=self.max_loras,
            max_cpu_loras=max(self.served_adapters, self.max_loras),
            max_lora_rank=self.max_lora_rank,
            max_num_seqs=self.max_num_seqs,
            max_num_batched_tokens=self.max_num_batched_tokens,
            max_in_flight=CLIENT_MAX_IN_FLIGHT,
        )

    def workload(self, generated_share: float, seed: int = 0) -> Workload:
        """Requests as the measuring client sent them.

        Parameters
        ----------
        generated_share
            Output tokens generated per token asked for (some requests end early).
        """
        sent = self.sent_per_s / self.total_rate
        return _draw(
            tuple(v * sent for v in self.rate_values),
            self.rate_counts,
            self.ranks_cycle,
            self.prompt_tokens_mean,
            self.output_tokens_mean * generated_share,
            self.window_s,
            seed,
        )


@lru_cache(maxsize=2)
def _draw(
    rates: tuple[float, ...],
    counts: tuple[int, ...],
    ranks: tuple[int, ...],
    prompt_mean: float,
    output_mean: float,
    window_s: float,
    seed: int,
) -> Workload:
    spec = uniform_groups(list(rates), list(counts), list(ranks), prompt_mean, output_mean, window_s)
    return draw(spec, seed)


def read_serving(path: Path) -> list[ServingRun]:
    """All runs of a `serving_*.csv`; measured columns may be absent.

    Raises
    ------
    InputError, DataError
        The file cannot be read, or a configuration column is missing or not a number (the row is named).
    """
    return [_parse(path, line, row) for line, row in enumerate(read_table(path, CONFIGURATION), start=2)]


def _parse(path: Path, line: int, row: Row) -> ServingRun:
    try:
        return _run(row)
    except DataError as error:
        raise DataError(f"{path}, line {line}: {error}") from None


def _run(row: Row) -> ServingRun:
    rates, counts = numbers(row, "adapter_rate_values"), _wholes(row, "adapter_rate_counts")
    if len(rates) != len(counts):
        raise DataError(f"{len(rates)} adapter_rate_values and {len(counts)} adapter_rate_counts")
    if rates and not sum(counts):
        raise DataError("adapter_rate_counts: no adapters")
    window = _positive("window_s", number(row, "window_s"))
    return ServingRun(
        name=row["run"],
        model=row["model"],
        max_loras=_whole(row, "max_loras"),
        served_adapters=_whole(row, "served_adapters"),
        max_lora_rank=_whole(row, "max_lora_rank"),
        max_num_seqs=_whole(row, "max_num_seqs"),
        max_num_batched_tokens=_whole(row, "max_num_batched_tokens"),
        ranks_cycle=tuple(_wholes(row, "adapter_ranks_cycle")),
        rates=row.get("rates") or "",
        rate_values=tuple(_positive("adapter_rate_values", rate) for rate in rates),
        rate_counts=tuple(counts),
        prompt_tokens_mean=_positive("prompt_tokens_mean", number(row, "prompt_tokens_mean")),
        output_tokens_mean=_positive("output_tokens_mean", number(row, "output_tokens_mean")),
        window_s=DEFAULT_WINDOW_S if math.isnan(window) else window,
        row=row,
    )


def _positive(column: str, value: float) -> float:
    """The value, NaN where it is absent."""
    if value <= 0 or math.isinf(value):
        raise DataError(f"column {column!r}: {value:g} is not a positive number")
    return value


def _whole(row: Row, column: str) -> int:
    return _as_whole(column, number(row, column), row.get(column))


def _wholes(row: Row, column: str) -> list[int]:
    return [_as_whole(column, value, row[column]) for value in numbers(row, column)]


def _as_whole(column: str, value: float, text: object) -> int:
    if not math.isfinite(value) or value != int(value) or value < 0:
        raise DataError(f"column {column!r}: {text!r} is not a whole number")
    if value > (most := _MOST.get(column, MOST_COUNT)):
        raise DataError(f"column {column!r}: {text!r} is above {most:,}")
    return int(value)


def profile_for(model: str, engine: str = "vllm-0.8.5") -> Profile:
    """The shipped profile of an LLM.

    Raises
    ------
    DataError
        There is none.
    """
    names = [name for name in shipped_names() if name.endswith(f"{engine}/{model}")]
    if not names:
        known = sorted({name.rsplit("/", 1)[1] for name in shipped_names()})
        raise DataError(f"model {model!r}: no profile ships for it; known: {', '.join(known)}")
    return load_profile(names[0])
