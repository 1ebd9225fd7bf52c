"""Many runs: one workload on several configurations, each with several seeds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from math import nan
from typing import Any, Literal

from loratwin.engines.versions import limits_beside
from loratwin.errors import InputError
from loratwin.metrics import (
    Interval,
    Slo,
    Summary,
    confidence_interval,
    gauges,
    over_replications,
    parse_slo,
    per_adapter,
)
from loratwin.perf import Profile, Uncertainty
from loratwin.records import EngineConfig, Run
from loratwin.records.plain import as_plain
from loratwin.simulate.forecast import LEVEL as FORECAST_LEVEL
from loratwin.simulate.forecast import SEEDS, Forecast, forecast_of, plausible_profile
from loratwin.simulate.outcome import LEVEL, Outcome, each_once, real_slo_over_seeds, slo_over_seeds, try_config
from loratwin.simulate.series import time_series
from loratwin.simulate.workers import Progress, Workers, silent
from loratwin.version import __version__
from loratwin.workload import Workload, WorkloadSpec, draw

PARTS = 60
"""Of the window, in time series."""

Kept = Literal["none", "first", "all"]
"""Which runs of each configuration are kept: all take memory, a simulated hour some megabytes."""


@dataclass(frozen=True)
class Replications:
    """One configuration on draws of the same workload that differ in their seed only.

    Parameters
    ----------
    outcomes
        One for each seed.
    runs
        Those that were kept.
    forecast
        Where a real run's figures will lie; None: not asked for, or the server does not start.
    chance
        Probability that a real run keeps the SLO and does not starve; NaN: there is none, or the server does not start.
    """

    outcomes: tuple[Outcome, ...]
    runs: tuple[Run, ...] = ()
    forecast: Forecast | None = None
    chance: float = nan

    @property
    def config(self) -> EngineConfig:
        """What all runs have in common."""
        return self.outcomes[0].config

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.outcomes[0].kv_tokens

    @property
    def reason(self) -> str:
        """Why the server does not start; empty when it does."""
        return self.outcomes[0].reason

    @property
    def starts(self) -> bool:
        """Whether there is a server at all."""
        return not self.reason

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """One seed for each run."""
        return tuple(outcome.seed for outcome in self.outcomes)

    @property
    def summaries(self) -> tuple[Summary, ...]:
        """One summary for each run; none when the server does not start."""
        return tuple(outcome.summary for outcome in self.outcomes if outcome.summary is not None)

    @property
    def keeps_prefixes(self) -> bool:
        """Whether these servers have a prefix cache that the twin knows of."""
        return any(summary.cached_tokens is not None for summary in self.summaries)

    @property
    def num_starved(self) -> int:
        """Runs in which the server starves."""
        return sum(summary.starved for summary in self.summaries)

    @property
    def starved_reasons(self) -> tuple[str, ...]:
        """The signs of starvation that any run shows, sorted."""
        return tuple(sorted({summary.starved_reason for summary in self.summaries} - {""}))

    @property
    def starving(self) -> dict[str, int]:
        """In how many runs each adapter starves, the most frequent first; only those that do."""
        counts: dict[str, int] = {}
        for name in (name for outcome in self.outcomes for name in outcome.starving):
            counts[name] = counts.get(name, 0) + 1
        return dict(sorted(counts.items(), key=lambda item: -item[1]))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader must know, each remark once."""
        return each_once(note for outcome in self.outcomes for note in outcome.notes)

    def figures(self, level: float = LEVEL) -> dict[str, Interval]:
        """Mean and confidence half-width of every figure of the summaries, by name."""
        return over_replications(self.summaries, level)

    def goodput(self, level: float = LEVEL) -> Interval:
        """Requests per second within every limit of the SLO."""
        return confidence_interval([outcome.goodput for outcome in self.outcomes], level)

    def slo_s(self, level: float = LEVEL) -> dict[str, Interval]:
        """The same of the figures that an SLO limits, by limit."""
        return slo_over_seeds(self.outcomes, level)

    def real_slo_s(self, level: float = LEVEL) -> dict[str, Interval]:
        """What a real run will reach, of those limits alone where that is not the twin's own figure."""
        return real_slo_over_seeds(self.outcomes, level)


