"""What a real run of the chosen configuration will show: intervals from other seeds, other plausible profiles, and the
profile's held-out errors."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.perf import Profile
from loratwin.records import EngineConfig
from loratwin.simulate import Forecast, forecast, try_config
from loratwin.workload import WorkloadSpec, draw

SEEDS = range(10)
LEVEL = 0.9
_STREAM = 20_260_224  # of the profiles that are drawn, apart from those of workloads


def plausible_profile(profile: Profile, number: int) -> Profile:
    """The so-manieth profile that is as plausible as this one; the same for the same number."""
    return profile.sample(np.random.default_rng([_STREAM, number]))


def forecast_of(spec: WorkloadSpec, profile: Profile, config: EngineConfig, served: Sequence[int]) -> Forecast:
    """Intervals for the served adapters (indices) under a configuration.

    Raises
    ------
    InputError
        As `simulate`.
    """
    outcomes = []
    for seed in SEEDS:
        plausible = plausible_profile(profile, seed)
        outcomes.append(try_config(draw(spec, seed).take_adapters(served), plausible, config))
    return forecast(outcomes, profile.uncertainty, LEVEL)
