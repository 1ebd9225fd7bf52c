"""How fast the machine was, run by run: what reference loads beside the runs tell, and identical runs by themselves.

A machine that is slower for some minutes makes the runs of these minutes slower; a fit would take that for whatever
these runs vary. The reference load of a run (`Run.reference`) says how fast the machine was then, by a factor of its
usual speed, which is the middle of all. The factors are taken out of the step times unless the runs contradict them;
how far they lie apart goes into the intervals all the same, since a server in use meets them too.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from loratwin.bench.shared.job import REFERENCE_IN_FLIGHT, REFERENCE_OUTPUT, REFERENCE_PROMPT
from loratwin.calibrate.regression.step_log import StepFit, run_errors, told_by
from loratwin.calibrate.robust import spread
from loratwin.calibrate.rows.step_log import StepRows
from loratwin.engines.versions import EngineBehaviour
from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import StepTimeModel
from loratwin.records import EngineConfig, Run
from loratwin.records.run import STEADY

F8 = NDArray[np.float64]

_PARTS = (1.0, 0.75, 0.5, 0.25, 0.0)
"""Of the factors' logarithms that may be taken out: reference loads that tell little are followed little."""

_NO_WORSE = 1.1
"""The most is taken out with which the runs' errors are at most so many times the least."""

_FEWEST = 4
_SAME_LENGTHS = 1.25


@dataclass(frozen=True)
class Drift:
    """How the machine's speed changed under a calibration.

    Parameters
    ----------
    factors
        By run with a reference load: the load's time by the usual one; above 1 the machine was slower.
    error
        Of the logarithm of a factor, by how far the loads before and after a run differ; NaN: unknown.
    part
        Of the factors' logarithms that is taken out of the step times: 0 nothing, 1 all.
    usual
        The load's time between tokens by what the fitted formula says of it, at the usual speed; NaN: unknown.
    again
        By run that is another measurement of an earlier one: its step time by the earlier one's, both by what the
        formula says of them, as measured; and so with the machine's speed taken out.
    """

    factors: Mapping[str, float] = field(default_factory=dict)
    error: float = float("nan")
    part: float = 0.0
    usual: float = float("nan")
    again: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def taken_out(self) -> F8:
        """Logarithms of the factors that the step times were divided by. Shape (runs with a reference load,)."""
        return np.asarray(self.part * np.log(list(self.factors.values())))

    @property
    def is_steady(self) -> bool:
        """Whether nothing shows another speed."""
        apart = [*self.factors.values(), *(as_measured for as_measured, _ in self.again.values())]
        return all(1 / STEADY <= factor <= STEADY for factor in apart)

    def without(self, rows: StepRows) -> StepRows:
        """The rows as a machine of the usual speed would have given them."""
        return _divided(rows, self.part * _logs(rows, self.factors))


def measured_drift(runs: Mapping[str, Run], rows: StepRows, behaviour: EngineBehaviour, graph_tokens: float) -> Drift:
    """What the reference loads of runs tell, and how much of it their steps follow.

    Servers of other slots and ranks may answer the same load in another time, and that is no drift: where requests
    without adapter pay for slots (`base_graphs` is False), the loads are compared with what the formula says of them,
    which is fitted first with the drift of each server by itself taken out.

    Parameters
    ----------
    runs
        By name, those of `rows` among them.
    rows
        Of their steps, as measured.
    """
    seen = {name: run for name in rows.names if (run := runs[name]).reference and run.reference.mean_s > 0}
    if len(seen) < _FEWEST:
        return Drift()
    references = [run.reference for run in seen.values() if run.reference is not None]
    logs = np.log([reference.mean_s for reference in references])
    changes = np.array([reference.change for reference in references])
    changes = changes[np.isfinite(changes)]
    error = spread(changes) / 2 if len(changes) >= _FEWEST else float("nan")
    servers = [run.config if not behaviour.base_graphs else None for run in seen.values()]
    first = dict(zip(seen, np.exp(logs - _usual_of_each(logs, servers)).tolist(), strict=True))
    columns, model = told_by(_divided(rows, _reliability(first, error) * _logs(rows, first)), graph_tokens)
    logs -= np.log([reference_step_s(model, run.config, behaviour) for run in seen.values()])
    usual = _usual(logs)
    factors = dict(zip(seen, np.exp(logs - usual).tolist(), strict=True))
    return Drift(factors, error, _part(rows, columns, factors, error), float(np.exp(usual)))