@dataclass(frozen=True, repr=False)
class Sweep:
    """One workload on several configurations of one server, simulated; `report.sweep_text` shows it as a table.

    Parameters
    ----------
    name
        Of the workload, to be shown.
    profile
        That all were simulated with.
    window_s
        Seconds of traffic.
    num_adapters, rate_per_s
        Of the workload: adapters, and nominal requests per second of all.
    seeds
        One run for each; None: of a workload that was drawn of no seed.
    slo
        Limits that were checked; None: none.
    columns
        One for each configuration, in the order given.
    """

    name: str
    profile: Profile
    window_s: float
    num_adapters: int
    rate_per_s: float
    seeds: tuple[int | None, ...]
    slo: Slo | None
    columns: tuple[Replications, ...]

    def __repr__(self) -> str:
        slots = ", ".join(str(column.config.max_loras) for column in self.columns)
        seeds = "1 seed" if len(self.seeds) == 1 else f"{len(self.seeds)} seeds"
        return f"<Sweep: {self.name} on {self.profile.name}, max_loras {slots}, {seeds}>"

    @property
    def none_starts(self) -> str:
        """Why no server starts and what would help; empty when one does."""
        if not self.columns or any(column.starts for column in self.columns):
            return ""
        *_, last = self.columns
        advice = "a smaller --max-model-len needs less"
        if last.config.max_loras:
            advice = f"fewer slots (--max-loras) leave more, {advice}"
        if last.kv_tokens >= (last.config.max_model_len or self.profile.llm.max_model_len):
            advice = "--max-loras gives them slots"  # memory is not what is short
        reasons = "; ".join(
            f"max_loras = {column.config.max_loras}: {column.reason} ({column.kv_tokens} KV tokens)"
            for column in self.columns
        )
        return f"{reasons}; {advice}"

    def as_json(self, adapters: bool = False, series: bool = False) -> dict[str, Any]:
        """Every figure as plain data; what is undefined is None.

        Parameters
        ----------
        adapters
            Figures of each adapter in the first run of each configuration, where it was kept.
        series
            Its course over time, where its steps were kept.
        """
        return as_plain(
            {
                "loratwin": __version__,
                "kind": "simulated",
                "workload": self.name,
                "profile": self.profile.name,
                "profile_hash": self.profile.digest,
                "window_s": self.window_s,
                "served_adapters": self.num_adapters,
                "seeds": list(self.seeds),
                "results": [self._column(column, adapters, series) for column in self.columns],
            }
        )

    def _column(self, column: Replications, adapters: bool, series: bool) -> dict[str, Any]:
        head = {"config": column.config.model_dump(), "kv_tokens": column.kv_tokens, "starts": column.starts}
        if not column.starts:
            return {**head, "reason": column.reason}
        return {
            **head,
            "figures": {name: figure.as_json() for name, figure in column.figures().items()},
            **({"prediction_intervals": column.forecast.as_json()} if column.forecast else {}),
            "starved_runs": column.num_starved,
            "starved_reasons": column.starved_reasons,
            "starving_adapters": column.starving,
            "notes": column.notes,
            **self._of_slo(column),
            **({"adapters": adapter_rows(column.runs[0])} if adapters and column.runs else {}),
            **({"series": time_series(column.runs[0], PARTS)} if series and column.runs else {}),
        }

    def _of_slo(self, column: Replications) -> dict[str, Any]:
        if self.slo is None:
            return {}
        return {"slo": self._slo(column), "chance": column.chance, "goodput": column.goodput().as_json()}

    def _slo(self, column: Replications) -> list[dict[str, Any]]:
        limits, reached, real = self.slo.limits if self.slo else (), column.slo_s(), column.real_slo_s()
        return [
            {
                "limit": str(limit),
                **{f"{key}_s": value for key, value in reached[limit.name].as_json().items()},
                "real_run_s": real.get(limit.name, reached[limit.name]).mean,
                "met": real.get(limit.name, reached[limit.name]).mean <= limit.limit_s,
            }
            for limit in limits
        ]


