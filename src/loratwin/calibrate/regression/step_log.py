"""Coefficients of the step time from logged steps: constrained robust regression, with what it cannot tell left at 0.

Given the roofline's shape (its power, and the tokens at which reading weights and computing take the same time), the
model is linear, and no coefficient is negative (non-negative least squares). Errors are relative to the prediction, a
far row pulls with a bounded force (Huber), and every run counts the same; in the end all is scaled so that the time of
whole runs comes out, interruptions included. The roofline's shape is searched on a grid. Then each
coefficient that the evidence cannot tell from 0 is left out, the least telling first; and all of it is done again with
runs and stretches of time weighted at random (Bayesian bootstrap: Rubin 1981), which gives the intervals.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.robust import Solution, huber, least_squares, robust, spread
from loratwin.calibrate.rows.step_log import StepRows
from loratwin.errors import DataError
from loratwin.perf import StepTimeModel
from loratwin.perf.step_time import COEFFICIENTS, OF_SLOTS, TERMS, roofline_s

F8 = NDArray[np.float64]

POWERS = (1.0, 1.5, 2.5, 5.0)
KNEES = tuple(float(k) for k in 2.0 ** np.arange(2, 13))
"""Tokens at which weights and compute take the same time."""

DRAWS = 60
SWAP = len(COEFFICIENTS)
"""Column of what a swap-in costs beside its own time."""

DENSE = len(COEFFICIENTS) + 1
"""Column of the roofline, in units of `weights_s`."""

_RANK = {COEFFICIENTS.index(term.per_doubling) for term in TERMS if term.per_doubling}
_FINER = _RANK | {COEFFICIENTS.index(n) for n in ("slot_tile_s", "adapter_tile_s", "adapter_small_s", "prefill_step_s")}
"""Refinements of `slot_s`, `adapter_s` and the token's cost."""

LEAST_ROWS = 40
_HUBER = 2.0  # spreads from which on a row's pull stops growing
_ITERATIONS = 6
_TELLING = 6.0  # squared spreads that a coefficient must explain to be kept, as a chi-squared number of one degree
_OUTLIER = 6.0
_SMALLER = 0.7  # of the largest batch, from which on runs are held out to see how far the formula carries
_LEAST_PER_DOUBLING, _PER_DOUBLING, _MOST_PER_DOUBLING = 0.1, 0.3, 1.0
_OTHER_LAW = 0.1  # log error from which on runs without adapters are no evidence for one formula with the others


@dataclass(frozen=True)
class StepFit:
    """A fitted step time and how sure it is.

    Parameters
    ----------
    swap_extra_s
        What a swap-in costs a step beside its own time.
    draws
        By coefficient of `StepTimeModel` (and `swap_extra_s`): its values of the bootstrap, shape (DRAWS,).
    held_out
        By run: log of measured / predicted time of its steps, fitted without the run.
    spread
        Of a row around its prediction, relative.
    num_outliers
        Rows far beyond the spread; they pull little.
    unknown
        Coefficients that the evidence does not tell, and why.
    beyond
        Mean requests in the largest batch of a run, and the size of log(measured / predicted) for twice a batch that
        was fitted: of the largest batches, fitted without them. None: nothing is fitted so.
    tails
        By run: how much farther the 99th percentile of its steps is off than their mean, as log(measured / predicted).
    """

    model: StepTimeModel
    swap_extra_s: float
    draws: dict[str, F8]
    held_out: dict[str, float]
    spread: float
    num_outliers: int
    unknown: dict[str, str]
    beyond: tuple[float, float] | None = None
    tails: Mapping[str, float] = field(default_factory=dict)

    @property
    def between_runs(self) -> float:
        """Spread of log(measured / predicted) of whole runs that were not fitted: the model's and the machine's own.

        By the median, since a run that alone shows a coefficient is far off when that coefficient is fitted without it.
        """
        errors = np.array(list(self.held_out.values()))
        return spread(errors) if len(errors) else float("nan")


