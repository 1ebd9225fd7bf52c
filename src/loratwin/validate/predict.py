"""What the twin predicts for a measured server: from its configuration columns, nothing else."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.published.serving import ServingRun, profile_for, read_serving
from loratwin.errors import CapacityError, DataError, InputError
from loratwin.metrics import STARVED_RATIO, Summary, summarize
from loratwin.perf import Profile
from loratwin.records import check_writable, would_replace, write_atomically
from loratwin.simulate import served_capacity, simulate
from loratwin.simulate.observe import observe
from loratwin.simulate.workers import Workers

NAN = math.nan


@dataclass(frozen=True)
class Prediction:
    """One row of the predictions file; rates and latencies are NaN where the server does not start."""

    run: str
    total_throughput: float = NAN  # tokens/s of requests finished in the window
    input_throughput: float = NAN
    output_throughput: float = NAN
    itl_mean_ms: float = NAN
    tpot_mean_ms: float = NAN
    ttft_mean_ms: float = NAN
    ttft_median_ms: float = NAN
    running_mean: float = NAN
    kv_tokens: int = 0
    starts: int = 0
    starved: int = 0


def predict(run: ServingRun, profile: Profile | None = None, seeds: Sequence[int] = (0,)) -> Prediction:
    """Predict one run; figures are means over the seeds.

    Parameters
    ----------
    profile
        None: the shipped one of the run's LLM.

    Raises
    ------
    DataError
        No profile ships for the run's LLM, or its cells are no server or no workload.
    """
    profile = profile or profile_for(run.model)
    try:
        return _predict(run, profile, seeds)
    except (InputError, CapacityError) as error:  # which speaks of a server or a workload, and knows no file
        raise DataError(f"run {run.name!r}: {error}") from None


def _predict(run: ServingRun, profile: Profile, seeds: Sequence[int]) -> Prediction:
    capacity = served_capacity(profile, run.config)
    if not capacity.starts or not run.has_workload:
        return Prediction(run.name, kv_tokens=capacity.tokens, starts=int(capacity.starts))
    rows = np.array([_figures(run, profile, seed) for seed in seeds])
    figures = dict(zip(_FIGURES, (float(v) for v in rows.mean(axis=0)), strict=True))
    starved = figures["total_throughput"] / offered_tokens_per_s(run) <= STARVED_RATIO
    return Prediction(run.name, **figures, kv_tokens=capacity.tokens, starts=1, starved=int(starved))


_FIGURES = tuple(field.name for field in fields(Prediction))[1:-3]


def _figures(run: ServingRun, profile: Profile, seed: int) -> tuple[float, ...]:
    workload = run.workload(profile.frontend.generated_share, seed)
    simulated = simulate(workload, profile, run.config)
    summary, seen = summarize(simulated, percentiles=False), observe(simulated, profile.frontend)
    inputs = summary.input_throughput * _draw_correction(run.prompt_tokens_mean, run, workload.prompt_tokens, summary)
    generated = run.output_tokens_mean * profile.frontend.generated_share
    outputs = summary.output_throughput * _draw_correction(generated, run, workload.output_tokens, summary)
    return (
        inputs + outputs,
        inputs,
        outputs,
        seen.itl_mean_s * 1e3,
        seen.tpot_mean_s * 1e3,
        seen.ttft_mean_s * 1e3,
        seen.ttft_median_s * 1e3,
        summary.running_mean,
    )


def _draw_correction(mean_tokens: float, run: ServingRun, drawn: NDArray[np.int32], summary: Summary) -> float:
    """Expected / drawn tokens, as far as the server keeps up: what one draw has too many of is not the server's doing.

    A server that finishes what arrives has a throughput as random as the draw (1 % over an hour of light load). One
    that is saturated does not, and is not corrected; in between the correction fades.
    """
    keeps_up = min(1.0, max(0.0, (summary.served_share - STARVED_RATIO) / (_KEEPS_UP - STARVED_RATIO)))
    total = float(drawn.sum(dtype=np.int64))
    expected = run.sent_per_s * run.window_s * mean_tokens
    return 1 + keeps_up * (expected / total - 1) if total else 1.0


_KEEPS_UP = 0.97
"""Share of the offered tokens from which on a server counts as finishing what arrives."""


def offered_tokens_per_s(run: ServingRun) -> float:
    """Tokens per second asked for: nominal rates times mean lengths, as the papers count."""
    return run.total_rate * (run.prompt_tokens_mean + run.output_tokens_mean)


def predict_all(
    runs: Sequence[ServingRun],
    seeds: Sequence[int] = (0,),
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
    profiles: dict[str, Profile] | None = None,
) -> list[Prediction]:
    """Predict many runs, in their order, whatever the number of processes."""
    order = sorted(range(len(runs)), key=lambda i: (runs[i].model, runs[i].group, runs[i].served_adapters, i))
    with Workers(partial(_predict_with, profiles or {}, tuple(seeds)), processes) as workers:
        results = workers.map([runs[i] for i in order], lambda done: progress(done, len(runs)))
    by_run = dict(zip(order, results, strict=True))
    return [by_run[i] for i in range(len(runs))]


def predict_file(
    runs: Path,
    output: Path,
    seeds: Sequence[int] = (0,),
    processes: int = 1,
    progress: Callable[[str, int, int], None] = lambda what, done, of: None,
) -> list[Prediction]:
    """Predict every row of a measured table into a CSV file; what `loratwin validate runs` does.

    Parameters
    ----------
    runs, output
        A serving_*.csv, and the file to write.
    seeds
        Runs of the twin that each figure is the mean of.
    progress
        Called with what is done, how much of it, and of how much.

    Raises
    ------
    DataError, InputError
        The table is damaged, or as `check_output`.
    """
    rows = read_serving(runs)
    check_output(output, runs)
    predictions = predict_all(rows, seeds, processes, partial(progress, "predicting runs"))
    write_atomically(output, predictions_csv(predictions))
    return predictions


def _predict_with(profiles: dict[str, Profile], seeds: Sequence[int], run: ServingRun) -> Prediction:
    return predict(run, profiles.get(run.model), seeds)


def predictions_csv(predictions: Sequence[Prediction]) -> str:
    """The predictions file as text; NaN as an empty cell."""
    out = io.StringIO()
    writer = csv.DictWriter(out, [field.name for field in fields(Prediction)], lineterminator="\n")
    writer.writeheader()
    for prediction in predictions:
        writer.writerow({name: _cell(value) for name, value in asdict(prediction).items()})
    return out.getvalue()


def _cell(value: object) -> object:
    if isinstance(value, float):
        return f"{value:.6g}" if math.isfinite(value) else ""
    return value


def check_output(output: Path, runs: Path) -> None:
    """Refuse before long work predictions that cannot be written, or would replace what was measured.

    Parameters
    ----------
    output
        File of the predictions.
    runs
        File of the measured runs.

    Raises
    ------
    InputError
        One line with what is wrong.
    """
    check_writable(output)
    if would_replace(output, (runs,)):
        raise InputError(f"{output} is the file with the runs: give another name with -o")