_ADAPTER_FIGURES = (
    "name", "requests", "finished", "offered", "throughput", "served_share", "ttft_mean_ms", "ttft_p50_ms",
    "ttft_p99_ms", "starved",
)  # fmt: skip


def adapter_rows(run: Run) -> list[dict[str, Any]]:
    """Figures of each adapter as plain data, one row each; what is undefined is None."""
    figures = per_adapter(run)
    columns = [as_plain(getattr(figures, name)) for name in _ADAPTER_FIGURES]
    return [dict(zip(_ADAPTER_FIGURES, row, strict=True)) for row in zip(*columns, strict=True)]


def server_configs(
    workload: WorkloadSpec | Workload, profile: Profile, max_loras: Sequence[int] | None = None, **options: Any
) -> list[EngineConfig]:
    """Configurations that differ in their slots, with defaults that serve the workload.

    Parameters
    ----------
    workload
        What is to be served: a file's, or drawn requests.
    profile
        Of the GPU, engine and LLM.
    max_loras
        Slots of each; None: one server with a slot for each adapter.
    **options
        Other fields of `EngineConfig`. Where they are absent or None: the smallest rank that holds every adapter, the
        tokens of a step, the sequences and the part of the memory that the profile's engine takes on its GPU, and for
        the rest what `EngineConfig` says.

    Returns
    -------
    list of EngineConfig
        In the order of the slots.

    Raises
    ------
    InputError
        An adapter's rank is beyond what any server holds, or a value breaks a rule of every server.
    """
    given = {name: value for name, value in options.items() if value is not None}
    defaults: dict[str, Any] = limits_beside(profile.limits, given)._asdict()
    if "max_lora_rank" not in given:
        defaults["max_lora_rank"] = workload.smallest_rank
    slots = [workload.num_adapters] if max_loras is None else max_loras
    return [EngineConfig(max_loras=count, **{**defaults, **given}) for count in slots]


def sweep(
    workload: WorkloadSpec | Workload,
    profile: Profile,
    configs: Sequence[EngineConfig],
    *,
    seeds: Iterable[int] = (0,),
    slo: Slo | str | None = None,
    intervals: bool = False,
    keep: Kept = "none",
    with_steps: bool = False,
    processes: int = 1,
    progress: Progress = silent,
    name: str = "workload",
) -> Sweep:
    """Simulate one workload on several configurations, each with several seeds; what `loratwin simulate` does.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already, then `seeds` is ignored.
    profile
        Coefficients of the GPU, engine and LLM.
    configs
        One column for each, in this order; `server_configs` makes them.
    seeds
        One run for each, in this order.
    slo
        Limits to check, as `ttft_p99=2s,tpot_p99=100ms`, and the chance that a real run keeps them (`forecast`; ten
        runs more for each configuration).
    intervals
        Also say where a real run's figures will lie (`forecast`; ten runs more for each configuration).
    keep
        Which runs are kept beside their figures.
    with_steps
        Kept runs have every engine step, else the gauges that these sum up to.
    processes
        Cores to use; the result does not depend on it. More than 1 starts further Python processes: a script then needs
        `if __name__ == "__main__":`.
    progress
        Is told how many runs are done.
    name
        Of the workload, to be shown.

    Returns
    -------
    Sweep
        A server that does not start is a column with its reason.

    Raises
    ------
    InputError
        No seed, or as `simulate` for other reasons than that a server does not start.
    """
    limits = parse_slo(slo) if isinstance(slo, str) else slo
    all_seeds = _seeds(workload, seeds)
    kept = {"none": (), "first": all_seeds[:1], "all": all_seeds}[keep]
    tasks = [_Task(seed, config, seed in kept) for seed in all_seeds for config in configs]
    intervals = intervals and isinstance(workload, WorkloadSpec)
    with Workers(_Simulating(workload, profile, limits, with_steps), processes) as workers:
        results = workers.map(tasks, progress)
        columns = [_column(results[i :: len(configs)]) for i in range(len(configs))]
        if intervals or limits is not None:
            columns = _with_forecasts(columns, workers, profile.uncertainty, limits, intervals)
    return Sweep(
        name=name,
        profile=profile,
        window_s=workload.window_s,
        num_adapters=_num_adapters(workload),
        rate_per_s=workload.total_rate_per_s,
        seeds=all_seeds,
        slo=limits,
        columns=tuple(columns),
    )


