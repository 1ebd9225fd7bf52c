"""What a check teaches a profile beyond coefficients: how far its figures are off on workloads that it had not seen."""

from __future__ import annotations

import numpy as np

from loratwin.calibrate.checks.check import FIGURES, Checked
from loratwin.calibrate.robust import error_quantiles
from loratwin.perf import Profile, Uncertainty
from loratwin.perf.uncertainty import Quantiles, Regime, narrowed

FEWEST = 6
"""Measurements below which quantiles of their errors say nothing."""


def with_measured_errors(profile: Profile, checked: Checked) -> Profile:
    """The profile with the check's errors as its residual (where there are enough) and on its card.

    Parameters
    ----------
    profile
        Which was checked, or one fitted since.
    checked
        Of `score_checks`.
    """
    errors = {
        f"{name}, before the check was learned from": (
            f"MAPE {100 * checked.mean_error(name):.1f} %, noise of repetitions {100 * checked.mean_noise(name):.1f} %"
            f", 90 % intervals held {100 * checked.coverage(name):.0f} %"
        )
        for name in FIGURES
    }
    card = profile.card.model_copy(update={"held_out_error": {**profile.card.held_out_error, **errors}})
    known = profile.uncertainty or Uncertainty(standard_errors={})
    residual = {
        regime: {**known.residual.get(regime, {}), **_quantiles(checked, regime, known.machine)} for regime in _REGIMES
    }
    uncertainty = known.model_copy(update={"residual": residual})
    return profile.model_copy(update={"card": card, "uncertainty": uncertainty})


_REGIMES: tuple[Regime, ...] = ("open", "saturated")


def _quantiles(checked: Checked, regime: Regime, machine: float) -> dict[str, Quantiles]:
    """By figure: how large |log(measured / predicted)| of a further run is at LEVELS, beyond what plausible profiles
    are apart by themselves; servers that were predicted to starve saturate."""
    saturated = {name for name, said, _ in checked.starved if said}
    known: dict[str, Quantiles] = {}
    for figure in FIGURES:
        errors = [
            abs(float(np.log(value / score.predicted.value)))
            for score in checked.scores
            if score.figure == figure and (score.check in saturated) == (regime == "saturated")
            for value in score.measured
        ]
        if len(errors) >= FEWEST:
            simulated = 0.0 if (figure, regime) == ("total_throughput", "open") else machine
            known[figure] = narrowed(error_quantiles(np.array(errors)), simulated)
    return known
