"""The cost of the scheduler's walk over a long queue, found by simulation.

It matters only where slots are scarce and thousands wait, and there the operating point depends on it strongly: the
regression on matched runs, whose batches are then not the server's, cannot tell it. So candidates are judged by the
throughput that the twin predicts for such runs.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.calibrate.published.serving import ServingRun
from loratwin.metrics import throughput
from loratwin.perf import Profile
from loratwin.simulate import simulate

_LONG_QUEUE = 2000.0
_FREE_KV = 0.9
_MAX_RATE = 200.0  # requests/s; beyond, the measuring client decides what arrives
_MOST_RUNS = 12


def telling(runs: Sequence[ServingRun]) -> list[ServingRun]:
    """Runs in which the walk shows: a long queue, and KV blocks free, so that slots were what it waited for."""
    queued = [
        run
        for run in runs
        if run.figure("waiting_mean") > _LONG_QUEUE
        and run.figure("kv_usage_mean") < _FREE_KV
        and run.total_rate < _MAX_RATE
    ]
    step = max(1, len(queued) // _MOST_RUNS)
    return sorted(queued, key=lambda run: (run.group, run.served_adapters, run.max_loras))[::step]


def walk_error(profile: Profile, runs: Sequence[ServingRun]) -> float:
    """Mean absolute error of the log of throughput over the telling runs; 0 when there are none."""
    errors = []
    for run in telling(runs):
        simulated = simulate(run.workload(profile.frontend.generated_share), profile, run.config)
        measured = run.figure("input_throughput") + run.figure("output_throughput")
        errors.append(abs(np.log(throughput(simulated).total / measured)))
    return float(np.mean(errors)) if errors else 0.0
