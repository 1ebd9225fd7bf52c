"""Coefficients of the step time from clients' figures: constrained robust regression around a start.

A run gives a few rows (`rows`), a calibration some dozens: too few to tell every coefficient. So each is drawn
towards the start profile, weakly, as a normal prior: what the rows tell, they decide; what they do not, stays.

    minimise  sum over rows  h(((measured - predicted) / predicted) / error)
            + sum over coefficients  ((value - start) / prior error)^2,       no value negative

(`robust`): h grows like a square up to `_HUBER` errors and straight beyond. The roofline is homogeneous of first degree
in its two times, so that by Euler's theorem it is linear in them with its derivatives as columns; its power stays that
of the start. The start is first scaled by the common factor of the matches: a machine twice as slow is no news of each
coefficient apart.

Standard errors: all of it again with the runs weighted at random (Bayesian bootstrap: Rubin 1981) and the prior's
centre drawn within its error, so that what the rows do not tell keeps the prior's width.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.regression.step_log import StepFit
from loratwin.calibrate.robust import Prior, Solution, huber, robust, spread
from loratwin.calibrate.rows.client_figures import ClientRows
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

_OF_RUN = 0.05  # relative error of a run, formula and machine, before the rows have told it
_LEAST_OF_RUN = 0.01
_HUBER = 2.0
_ITERATIONS = 15
_SHARE = 0.3  # of a row's time, where a coefficient counts most: what it may come to whatever the start says
_OUTLIER = 6.0
_WEIGHTS, _TOKEN = NAMES.index("weights_s"), NAMES.index("token_s")


@dataclass(frozen=True)
class ClientFit:
    """What the regression solution.

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


def fit_clients(rows: ClientRows, start: Profile, factor: float, draws: int = 60, seed: int = 0) -> ClientFit:
    """Fit the step time to rows of clients.

    Parameters
    ----------
    factor
        Step times of the start x this are those of the server as a whole: the median over the matches.
    draws
        Of the bootstrap.
    """
    formula = _Formula(start.step_time.roofline_power)
    prior = _prior(rows, start, factor, formula)
    of_run = _error_of_a_run(rows, prior, formula)
    solution = _solve(rows, prior, of_run, formula)
    drawn = _bootstrap(rows, prior, of_run, formula, solution, draws, seed)
    errors = {name: drawn[:, i].std() for i, name in enumerate(NAMES)} if draws else {}
    untold = tuple(
        name for i, name in enumerate(NAMES[:-1])
        if errors.get(name, 0.0) > TOLD * min(prior.width[i], PRIOR * prior.centre[i]) > 0
    )  # fmt: skip
    width = spread(solution.error)
    steps = StepFit(
        model=_model(solution.values, start),
        swap_extra_s=0.0,
        draws={name: drawn[:, i] for i, name in enumerate(NAMES[:-1])} if draws else {},
        held_out=_held_out(rows, prior, of_run, formula),
        spread=width,
        num_outliers=int(np.count_nonzero(np.abs(solution.error) > _OUTLIER * max(width, of_run))),
        unknown=dict.fromkeys(untold, "as in the start: clients' figures do not tell it"),
    )
    return ClientFit(steps, untold, factor)


def _prior(rows: ClientRows, start: Profile, factor: float, formula: _Formula) -> Prior:
    scaled = start.step_time.scaled(factor)
    centre = np.array([*(getattr(scaled, name) for name in NAMES[:-1]), start.frontend.overhead_s])
    largest = (formula.columns(rows, centre) / rows.duration_s[:, None]).max(axis=0)
    known = start.uncertainty.standard_errors if start.uncertainty else {}
    trusted = start.origin == "assumed" and 1 / SAME_HARDWARE < factor < SAME_HARDWARE
    width = np.empty(len(NAMES))
    for i, name in enumerate(NAMES):
        stated = known.get(f"{'frontend' if name == 'overhead_s' else 'step_time'}.{name}", 0.0) * factor
        least = _SHARE / largest[i] if largest[i] > 0 else 0.0
        if name == "eager_s" and start.step_time.graph_tokens == 0:
            least = 0.0  # every step is eager: told apart from the weights by nothing
        if name == "prefill_context_s" and centre[i] > 0:
            least = 0.0  # told apart from the tokens by lengths alone, which clients seldom vary; physics knows it
        width[i] = max(TRUSTED * stated if trusted and stated else PRIOR * centre[i], least)
    return Prior(centre, np.maximum(width, 1e-15))


@dataclass(frozen=True)
class _Formula:
    """The step time around some values: linear in them by Euler's theorem."""

    power: float

    def columns(self, rows: ClientRows, values: F8) -> F8:
        """What each of NAMES is multiplied by: the roofline's times by its derivatives. Shape (rows, len(NAMES))."""
        weights_s, token_s = _positive(values)
        slopes = [slope.mean(axis=1) for slope in roofline_slopes(weights_s, token_s, self.power, rows.tokens)]
        return np.column_stack([rows.features, *slopes, rows.first_tokens])

    def predicted_s(self, rows: ClientRows, values: F8) -> F8:
        """Shape (rows,)."""
        return self.columns(rows, values) @ values


