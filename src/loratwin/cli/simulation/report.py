"""What `loratwin simulate` shows: one column for each configuration, as JSON here, as a table in `table`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import loratwin
from loratwin.errors import CapacityError
from loratwin.metrics import Interval, Slo, per_adapter
from loratwin.perf import Profile
from loratwin.records import EngineConfig, Run
from loratwin.simulate import Forecast, Outcome, Replications, outcome, served_capacity, simulate, time_series
from loratwin.workload import Workload, WorkloadSpec, draw

PARTS = 60
"""Of the window, in time series."""


@dataclass(frozen=True)
class Column(Replications):
    """One configuration: the outcomes of all seeds, the first run where it was kept, where a real run will lie."""

    num_adapters: int = 0
    first: Run | None = None
    forecast: Forecast | None = None


@dataclass(frozen=True)
class Report:
    """Everything that is shown."""

    workload: str
    spec: WorkloadSpec
    profile: Profile
    seeds: tuple[int, ...]
    slo: Slo | None
    columns: Sequence[Column]
    adapters: bool
    series: bool

    def as_json(self) -> dict[str, Any]:
        """Plain data; NaN as None."""
        return {
            "loratwin": loratwin.__version__,
            "kind": "simulated",
            "workload": self.workload,
            "profile": self.profile.name,
            "profile_hash": self.profile.digest,
            "window_s": self.spec.window_s,
            "served_adapters": self.spec.num_adapters,
            "seeds": list(self.seeds),
            "results": [self._column_json(column) for column in self.columns],
        }

    def _column_json(self, column: Column) -> dict[str, Any]:
        head = {"config": column.config.model_dump(), "kv_tokens": column.kv_tokens, "starts": not column.reason}
        if column.reason:
            return {**head, "reason": column.reason}
        return {
            **head,
            "figures": {name: _interval(figure) for name, figure in column.figures().items()},
            **({"prediction_intervals": _intervals(column.forecast)} if column.forecast else {}),
            "starved_runs": column.num_starved,
            "starved_reasons": sorted({summary.starved_reason for summary in column.summaries} - {""}),
            "starving_adapters": column.starving,
            "notes": list(column.notes),
            **({"slo": self._slo_json(column), "goodput": _interval(column.goodput())} if self.slo else {}),
            **({"adapters": adapter_rows(column.first)} if self.adapters and column.first else {}),
            **({"series": _lists(time_series(column.first, PARTS))} if self.series and column.first else {}),
        }

    def _slo_json(self, column: Column) -> list[dict[str, Any]]:
        limits = self.slo.limits if self.slo else ()
        reached = column.slo_s()
        return [
            {
                "limit": str(limit),
                **{f"{key}_s": value for key, value in _interval(reached[limit.name]).items()},
                "met": reached[limit.name].mean <= limit.limit_s,
            }
            for limit in limits
        ]


def _interval(figure: Interval) -> dict[str, float | None]:
    return {"mean": _number(figure.mean), "half_width": _number(figure.half_width)}


def _intervals(forecast: Forecast) -> dict[str, Any]:
    found = {name: {"low": each.low, "high": each.high} for name, each in forecast.intervals.items()}
    return {"level": forecast.level, "figures": found, "notes": list(forecast.notes)}


def _number(value: float) -> float | None:
    return value if value == value else None


def adapter_rows(run: Run) -> list[dict[str, Any]]:
    """Figures of each adapter as plain data."""
    figures = per_adapter(run)
    columns = {name: getattr(figures, name) for name in ("name", *_ADAPTER_COLUMNS)}
    rows = zip(*(_list(column) for column in columns.values()), strict=True)
    return [dict(zip(columns, row, strict=True)) for row in rows]


_ADAPTER_COLUMNS = (
    "requests", "finished", "offered", "throughput", "served_share", "ttft_mean_ms", "ttft_p50_ms", "ttft_p99_ms",
    "starved",
)  # fmt: skip


def _list(column: Iterable[Any]) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [None if value != value else value for value in values]


def _lists(table: Any) -> dict[str, list[Any]]:
    return {name: _list(values) for name, values in asdict(table).items()}


def simulate_all(
    spec: WorkloadSpec,
    profile: Profile,
    configs: Sequence[EngineConfig],
    seeds: Iterable[int],
    slo: Slo | None,
    keep_first: bool,
    each: Callable[[Run], None],
    progress: Callable[[int], None],
) -> list[Column]:
    """Every configuration with every seed; requests are drawn once for each seed. `each` is given every run."""
    outcomes: list[list[Outcome]] = [[] for _ in configs]
    first: list[Run | None] = [None] * len(configs)
    for seed in seeds:
        workload = draw(spec, seed)
        for i, config in enumerate(configs):
            run = _run_or_reason(workload, profile, config)
            if isinstance(run, Run):
                each(run)
                first[i] = first[i] or (run if keep_first else None)
                outcomes[i].append(outcome(run, slo))
            else:
                outcomes[i].append(run)
            progress(sum(map(len, outcomes)))
    return [Column(tuple(found), spec.num_adapters, kept) for found, kept in zip(outcomes, first, strict=True)]


def _run_or_reason(workload: Workload, profile: Profile, config: EngineConfig) -> Run | Outcome:
    try:
        return simulate(workload, profile, config)
    except CapacityError as error:
        return Outcome(config, workload.seed, served_capacity(profile, config).tokens, str(error), None)
