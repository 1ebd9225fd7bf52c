"""Coefficients of the step time from logged steps: constrained robust regression, with what it cannot tell left at 0.

Given the roofline's shape (its power, and the tokens at which reading weights and computing take the same time), the
model is linear, and no coefficient is negative (non-negative least squares). Errors are relative to the prediction, a
far row pulls with a bounded force (Huber), and every run counts the same; in the end all is scaled so that the time of
whole runs comes out, interruptions included. The roofline's shape is searched on a grid. Then each
coefficient that the evidence cannot tell from 0 is left out, the least telling first; and all of it is done again with
runs and stretches of time weighted at random (Bayesian bootstrap: Rubin 1981), which gives the intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.rows.step_log import StepRows
from loratwin.errors import DataError
from loratwin.perf import StepTimeModel
from loratwin.perf.step_time import COEFFICIENTS, roofline_s

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

POWERS = (1.0, 1.5, 2.5, 5.0)
KNEES = tuple(float(k) for k in 2.0 ** np.arange(2, 13))
"""Tokens at which weights and compute take the same time."""

DRAWS = 60
SWAP = len(COEFFICIENTS)
"""Column of what a swap-in costs beside its own time."""

DENSE = len(COEFFICIENTS) + 1
"""Column of the roofline, in units of `weights_s`."""

_RANK = {COEFFICIENTS.index(n) for n in ("slot_rank_s", "adapter_rank_s", "lora_token_rank_s", "lora_decode_rank_s")}
_FINER = _RANK | {COEFFICIENTS.index(n) for n in ("slot_tile_s", "adapter_tile_s", "adapter_small_s", "prefill_step_s")}
"""Refinements of `slot_s`, `adapter_s` and the token's cost."""