def _positive(values: F8) -> tuple[float, float]:
    """`weights_s` and `token_s`, which a profile wants above 0."""
    return max(float(values[_WEIGHTS]), 1e-9), max(float(values[_TOKEN]), 1e-12)


def _error_of_a_run(rows: ClientRows, prior: Prior, formula: _Formula) -> float:
    """Relative error of a run beyond that of its mean: how far the rows lie from the formula, as they do unfitted."""
    of_run = _OF_RUN
    for _ in range(3):
        solution = _solve(rows, prior, of_run, formula)
        decided = min(_effective(rows, prior, formula, solution), len(rows) - 1)
        width = spread(solution.error) * np.sqrt(len(rows) / (len(rows) - decided))
        beyond = max(0.0, width**2 - float(np.median(rows.error)) ** 2)
        of_run = max(_LEAST_OF_RUN, float(np.sqrt(beyond)))
    return of_run


def _effective(rows: ClientRows, prior: Prior, formula: _Formula, solution: Solution) -> int:
    """How many directions of the coefficients the rows decide rather than the prior, of those that are not at 0."""
    free = solution.values > 0
    columns = formula.columns(rows, solution.values)[:, free]
    scaled = columns * prior.width[free] * np.sqrt(solution.weight)[:, None]
    return int(np.count_nonzero(np.linalg.svd(scaled, compute_uv=False) > 1))


def _solve(
    rows: ClientRows, prior: Prior, of_run: float, formula: _Formula, drawn: F8 | None = None, first: F8 | None = None,
    iterations: int = _ITERATIONS,
) -> Solution:  # fmt: skip
    """The minimum; `drawn` are random weights of the rows, `first` is where to begin."""
    error = np.sqrt(of_run**2 + rows.error**2)
    return robust(
        lambda values: formula.columns(rows, values),
        rows.duration_s,
        1 / error**2 * (1.0 if drawn is None else drawn),
        huber(_HUBER, error),
        iterations,
        prior=prior,
        first=prior.centre if first is None else first,
    )


def _bootstrap(
    rows: ClientRows, prior: Prior, of_run: float, formula: _Formula, solution: Solution, draws: int, seed: int
) -> F8:
    """Coefficients with runs weighted and the prior's centre drawn at random. Shape (draws, len(NAMES))."""
    rng = np.random.default_rng(seed)
    width = np.minimum(prior.width, PRIOR * prior.centre)  # a start of 0 stays there
    values = []
    for _ in range(draws):
        weight = rng.standard_exponential(len(rows.names))[rows.run]
        centre = np.abs(prior.centre + width * rng.standard_normal(len(NAMES)))
        moved = Prior(centre, prior.width)
        values.append(_solve(rows, moved, of_run, formula, weight, solution.values, iterations=4).values)
    return np.array(values).reshape(draws, len(NAMES))


def _held_out(rows: ClientRows, prior: Prior, of_run: float, formula: _Formula) -> dict[str, float]:
    """By run: log of measured / predicted time of its steps, from coefficients that had not seen it."""
    errors = {}
    for i in np.unique(rows.run[rows.decoding]):
        rest = rows.take(rows.run != i)
        mine = rows.take((rows.run == i) & rows.decoding)
        if len(rest) < FEWEST:
            continue
        values = _solve(rest, prior, of_run, formula).values
        errors[rows.names[i]] = float(np.log(mine.duration_s.sum() / formula.predicted_s(mine, values).sum()))
    return errors


def _model(values: F8, start: Profile) -> StepTimeModel:
    weights_s, token_s = _positive(values)
    linear = {name: float(value) for name, value in zip(COEFFICIENTS, values, strict=False)}
    # The formula has no term for experts (weights stand for both), nor for context beside prompts (these stand for it).
    without = {"expert_s": 0.0, "expert_share": 0.0, "mixed_context_s": 0.0, "mixed_request_s": 0.0}
    without |= {"reread_context_s": 0.0}
    return start.step_time.model_copy(update={**linear, "weights_s": weights_s, "token_s": token_s, **without})


def client_overheads(rows: ClientRows, model: StepTimeModel) -> dict[str, float]:
    """By run without a queue: mean seconds of a first token beyond the engine's steps that it waited for."""
    steps, overheads = rows.predicted_s(model), {}
    for i in np.unique(rows.run[~rows.decoding]):
        mine = (rows.run == i) & ~rows.decoding
        overheads[rows.names[i]] = float(((rows.duration_s - steps)[mine] / rows.first_tokens[mine]).mean())
    return overheads