@dataclass(frozen=True)
class _Roofline:
    """Its shape, which makes the rest linear."""

    power: float
    knee: float

    def columns(self, rows: StepRows, chosen: Sequence[int]) -> F8:
        """These of COEFFICIENTS, SWAP, and DENSE: the mean time in the dense layers where reading weights takes 1."""
        dense = np.nanmean(roofline_s(1.0, 1.0 / self.knee, self.power, rows.tokens), axis=1)
        return np.column_stack([rows.features, rows.swap_ins, dense])[:, list(chosen)]


def fit_steps(rows: StepRows, graph_tokens: float, draws: int = DRAWS, seed: int = 0) -> StepFit:
    """Fit the step time to the rows of several runs.

    Parameters
    ----------
    graph_tokens
        The largest step that the engine replays as a graph, for the model.
    draws
        Of the bootstrap.

    Raises
    ------
    DataError
        Too few rows.
    """
    if len(rows) < LEAST_ROWS:
        raise DataError(f"{len(rows)} rows of steps are too few to fit a step time: at least {LEAST_ROWS} are needed")
    kept, roofline, usable, unknown = _told(rows)
    unknown |= {COEFFICIENTS[c]: "not told from 0" for c in usable if c not in kept and c < len(COEFFICIENTS)}
    columns = roofline.columns(rows, kept)
    solution = _solve(rows, columns)
    values = solution.values * _mean_factor(rows, columns, solution.values)
    return StepFit(
        model=_model(values, kept, roofline, graph_tokens),
        swap_extra_s=_value(values, kept, SWAP),
        draws=_bootstrap(rows, solution.weight, kept, roofline, draws, seed),
        held_out=_held_out(rows, kept, roofline),
        spread=spread(solution.error),
        num_outliers=int(np.count_nonzero(np.abs(solution.error) > _OUTLIER * spread(solution.error))),
        unknown=unknown,
        beyond=_beyond(rows, kept, roofline),
    )


def _told(rows: StepRows) -> tuple[list[int], _Roofline, list[int], dict[str, str]]:
    """Columns that tell something, and the roofline's shape; all that vary; why others were left out."""
    usable, unknown = _usable(rows)
    roofline = _best_roofline(rows, usable)
    return _telling(rows, roofline, usable), roofline, usable, unknown


def told_by(rows: StepRows, graph_tokens: float) -> tuple[F8, StepTimeModel]:
    """The columns that rows tell something of, and the step time that follows: `fit_steps` without its errors."""
    kept, roofline, *_ = _told(rows)
    columns = roofline.columns(rows, kept)
    return columns, _model(_solve(rows, columns).values, kept, roofline, graph_tokens)


def run_errors(rows: StepRows, columns: F8) -> F8:
    """log(measured / fitted) time of each run's steps, around their median. Shape (runs that have rows,)."""
    predicted = np.bincount(rows.run, columns @ _solve(rows, columns).values)
    there = predicted > 0
    errors = np.log(np.bincount(rows.run, rows.duration_s)[there] / predicted[there])
    return np.asarray(errors - np.median(errors))


def _usable(rows: StepRows) -> tuple[list[int], dict[str, str]]:
    """Columns that vary, but for those that are the same as one before up to a factor; and why others are left out.

    Where all servers had the same slots, a cost per slot and tile is one per tile, and wrong for any other number.
    """
    chosen, unknown = [DENSE], {}
    one_server = _num_slots(rows) < 2
    seen: list[tuple[str, F8]] = [("weights_s", np.ones(len(rows)))]
    for c, values in [*enumerate(rows.features.T), (SWAP, rows.swap_ins)]:
        name = COEFFICIENTS[c] if c < len(COEFFICIENTS) else "swap_extra_s"
        if not values.any():
            unknown[name] = "nothing measured shows it"
            continue
        unit = values / np.linalg.norm(values)
        twin = next((other for other, u in seen if abs(float(unit @ u) / np.linalg.norm(u)) > 0.9999), None)
        if twin is not None:
            unknown[name] = f"always together with {twin}"
            continue
        if name in OF_SLOTS and one_server:
            unknown[name] = "one number of slots was measured"
            continue
        seen.append((name, unit))
        chosen.append(c)
    return chosen, unknown


