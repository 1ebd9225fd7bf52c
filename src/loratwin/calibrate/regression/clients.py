"""Coefficients of the step time from clients' figures: constrained robust regression around a start.

A run gives a few rows (`rows`), a calibration some dozens: too few to tell every coefficient. So each is drawn
towards the start profile, weakly, as a normal prior: what the rows tell, they decide; what they do not, stays.

    minimise  sum over rows  h(((measured - predicted) / predicted) / error)
            + sum over coefficients  ((value - start) / prior error)^2,       no value negative

by iterated non-negative least squares: h grows like a square up to `_HUBER` errors and straight beyond. The roofline is
homogeneous of first degree in its two times, so that by Euler's theorem it is linear in them with its derivatives as
columns, which are taken anew in every iteration; its power stays that of the start. The start is first scaled by the
common factor of the matches: a machine twice as slow is no news of each coefficient apart.

Standard errors: all of it again with the runs weighted at random (Bayesian bootstrap: Rubin 1981) and the prior's
centre drawn within its error, so that what the rows do not tell keeps the prior's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.regression.step_log import StepFit
from loratwin.calibrate.rows.clients import ClientRows
from loratwin.perf import Profile, StepTimeModel
from loratwin.perf.step_time import COEFFICIENTS, roofline_slopes

F8 = NDArray[np.float64]

NAMES = (*COEFFICIENTS, "weights_s", "token_s", "overhead_s")
"""What is fitted, in the order of the columns: the step time, and the front end's share of TTFT."""

PRIOR = 1.0
"""Relative standard error of a coefficient of the start: it may well be twice as large, or next to nothing."""

TRUSTED = 2.0
"""An assumed profile of this very hardware and LLM knows better: its own errors, times this."""

SAME_HARDWARE = 1.5
"""Common factor of the matches beyond which an assumed start is not of this hardware after all."""

TOLD = 0.6
"""Standard error / prior error below which the rows have told something of a coefficient."""

FEWEST = 3
"""Rows below which nothing is fitted."""

_OWN = 0.05  # relative error of a run, formula and machine, before the rows have told it
_LEAST_OWN = 0.01
_HUBER = 2.0
_ITERATIONS = 15
_SHARE = 0.3  # of a row's time, where a coefficient counts most: what it may come to whatever the start says
_OUTLIER = 6.0
_WEIGHTS, _TOKEN = NAMES.index("weights_s"), NAMES.index("token_s")


@dataclass(frozen=True)
class ClientFit:
    """What the regression found.

    Parameters
    ----------
    untold
        Coefficients that the start has and the rows did not tell, at least by themselves: near the scaled start.
    factor
        The common factor that the start was scaled by.
    """

    steps: StepFit
    untold: tuple[str, ...]
    factor: float


@dataclass(frozen=True)
class _Prior:
    centre: F8  # (len(NAMES),)
    error: F8
    power: float


@dataclass(frozen=True)
class _Solved:
    values: F8  # (len(NAMES),)
    weight: F8  # (rows,) of the squared relative residuals
    residual: F8  # (rows,) (measured - predicted) / predicted


def fit_client(rows: ClientRows, start: Profile, factor: float, draws: int = 60, seed: int = 0) -> ClientFit:
    """Fit the step time to rows of clients.

    Parameters
    ----------
    factor
        Step times of the start x this are those of the server as a whole: the median over the matches.
    """
    prior = _prior(rows, start, factor)
    own = _own_error(rows, prior)
    solved = _solve(rows, prior, own)
    spread = 1.4826 * float(np.median(np.abs(solved.residual)))
    drawn = _bootstrap(rows, prior, own, solved, draws, seed)
    model = _model(solved.values, start)
    errors = {name: drawn[:, i].std() for i, name in enumerate(NAMES)} if draws else {}
    untold = tuple(
        name for i, name in enumerate(NAMES[:-1])
        if errors.get(name, 0.0) > TOLD * min(prior.error[i], PRIOR * prior.centre[i]) > 0
    )  # fmt: skip
    steps = StepFit(
        model=model,
        swap_extra_s=0.0,
        draws={name: drawn[:, i] for i, name in enumerate(NAMES[:-1])} if draws else {},
        held_out=_held_out(rows, prior, own),
        spread=spread,
        num_outliers=int(np.count_nonzero(np.abs(solved.residual) > _OUTLIER * max(spread, own))),
        unknown=dict.fromkeys(untold, "as in the start: clients' figures do not tell it"),
    )
    return ClientFit(steps, untold, factor)


def _prior(rows: ClientRows, start: Profile, factor: float) -> _Prior:
    scaled = start.step_time.scaled(factor)
    centre = np.array([*(getattr(scaled, name) for name in NAMES[:-1]), start.frontend.overhead_s])
    columns = _columns(rows, scaled.weights_s, scaled.token_s, scaled.roofline_power)
    largest = (columns / rows.duration_s[:, None]).max(axis=0)
    known = start.uncertainty.standard_errors if start.uncertainty else {}
    trusted = start.origin == "assumed" and 1 / SAME_HARDWARE < factor < SAME_HARDWARE
    error = np.empty(len(NAMES))
    for i, name in enumerate(NAMES):
        own = known.get(f"{'frontend' if name == 'overhead_s' else 'step_time'}.{name}", 0.0) * factor
        least = _SHARE / largest[i] if largest[i] > 0 else 0.0
        if name == "eager_s" and start.step_time.graph_tokens == 0:
            least = 0.0  # every step is eager: told apart from the weights by nothing
        error[i] = max(TRUSTED * own if trusted and own else PRIOR * centre[i], least)
    return _Prior(centre, np.maximum(error, 1e-15), scaled.roofline_power)