def replicate(
    spec: WorkloadSpec,
    profile: Profile,
    config: EngineConfig,
    seeds: Iterable[int],
    processes: int = 1,
    slo: Slo | None = None,
    progress: Progress = silent,
) -> Replications:
    """Simulate one configuration with several seeds: the only column of a `sweep`.

    Parameters
    ----------
    spec, profile, config, seeds, processes, slo, progress
        As for `sweep`.

    Raises
    ------
    InputError
        No seed, or as `sweep`.
    """
    done = sweep(spec, profile, [config], seeds=seeds, slo=slo, processes=processes, progress=progress)
    return done.columns[0]


def _seeds(workload: WorkloadSpec | Workload, seeds: Iterable[int]) -> tuple[int | None, ...]:
    if isinstance(workload, Workload):
        return (workload.seed,)
    given = tuple(seeds)
    if not given:
        raise InputError("no seed is given; at least one is needed")
    return given


def _num_adapters(workload: WorkloadSpec | Workload) -> int:
    return len(workload.adapters) if isinstance(workload, Workload) else workload.num_adapters


@dataclass(frozen=True)
class _Task:
    """One run: small, so that it is cheap to send to another process."""

    seed: int | None
    config: EngineConfig
    keep: bool
    is_plausible: bool = False  # on the profile that is drawn with this seed, for the forecast


@dataclass(frozen=True)
class _Simulating:
    """What all runs have in common; goes to other processes. The last draw is kept: the next run is often of it."""

    workload: WorkloadSpec | Workload
    profile: Profile
    slo: Slo | None
    with_steps: bool
    _drawn: dict[int | None, Workload] = field(default_factory=dict, repr=False, compare=False)

    def __call__(self, task: _Task) -> tuple[Outcome, Run | None]:
        kept: list[Run] = []
        keep = kept.append if task.keep else lambda run: None
        profile = self.profile
        if task.is_plausible:
            assert task.seed is not None, "a plausible profile is drawn of a seed"
            profile = plausible_profile(profile, task.seed)
        outcome = try_config(self._draw(task.seed), profile, task.config, self.slo, keep=keep)
        return outcome, next((run if self.with_steps else without_steps(run) for run in kept), None)

    def _draw(self, seed: int | None) -> Workload:
        if isinstance(self.workload, Workload):
            return self.workload
        if seed not in self._drawn:
            assert seed is not None, "a specification is drawn of a seed"
            self._drawn.clear()
            self._drawn[seed] = draw(self.workload, seed)
        return self._drawn[seed]


def without_steps(run: Run) -> Run:
    """The run with its gauges in place of the step series."""
    return replace(run, steps=None, gauges=gauges(run))


def _column(results: Sequence[tuple[Outcome, Run | None]]) -> Replications:
    return Replications(tuple(outcome for outcome, _ in results), tuple(run for _, run in results if run is not None))


def _with_forecasts(
    columns: Sequence[Replications],
    workers: Workers[_Task, tuple[Outcome, Run | None]],
    uncertainty: Uncertainty | None,
    slo: Slo | None,
    intervals: bool,
) -> list[Replications]:
    """The columns, those that start with what is known of real runs; seed by seed, so that each is drawn once."""
    configs = [column.config for column in columns if column.starts]
    tasks = [_Task(seed, config, False, is_plausible=True) for seed in SEEDS for config in configs]
    outcomes = [outcome for outcome, _ in workers.map(tasks)]
    known = iter(
        forecast_of(outcomes[i :: len(configs)], uncertainty, FORECAST_LEVEL, slo) for i in range(len(configs))
    )
    return [_with_forecast(column, next(known), intervals) if column.starts else column for column in columns]


def _with_forecast(column: Replications, known: Forecast, intervals: bool) -> Replications:
    return replace(column, forecast=known if intervals else None, chance=known.chance)