LEAST_ROWS = 40
_HUBER = 2.0  # spreads from which on a row's pull stops growing
_ITERATIONS = 6
_TELLING = 6.0  # squared spreads that a coefficient must explain to be kept, as a chi-squared number of one degree
_OUTLIER = 6.0


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
    """

    model: StepTimeModel
    swap_extra_s: float
    draws: dict[str, F8]
    held_out: dict[str, float]
    spread: float
    num_outliers: int
    unknown: dict[str, str]

    @property
    def between_runs(self) -> float:
        """Spread of log(measured / predicted) of whole runs that were not fitted: the model's and the machine's own.

        By the median, since a run that alone shows a coefficient is far off when that coefficient is fitted without it.
        """
        errors = np.abs(np.array(list(self.held_out.values())))
        return 1.4826 * float(np.median(errors)) if len(errors) else float("nan")


def fit_steps(rows: StepRows, graph_tokens: float, draws: int = DRAWS, seed: int = 0) -> StepFit:
    """Fit the step time to the rows of several runs.

    Raises
    ------
    DataError
        Too few rows.
    """
    if len(rows) < LEAST_ROWS:
        raise DataError(f"{len(rows)} rows of steps are too few to fit a step time: at least {LEAST_ROWS} are needed")
    columns, unknown = _usable(rows)
    shape = _best_shape(rows, columns)
    kept = _telling(rows, shape, columns)
    unknown |= {COEFFICIENTS[c]: "not told from 0" for c in columns if c not in kept and c < len(COEFFICIENTS)}
    problem = _Problem.of(rows, shape, kept)
    solution, weight, spread = _solve(problem)
    error = np.abs(problem.target - problem.rows @ solution) / (problem.rows @ solution)
    solution = solution * _mean_factor(problem, rows.run, solution)
    return StepFit(
        model=_model(solution, kept, shape, graph_tokens),
        swap_extra_s=_value(solution, kept, SWAP),
        draws=_bootstrap(rows, problem, weight, kept, shape, draws, seed),
        held_out=_held_out(rows, kept, shape),
        spread=spread,
        num_outliers=int(np.count_nonzero(error > _OUTLIER * spread)),
        unknown=unknown,
    )


@dataclass(frozen=True)
class _Shape:
    """Of the roofline."""

    power: float
    knee: float

    def column(self, tokens: F8) -> F8:
        """Its mean in each row where reading the weights takes 1; NaN tokens are left out."""
        return np.asarray(np.nanmean(roofline_s(1.0, 1.0 / self.knee, self.power, tokens), axis=1))


@dataclass(frozen=True)
class _Problem:
    """Least squares: rows x solution = target, with weights."""

    rows: F8  # (rows, columns)
    target: F8  # (rows,)
    weight: F8  # (rows,)

    @classmethod
    def of(cls, rows: StepRows, shape: _Shape, columns: Sequence[int]) -> _Problem:
        """With these columns: of COEFFICIENTS, SWAP, and DENSE."""
        extra = np.column_stack([rows.features, rows.swap_ins, shape.column(rows.tokens)])
        return cls(extra[:, list(columns)], rows.duration_s, rows.weight)


def _usable(rows: StepRows) -> tuple[list[int], dict[str, str]]:
    """Columns that vary, but for those that are the same as one before up to a factor; and why others are left out."""
    chosen, unknown = [DENSE], {}
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
        seen.append((name, unit))
        chosen.append(c)
    return chosen, unknown


def _solve(problem: _Problem, weight: F8 | None = None) -> tuple[F8, F8, float]:
    """Solution, final weights (for the squared relative errors), and the spread of the relative errors.

    Parameters
    ----------
    weight
        Final weights of an earlier solution, to be kept; None: found by reweighting.
    """
    if weight is not None:
        return _nnls(problem, weight), weight, float("nan")
    scale = np.full(len(problem.target), float(np.median(problem.target)))
    weight, spread = problem.weight / scale**2, float("nan")
    for _ in range(_ITERATIONS):
        solution = _nnls(problem, weight)
        predicted = np.maximum(problem.rows @ solution, 1e-9)
        error = np.abs(problem.target - predicted) / predicted
        spread = max(1e-6, 1.4826 * float(np.median(error)))
        weight = problem.weight * np.minimum(1.0, _HUBER * spread / np.maximum(error, 1e-12)) / predicted**2
    return solution, weight, spread


def _nnls(problem: _Problem, weight: F8) -> F8:
    """By the normal equations: there are few columns and many rows."""
    from scipy.optimize import nnls

    unit = np.abs(problem.rows).max(axis=0)
    unit[unit == 0] = 1.0
    rows = problem.rows / unit * np.sqrt(weight)[:, None]
    target = problem.target * np.sqrt(weight)
    q, r = np.linalg.qr(rows)
    solution, _ = nnls(r, q.T @ target)
    return np.asarray(solution / unit)


def _mean_factor(problem: _Problem, run: I8, solution: F8) -> float:
    """Measured / predicted time of whole runs, the median of the runs.

    Robust rows are predicted by their common value, but the rows that are interrupted now and then belong to the mean.
    """
    predicted = np.bincount(run, problem.rows @ solution)
    measured = np.bincount(run, problem.target)
    there = predicted > 0
    return float(np.exp(np.median(np.log(measured[there] / predicted[there]))))


def _loss(problem: _Problem, solution: F8, weight: F8) -> float:
    return float(weight @ (problem.target - problem.rows @ solution) ** 2)


def _best_shape(rows: StepRows, columns: Sequence[int]) -> _Shape:
    """The grid's best, judged by robust loss with one set of weights (that of the straight sum)."""
    first = _Problem.of(rows, _Shape(1.0, 64.0), columns)
    _, weight, _ = _solve(first)

    def loss(shape: _Shape) -> float:
        problem = _Problem.of(rows, shape, columns)
        return _loss(problem, _nnls(problem, weight), weight)

    best = min((_Shape(p, k) for p in POWERS for k in KNEES), key=loss)
    finer = [_Shape(best.power, best.knee * f) for f in (0.6, 0.71, 0.84, 1.0, 1.19, 1.41, 1.68)]
    return min(finer, key=loss)