def _columns(rows: ClientRows, weights_s: float, token_s: float, power: float) -> F8:
    """What each of NAMES is multiplied by: the roofline's times by its derivatives. Shape (rows, len(NAMES))."""
    slopes = [slope.mean(axis=1) for slope in roofline_slopes(weights_s, token_s, power, rows.tokens)]
    return np.column_stack([rows.features, *slopes, rows.first_tokens])


def _own_error(rows: ClientRows, prior: _Prior) -> float:
    """Relative error of a run beyond that of its mean: how far the rows lie from the formula, as they do unfitted."""
    own = _OWN
    for _ in range(3):
        solved = _solve(rows, prior, own)
        told = min(_effective(rows, prior, solved), len(rows) - 1)
        spread = 1.4826 * float(np.median(np.abs(solved.residual))) * np.sqrt(len(rows) / (len(rows) - told))
        own = max(_LEAST_OWN, float(np.sqrt(max(0.0, spread**2 - float(np.median(rows.error)) ** 2))))
    return own


def _effective(rows: ClientRows, prior: _Prior, solved: _Solved) -> int:
    """How many directions of the coefficients the rows decide rather than the prior, of those that are not at 0."""
    free = solved.values > 0
    columns = _columns(rows, solved.values[_WEIGHTS], solved.values[_TOKEN], prior.power)
    predicted = np.maximum(columns @ solved.values, 1e-12)
    scaled = columns[:, free] * prior.error[free] / predicted[:, None] * np.sqrt(solved.weight)[:, None]
    return int(np.count_nonzero(np.linalg.svd(scaled, compute_uv=False) > 1))


def _solve(
    rows: ClientRows, prior: _Prior, own: float, drawn: F8 | None = None, first: F8 | None = None,
    iterations: int = _ITERATIONS,
) -> _Solved:  # fmt: skip
    """The minimum; `drawn` are random weights of the rows, `first` is where to begin."""
    from scipy.optimize import nnls

    certain = 1 / (own**2 + rows.error**2) * (1.0 if drawn is None else drawn)
    values = prior.centre if first is None else first
    weight, residual = certain, np.zeros(len(rows))
    unit = np.maximum(prior.error, prior.centre)
    for _ in range(iterations):
        columns = _columns(rows, max(values[_WEIGHTS], 1e-9), max(values[_TOKEN], 1e-12), prior.power)
        predicted = np.maximum(columns @ values, 1e-3 * rows.duration_s)
        root = np.sqrt(weight) / predicted
        table = np.vstack([columns * root[:, None], np.diag(1 / prior.error)]) * unit
        target = np.concatenate([rows.duration_s * root, prior.centre / prior.error])
        values = nnls(table, target)[0] * unit
        values[_WEIGHTS], values[_TOKEN] = max(values[_WEIGHTS], 1e-9), max(values[_TOKEN], 1e-12)
        predicted = np.maximum(columns @ values, 1e-3 * rows.duration_s)
        residual = (rows.duration_s - predicted) / predicted
        size = np.abs(residual) * np.sqrt(1 / (own**2 + rows.error**2))
        weight = certain * np.minimum(1.0, _HUBER / np.maximum(size, 1e-9))
    return _Solved(values, weight, residual)


def _bootstrap(rows: ClientRows, prior: _Prior, own: float, solved: _Solved, draws: int, seed: int) -> F8:
    """Coefficients with runs weighted and the prior's centre drawn at random. Shape (draws, len(NAMES))."""
    rng = np.random.default_rng(seed)
    own_width = np.minimum(prior.error, PRIOR * prior.centre)  # a start of 0 stays there
    found = []
    for _ in range(draws):
        weight = rng.standard_exponential(len(rows.names))[rows.run]
        centre = np.abs(prior.centre + own_width * rng.standard_normal(len(NAMES)))
        moved = _Prior(centre, prior.error, prior.power)
        found.append(_solve(rows, moved, own, weight, solved.values, iterations=4).values)
    return np.array(found).reshape(draws, len(NAMES))


def _held_out(rows: ClientRows, prior: _Prior, own: float) -> dict[str, float]:
    """By run: log of measured / predicted time of its steps, from coefficients that had not seen it."""
    errors = {}
    for i in np.unique(rows.run[rows.decoding]):
        rest = rows.take(rows.run != i)
        mine = rows.take((rows.run == i) & rows.decoding)
        if len(rest) < FEWEST:
            continue
        values = _solve(rest, prior, own).values
        columns = _columns(mine, values[_WEIGHTS], values[_TOKEN], prior.power)
        errors[rows.names[i]] = float(np.log(mine.duration_s.sum() / (columns @ values).sum()))
    return errors


def _model(values: F8, start: Profile) -> StepTimeModel:
    fitted = {name: float(value) for name, value in zip(NAMES[:-1], values[:-1], strict=True)}
    return StepTimeModel(**{**start.step_time.model_dump(), **fitted})


def client_overheads(rows: ClientRows, model: StepTimeModel) -> dict[str, float]:
    """By run without a queue: mean seconds of a first token beyond the engine's steps that it waited for."""
    steps, found = rows.predicted_s(model), {}
    for i in np.unique(rows.run[~rows.decoding]):
        mine = (rows.run == i) & ~rows.decoding
        found[rows.names[i]] = float(((rows.duration_s - steps)[mine] / rows.first_tokens[mine]).mean())
    return found