def _num_slots(rows: StepRows) -> int:
    """How many numbers of slots the servers with LoRA had."""
    one, by_slots = (rows.features[:, COEFFICIENTS.index(name)] for name in ("lora_s", "slot_s"))
    return len(np.unique(np.round(by_slots[one > 0] / one[one > 0], 3)))


def _solve(rows: StepRows, columns: F8) -> Solution:
    return robust(columns, rows.duration_s, rows.weight, huber(_HUBER), _ITERATIONS)


def _mean_factor(rows: StepRows, columns: F8, values: F8) -> float:
    """Measured / predicted time of whole runs, the median of the runs.

    Robust rows are predicted by their common value, but the rows that are interrupted now and then belong to the mean.
    """
    predicted = np.bincount(rows.run, columns @ values)
    measured = np.bincount(rows.run, rows.duration_s)
    there = predicted > 0
    return float(np.exp(np.median(np.log(measured[there] / predicted[there]))))


def _least_loss(rows: StepRows, columns: F8, weight: F8) -> tuple[F8, float]:
    """Values of least squares with given weights, and what is left."""
    values = least_squares(columns, rows.duration_s, weight)
    return values, _loss(rows, columns, values, weight)


def _loss(rows: StepRows, columns: F8, values: F8, weight: F8) -> float:
    return float(weight @ (rows.duration_s - columns @ values) ** 2)


def _best_roofline(rows: StepRows, usable: Sequence[int]) -> _Roofline:
    """The grid's best, judged by robust loss with one set of weights (that of the straight sum)."""
    weight = _solve(rows, _Roofline(1.0, 64.0).columns(rows, usable)).weight

    def loss(shape: _Roofline) -> float:
        return _least_loss(rows, shape.columns(rows, usable), weight)[1]

    best = min((_Roofline(power, knee) for power in POWERS for knee in KNEES), key=loss)
    return min((_Roofline(best.power, best.knee * f) for f in (0.6, 0.71, 0.84, 1.0, 1.19, 1.41, 1.68)), key=loss)


def _telling(rows: StepRows, roofline: _Roofline, usable: Sequence[int]) -> list[int]:
    """Columns that are needed: each time the one that explains least is left out, if it explains too little.

    What is too little is told by chunks of rows, since neighbouring rows share what disturbed the machine. Refinements
    of another coefficient go before it: where tiles hardly vary, a cost per slot is not taken for one per tile.
    """
    kept, columns = list(usable), roofline.columns(rows, usable)
    solution = _solve(rows, columns)
    total = _loss(rows, columns, solution.values, solution.weight)

    def loss(chosen: Sequence[int]) -> float:
        return _least_loss(rows, roofline.columns(rows, chosen), solution.weight)[1]

    per_chunk = total / max(1, len(np.unique(rows.chunk)) - len(kept))
    for candidates in (_FINER, set(range(len(COEFFICIENTS) + 1))):
        while losses := {c: loss([k for k in kept if k != c]) for c in kept if c in candidates}:
            least = min(losses, key=lambda c: losses[c])
            if losses[least] - total > _TELLING * per_chunk:
                break
            kept.remove(least)
            total = losses[least]
    return kept


def _value(values: F8, kept: Sequence[int], column: int) -> float:
    return float(values[list(kept).index(column)]) if column in kept else 0.0


def _model(values: F8, kept: Sequence[int], roofline: _Roofline, graph_tokens: float) -> StepTimeModel:
    weights_s = _value(values, kept, DENSE)
    linear = {name: _value(values, kept, c) for c, name in enumerate(COEFFICIENTS)}
    return StepTimeModel(
        weights_s=max(weights_s, 1e-9),
        token_s=max(weights_s / roofline.knee, 1e-12),
        roofline_power=roofline.power,
        graph_tokens=graph_tokens,
        **linear,
    )


