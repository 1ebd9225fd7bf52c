"""The known server's runs, each measured twice, on a machine whose speed changes; with reference loads beside them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.calibrate.regression.drift import reference_step_s
from loratwin.records import ReferenceLoad, Run
from tests.calibrate.known_steps import STEP_TIME, as_measured, known_design, known_profile, known_runs

OVERHEAD = 1.2
"""What a client sees of the reference load by what the engine's steps take."""


def on_slower(run: Run, factor: float, noise: float, rng: np.random.Generator) -> Run:
    """The run on a machine so many times slower, with its reference load."""
    assert run.steps is not None
    steps = replace(run.steps, start_s=run.steps.start_s * factor, duration_s=run.steps.duration_s * factor)
    usual_s = OVERHEAD * reference_step_s(STEP_TIME, run.config, known_profile().behaviour)
    before, after = (usual_s * factor * np.exp(noise * rng.standard_normal(2))).tolist()
    requests = replace(run.requests, first_token_s=run.requests.first_token_s)
    return replace(run, steps=steps, requests=requests, reference=ReferenceLoad(before, after))


def runs_slowed(factor: float, reference: bool = True, noise: float = 0.05) -> dict[str, Run]:
    """All runs of the design, twice, in order of measuring; the last 13 of 32 on a machine slower by a factor."""
    rng, runs = np.random.default_rng(0), known_runs(0.2)
    order = [
        (f"{server.name}-{run.name}", number)
        for server in known_design().servers
        for number in (1, 2)
        for run in server.runs
    ]
    found = {}
    for i, (name, number) in enumerate(order):
        run = on_slower(as_measured(runs[name]), factor if i >= len(order) - 13 else 1.0, noise, rng)
        found[name if number == 1 else f"{name}-{number}"] = run if reference else replace(run, reference=None)
    return found