def _telling(rows: StepRows, shape: _Shape, columns: Sequence[int]) -> list[int]:
    """Columns that are needed: each time the one that explains least is left out, if it explains too little.

    What is too little is told by chunks of rows, since neighbouring rows share what disturbed the machine. Refinements
    of another coefficient go before it: where tiles hardly vary, a cost per slot is not taken for one per tile.
    """
    kept = list(columns)
    problem = _Problem.of(rows, shape, kept)
    solution, weight, _ = _solve(problem)
    total = _loss(problem, solution, weight)
    per_chunk = total / max(1, len(np.unique(rows.chunk)) - len(kept))

    def without(c: int) -> float:
        rest = [k for k in kept if k != c]
        one = _Problem.of(rows, shape, rest)
        return _loss(one, _nnls(one, weight), weight)

    for candidates in (_FINER, set(range(len(COEFFICIENTS) + 1))):
        while losses := {c: without(c) for c in kept if c in candidates}:
            least = min(losses, key=lambda c: losses[c])
            if losses[least] - total > _TELLING * per_chunk:
                break
            kept.remove(least)
            total = losses[least]
    return kept


def _value(solution: F8, columns: Sequence[int], column: int) -> float:
    return float(solution[list(columns).index(column)]) if column in columns else 0.0


def _model(solution: F8, columns: Sequence[int], shape: _Shape, graph_tokens: float) -> StepTimeModel:
    weights_s = _value(solution, columns, DENSE)
    linear = {name: _value(solution, columns, c) for c, name in enumerate(COEFFICIENTS)}
    return StepTimeModel(
        weights_s=max(weights_s, 1e-9),
        token_s=max(weights_s / shape.knee, 1e-12),
        roofline_power=shape.power,
        graph_tokens=graph_tokens,
        **linear,
    )


def _bootstrap(
    rows: StepRows, problem: _Problem, weight: F8, kept: Sequence[int], shape: _Shape, draws: int, seed: int
) -> dict[str, F8]:
    """Coefficients with runs and chunks of time weighted at random; the roofline's knee is searched again near it."""
    rng = np.random.default_rng(seed)
    near = [_Shape(shape.power, shape.knee * f) for f in (0.6, 0.84, 1.0, 1.19, 1.68)]
    problems = {one: replace(problem, rows=_Problem.of(rows, one, kept).rows) for one in near}
    chunk, values = rows.chunk, []
    for _ in range(draws):
        drawn = rng.standard_exponential(len(rows.names))[rows.run] * rng.standard_exponential(chunk[-1] + 1)[chunk]
        solved = {one: _nnls(each, weight * drawn) for one, each in problems.items()}
        best = min(near, key=lambda one: _loss(problems[one], solved[one], weight * drawn))
        solution = solved[best] * _mean_factor(problems[best], rows.run, solved[best])
        model = _model(solution, kept, best, 0.0)
        values.append({**model.model_dump(), "swap_extra_s": _value(solution, kept, SWAP)})
    return {name: np.array([each[name] for each in values]) for name in values[0]} if values else {}


def _held_out(rows: StepRows, kept: Sequence[int], shape: _Shape) -> dict[str, float]:
    """By run: log of measured / predicted time of its steps, from coefficients that had not seen it."""
    errors = {}
    for i in np.unique(rows.run):
        mine = rows.run == i
        rest = rows.take(~mine)
        if len(rest) < LEAST_ROWS:
            continue
        known = _Problem.of(rest, shape, kept)
        solution, _, _ = _solve(known)
        solution = solution * _mean_factor(known, rest.run, solution)
        predicted = float((_Problem.of(rows.take(mine), shape, kept).rows @ solution).sum())
        errors[rows.names[i]] = float(np.log(rows.duration_s[mine].sum() / max(predicted, 1e-9)))
    return errors
