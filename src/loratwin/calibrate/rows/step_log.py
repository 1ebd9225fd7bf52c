"""Engine steps of measured runs as rows of a regression: what each coefficient of `StepTimeModel` is multiplied by.

A row is the mean over a few consecutive steps of one run. The formula is linear in the features (but for the roofline),
so that nothing is lost by it, and a mean keeps what a single step's noise costs on average: a machine interrupts some
steps, and they count.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from math import log
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.engines.versions import EngineBehaviour
from loratwin.errors import DataError
from loratwin.kernel import StepFeatures
from loratwin.perf import StepTimeModel
from loratwin.perf.step_time import StepColumns, step_columns
from loratwin.records import Run, StepSeries

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

STEPS_PER_ROW = 8
ROWS_PER_CHUNK = 8
"""Rows that are resampled together: neighbours share what disturbed the machine."""

_TAIL_TOKENS = 200
"""Steps and tokens of a run below which a 99th percentile says nothing."""

MOST_GAP_S = 0.002
"""From the end of a step to the next that follows at once: the engine's loop. What is longer is idling."""


@dataclass(frozen=True)
class StepRows:
    """Rows of several runs, run after run."""

    features: F8  # (rows, len(perf.step_time.COEFFICIENTS))
    duration_s: F8  # (rows,) mean step, loads left out
    tokens: F8  # (rows, STEPS_PER_ROW) padded tokens of its steps; NaN where a row has fewer
    swap_ins: F8  # (rows,) per step
    run: I8  # (rows,) index into `names`
    names: tuple[str, ...]
    trust: F8 | None = None  # (rows,) 1: as much as a logged run; None: all are

    def __len__(self) -> int:
        return len(self.duration_s)

    @property
    def weight(self) -> F8:
        """Every run counts the same, however short its steps, but for its trust. Shape (rows,)."""
        counts = np.bincount(self.run, minlength=len(self.names))
        weight: F8 = len(self) / (np.count_nonzero(counts) * counts[self.run])
        return weight if self.trust is None else weight * self.trust

    @property
    def chunk(self) -> I8:
        """Which rows are resampled together: numbers from 0, ascending. Shape (rows,)."""
        first = np.searchsorted(self.run, self.run)
        part = (np.arange(len(self)) - first) // ROWS_PER_CHUNK
        starts = np.concatenate([[True], (np.diff(self.run) != 0) | (np.diff(part) != 0)])
        return np.cumsum(starts) - 1

    def predicted_s(self, model: StepTimeModel) -> F8:
        """The mean step of each row as a model has it, loads left out. Shape (rows,)."""
        return np.asarray(np.nanmean(model.dense_s(self.tokens), axis=1)) + self.features @ model.linear

    def take(self, rows: NDArray[np.bool_]) -> StepRows:
        """Some of the rows; the runs keep their numbers."""
        return replace(
            self,
            features=self.features[rows],
            duration_s=self.duration_s[rows],
            tokens=self.tokens[rows],
            swap_ins=self.swap_ins[rows],
            run=self.run[rows],
            trust=None if self.trust is None else self.trust[rows],
        )

    def without(self, names: Collection[str]) -> StepRows:
        """The rows of all other runs."""
        numbers = [i for i, name in enumerate(self.names) if name not in names]
        rest = self.take(np.isin(self.run, numbers))
        return replace(rest, run=np.searchsorted(numbers, rest.run), names=tuple(self.names[i] for i in numbers))


def step_rows(runs: Mapping[str, Run], behaviour: EngineBehaviour, graph_tokens: float) -> StepRows:
    """Rows of all runs.

    Parameters
    ----------
    runs
        By name; each has its steps.
    graph_tokens
        The largest step that the engine replays as a graph; 0 without graphs.

    Raises
    ------
    DataError
        A run's steps lack their context, or no run has enough of them.
    """
    parts = [_rows_of(run, behaviour, graph_tokens) for run in runs.values()]
    if not sum(len(part[1]) for part in parts):
        raise DataError(f"{len(runs)} runs hold fewer than {STEPS_PER_ROW} steps each: nothing can be fitted")
    return StepRows(
        features=np.concatenate([part[0] for part in parts]),
        duration_s=np.concatenate([part[1] for part in parts]),
        tokens=np.concatenate([part[2] for part in parts]),
        swap_ins=np.concatenate([part[3] for part in parts]),
        run=np.repeat(np.arange(len(parts)), [len(part[1]) for part in parts]),
        names=tuple(runs),
    )


