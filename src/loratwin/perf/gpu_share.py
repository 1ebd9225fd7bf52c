"""How much of the time the GPU works while a server runs its steps: what several servers on one GPU share.

The rest is the host's: what it does for each running request and between two steps, and what a step with prompts takes
besides (`perf/step_overhead.py`, by engine generation), and the walk past requests whose adapter has no place, where
nothing hides it. Small kernels and the launches between them count as the GPU's, as in NVML's utilization, which counts
the time in which any kernel runs.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from loratwin.perf.assume import shipped_references
from loratwin.perf.profile import Profile
from loratwin.perf.step_overhead import launch_of
from loratwin.records.run import StepSeries

F8 = NDArray[np.float64]


def host_s(profile: Profile, steps: StepSeries) -> F8:
    """Seconds of each step, shape (num_steps,), in which the GPU waits for the host.

    A fitted profile is its own reference: what it takes beyond the sum of its operations.
    """
    references = [profile] if profile.origin == "fitted" else shipped_references()
    launch = launch_of(profile.engine, references)
    host = launch.step_s + launch.request_s * steps.running + launch.prefill_step_s * (steps.prefill_tokens > 0)
    if steps.skipped is not None and not profile.behaviour.async_scheduling:
        host = host + profile.step_time.skipped_s * steps.skipped
    return np.minimum(np.asarray(host, np.float64), steps.duration_s)


def gpu_busy(profile: Profile, steps: StepSeries | None) -> float:
    """Part of the time of all steps in which the GPU works, 0 to 1; NaN: there are none."""
    if steps is None or not len(steps):
        return float("nan")
    return float(1 - host_s(profile, steps).sum() / steps.duration_s.sum())
