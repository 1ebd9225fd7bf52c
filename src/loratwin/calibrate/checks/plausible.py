"""Profiles that are as plausible as a fitted one, the machine's own ups and downs included."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np

from loratwin.perf import Profile

LEVEL = 0.9
DRAWS = 24
"""Plausible profiles that an interval is made of."""


def plausible_profiles(profile: Profile, draws: int = DRAWS, seed: int = 0) -> list[Profile]:
    """Coefficients within their errors, and all step times and overheads times a common lognormal factor.

    The machine as a whole is faster at one time than at another: the profile's own `machine`. Of a profile without it
    the factor spreads so that LEVEL of the runs that were not fitted lie within LEVEL of it (the profile's residual).
    """
    known, spread = profile.uncertainty, 0.0
    if known is not None and not known.machine:
        spread = known.error("itl_mean_ms", "open", LEVEL) / NormalDist().inv_cdf((1 + LEVEL) / 2)
    rng = np.random.default_rng(seed)
    return [_plausible(profile, spread, rng) for _ in range(draws)]


def _plausible(profile: Profile, spread: float, rng: np.random.Generator) -> Profile:
    one = profile.sample(rng)
    return one.slower(float(np.exp(spread * rng.standard_normal()))) if spread else one