def _rows_of(run: Run, behaviour: EngineBehaviour, graph_tokens: float) -> tuple[F8, F8, F8, F8]:
    steps = run.steps
    if steps is None or steps.decode_context is None or steps.prefill_context is None:
        raise DataError("a run without steps and their context")
    columns = run_columns(run, behaviour, graph_tokens)
    load_s = np.zeros(len(steps)) if steps.load_s is None else steps.load_s
    seconds = _without_loads_s(steps.duration_s + _gap_s(steps), load_s)
    num = len(steps) // STEPS_PER_ROW

    def means(values: F8) -> F8:
        rows: F8 = values[: num * STEPS_PER_ROW].reshape(num, STEPS_PER_ROW, -1).mean(axis=1)
        return rows

    tokens = columns.tokens[: num * STEPS_PER_ROW].reshape(num, STEPS_PER_ROW)
    swaps = means(steps.swap_ins.astype(np.float64))[:, 0]
    return means(columns.linear), means(seconds)[:, 0], tokens, swaps


def _without_loads_s(taken: F8, load_s: F8) -> F8:
    """Seconds of each step without its loads, which may have begun while the one before ran (`read_steps`)."""
    left = taken - load_s
    before = np.append(np.minimum(left[1:], 0.0), 0.0)
    seconds: F8 = np.maximum(np.maximum(left, 0.0) + before, 0.0)
    return seconds


def _gap_s(steps: StepSeries) -> F8:
    """Seconds from each step's end to the next that was waited for; 0 before idling. Shape (num_steps,)."""
    gap = np.zeros(len(steps))
    if len(steps) > 1:
        after = steps.start_s[1:] - (steps.start_s + steps.duration_s)[:-1]
        gap[:-1] = np.where((steps.decode_requests[1:] > 0) & (after < MOST_GAP_S), np.maximum(after, 0.0), 0.0)
    return gap


def run_columns(run: Run, behaviour: EngineBehaviour, graph_tokens: float) -> StepColumns:
    """What the step time multiplies each coefficient by in each step of a run (`perf.step_time.step_columns`)."""
    config = run.config
    slots, rank, seqs = config.max_loras, config.max_lora_rank, config.max_num_seqs
    return step_columns(_features(run), slots, rank, behaviour, graph_tokens, seqs)


def tail_errors(
    runs: Mapping[str, Run], model: StepTimeModel, behaviour: EngineBehaviour, graph_tokens: float
) -> dict[str, float]:
    """By run: how much farther the 99th percentile of its steps is off than their mean, as log(measured / predicted).

    A step counts as often as it has decode requests, each of which waits for it; runs of few such steps are left out.
    """
    errors = {}
    for name, run in runs.items():
        steps = run.steps
        if steps is None or steps.decode_requests.sum() < _TAIL_TOKENS or len(steps) < _TAIL_TOKENS:
            continue
        columns = run_columns(run, behaviour, graph_tokens)
        load_s = np.zeros(len(steps)) if steps.load_s is None else steps.load_s
        predicted = model.dense_s(columns.tokens) + columns.linear @ model.linear + load_s
        ratios = [log(_p99(seconds, steps)) - log(_mean(seconds, steps)) for seconds in (steps.duration_s, predicted)]
        errors[name] = ratios[0] - ratios[1]
    return errors


def _p99(seconds: F8, steps: StepSeries) -> float:
    """Such that 99 % of the tokens of decode requests waited less."""
    order = np.argsort(seconds)
    share = np.cumsum(steps.decode_requests[order])
    return float(seconds[order][np.searchsorted(share, 0.99 * share[-1])])


def _mean(seconds: F8, steps: StepSeries) -> float:
    return float(np.average(seconds, weights=steps.decode_requests))


def _features(run: Run) -> StepFeatures:
    """Of all steps. Prompt tokens and decode requests count as with an adapter in the share of the run's requests."""
    s = run.steps
    assert s is not None and s.decode_context is not None and s.prefill_context is not None
    return StepFeatures(
        decode_requests=s.decode_requests,
        prefill_tokens=s.prefill_tokens,
        decode_context=s.decode_context,
        prefill_context=s.prefill_context,
        distinct_adapters=s.distinct_adapters,
        lora_decode_requests=s.decode_requests * _adapter_share(run, run.requests.output_tokens),
        lora_prefill_tokens=s.prefill_tokens * _adapter_share(run, run.requests.prompt_tokens),
        waiting=s.waiting,
        skipped=np.zeros(len(s)) if s.skipped is None else s.skipped,
        running=s.running,
    )


def _adapter_share(run: Run, tokens: NDArray[Any]) -> float:
    """Share of the tokens, given request by request, that belong to requests with an adapter."""
    total = float(tokens.sum())
    return float(tokens[run.requests.adapter >= 0].sum()) / total if total else 0.0