def _usual(logs: F8) -> float:
    """The lower of two middle ones: where half of the runs were disturbed, the others count."""
    return float(np.quantile(logs, 0.5, method="lower"))


def _usual_of_each(logs: F8, servers: Sequence[EngineConfig | None]) -> F8:
    """For each run the usual one of its server. Shape (runs,)."""
    return np.array(
        [_usual(np.array([log for log, s in zip(logs, servers, strict=True) if s == one])) for one in servers]
    )


def _reliability(factors: Mapping[str, float], error: float) -> float:
    """Part of the factors' variance that is not their own error: what regression on them loses to it (Fuller 1987)."""
    variance = float(np.var(np.log(list(factors.values()))))
    return max(0.0, 1 - error**2 / variance) if variance > 0 and np.isfinite(error) else float(variance > 0)


def _logs(rows: StepRows, factors: Mapping[str, float]) -> F8:
    """Logarithm of each run's factor; 0 without a reference load. Shape (runs,)."""
    return np.log([factors.get(name, 1.0) for name in rows.names])


def _divided(rows: StepRows, logs: F8) -> StepRows:
    return replace(rows, duration_s=rows.duration_s * np.exp(-logs)[rows.run]) if logs.any() else rows


def _part(rows: StepRows, columns: F8, factors: Mapping[str, float], error: float) -> float:
    """The most that the runs do not contradict: their own errors may grow by those of the factors."""
    if all(1 / STEADY <= factor <= STEADY for factor in factors.values()):
        return 0.0
    most, logs = _reliability(factors, error), _logs(rows, factors)
    noise = error if np.isfinite(error) else 0.0
    left = {part: _left(_divided(rows, part * most * logs), columns) for part in _PARTS}
    least = min(left.values())
    return next(part for part in _PARTS if left[part] <= np.hypot(_NO_WORSE * least, part * most * noise)) * most


def _left(rows: StepRows, columns: F8) -> float:
    """Mean distance of whole runs from what is fitted to them, on a logarithmic scale."""
    return float(np.abs(run_errors(rows, columns)).mean())


def reference_step_s(model: StepTimeModel, config: EngineConfig, behaviour: EngineBehaviour) -> float:
    """What the formula says of a step of the reference load: a few requests to the LLM itself that decode."""
    num = REFERENCE_IN_FLIGHT
    context = num * (REFERENCE_PROMPT + REFERENCE_OUTPUT // 2)
    cost = model.resolve(config.max_loras, config.max_lora_rank, behaviour, config.max_num_seqs)
    return float(step_time_s(cost, StepFeatures(num, 0, context, 0, 0, 0, 0, 0, 0, num)))


def with_repetitions(drift: Drift, runs: Mapping[str, Run], rows: StepRows, steps: StepFit) -> Drift:
    """With what identical runs tell: how far they lie apart, each by what the formula says of it.

    Parameters
    ----------
    rows
        As measured.
    steps
        Fitted without the drift.
    """
    predicted = np.bincount(
        rows.run, rows.predicted_s(steps.model) + steps.swap_extra_s * rows.swap_ins, minlength=len(rows.names)
    )
    measured = np.bincount(rows.run, rows.duration_s, minlength=len(rows.names))
    ratio = {name: m / p for name, m, p in zip(rows.names, measured, predicted, strict=True) if p > 0}
    factors = dict(zip(rows.names, np.exp(drift.part * _logs(rows, drift.factors)), strict=True))
    again, first = dict[str, tuple[float, float]](), dict[str, str]()
    for name in ratio:
        stem = re.sub(r"-\d+$", "", name)
        one = first.setdefault(stem, name)
        if one != name and _are_alike(runs[one], runs[name]):
            as_measured = float(ratio[name] / ratio[one])
            again[name] = as_measured, as_measured * float(factors[one] / factors[name])
    return replace(drift, again=again)


def _are_alike(one: Run, other: Run) -> bool:
    """Whether two runs of one name, but for its number, are measurements of the same."""
    if one.config != other.config or one.window_s != other.window_s:
        return False
    means = [
        (float(getattr(run.requests, name).mean()) for run in (one, other))
        for name in ("prompt_tokens", "output_tokens")
    ]
    return all(1 / _SAME_LENGTHS < a / b < _SAME_LENGTHS for a, b in means)