def _bootstrap(
    rows: StepRows, weight: F8, kept: Sequence[int], roofline: _Roofline, draws: int, seed: int
) -> dict[str, F8]:
    """Coefficients with runs and chunks of time weighted at random; the roofline's knee is searched again near it."""
    rng = np.random.default_rng(seed)
    near = [_Roofline(roofline.power, roofline.knee * f) for f in (0.6, 0.84, 1.0, 1.19, 1.68)]
    columns = {shape: shape.columns(rows, kept) for shape in near}
    chunk, drawn = rows.chunk, []
    for _ in range(draws):
        times = rng.standard_exponential(len(rows.names))[rows.run] * rng.standard_exponential(chunk[-1] + 1)[chunk]
        solved = {shape: _least_loss(rows, table, weight * times) for shape, table in columns.items()}
        best = min(near, key=lambda shape: solved[shape][1])
        values = solved[best][0] * _mean_factor(rows, columns[best], solved[best][0])
        model = _model(values, kept, best, 0.0)
        drawn.append({**model.model_dump(), "swap_extra_s": _value(values, kept, SWAP)})
    return {name: np.array([one[name] for one in drawn]) for name in drawn[0]} if drawn else {}


def _held_out(rows: StepRows, kept: Sequence[int], roofline: _Roofline) -> dict[str, float]:
    """By run: log of measured / predicted time of its steps, from coefficients that had not seen it."""
    errors = {}
    for i in np.unique(rows.run):
        mine, rest = rows.take(rows.run == i), rows.take(rows.run != i)
        if len(rest) < LEAST_ROWS:
            continue
        columns = roofline.columns(rest, kept)
        values = _solve(rest, columns).values
        values = values * _mean_factor(rest, columns, values)
        predicted = float((roofline.columns(mine, kept) @ values).sum())
        errors[rows.names[i]] = float(np.log(mine.duration_s.sum() / max(predicted, 1e-9)))
    return errors


def _beyond(rows: StepRows, kept: Sequence[int], roofline: _Roofline) -> tuple[float, float]:
    """The largest batch of a run, and the error for twice a batch: the largest ones, predicted from the smaller."""
    counts = np.maximum(1, np.bincount(rows.run, minlength=len(rows.names)))
    running = rows.features[:, COEFFICIENTS.index("running_s")]
    batch = np.bincount(rows.run, running, minlength=len(rows.names)) / counts
    large = (batch > _SMALLER * batch.max())[rows.run]
    smaller, larger = rows.take(~large), rows.take(large)
    if len(smaller) < LEAST_ROWS:
        return float(batch.max()), _PER_DOUBLING
    values = _solve(smaller, roofline.columns(smaller, kept)).values
    predicted = float((roofline.columns(larger, kept) @ values).sum())
    error = abs(float(np.log(larger.duration_s.sum() / max(predicted, 1e-9))))
    doublings = float(np.log2(batch.max() / max(1.0, batch[smaller.run].max())))
    return float(batch.max()), min(_MOST_PER_DOUBLING, max(_LEAST_PER_DOUBLING, error / max(doublings, 0.5)))


def of_one_law(rows: StepRows, without_adapters: Collection[str], graph_tokens: float) -> tuple[StepRows, str]:
    """The rows of runs without adapters only if one formula holds for them too; otherwise a note says why not.

    Parameters
    ----------
    without_adapters
        Names of runs, of servers with LoRA on, in which no request has an adapter.
    """
    without_adapters = [name for name in rows.names if name in without_adapters]
    if not without_adapters or len(without_adapters) == len(rows.names):
        return rows, ""
    predicted = rows.predicted_s(fit_steps(rows, graph_tokens, 0).model)
    ratios = {}
    for name in without_adapters:
        mine = rows.run == rows.names.index(name)
        ratios[name] = float(np.log(rows.duration_s[mine].sum() / predicted[mine].sum()))
    worst = max(ratios.values(), key=abs)
    if abs(worst) < _OTHER_LAW:
        return rows, ""
    note = (
        f"requests without adapter take {np.exp(worst):.2f} times what the formula for those with one says "
        f"({', '.join(ratios)}): they are not fitted, and not predicted well"
    )
    return rows.without(without_adapters), note
