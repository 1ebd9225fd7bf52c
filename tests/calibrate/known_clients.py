"""What a client sees of the known server: closed loops and open ones, with a front end's delay, steps logged or not."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from loratwin.calibrate.design import RunDesign, ServerDesign
from loratwin.calibrate.rows.operating_point import serve_closed
from loratwin.perf import Profile, StepTimeModel
from loratwin.records import EngineConfig, Run
from loratwin.simulate import simulate
from loratwin.workload import Workload, draw, parse_spec
from tests.calibrate.known_steps import ADAPTERS, ENGINE, config_of, known_design, known_profile

OVERHEAD_S = known_profile().frontend.overhead_s


def seen(run: Run, noise: float = 0.0, logged: bool = False, seed: int = 0) -> Run:
    """A simulated run as a client would have measured it.

    Parameters
    ----------
    noise
        Standard deviation of the logarithm of the time between the tokens of a request.
    logged
        Keep the engine's steps.
    seed
        Of the noise.
    """
    table, rng = run.requests, np.random.default_rng(seed)
    factor = np.exp(noise * rng.standard_normal(len(table)))
    finish = table.first_token_s + (table.finish_s - table.first_token_s) * factor
    measured = replace(
        table,
        admitted_s=np.full(len(table), np.nan),
        first_token_s=table.first_token_s + OVERHEAD_S,
        finish_s=np.where(finish + OVERHEAD_S <= run.window_s, finish + OVERHEAD_S, np.nan),
        sent_s=table.arrival_s,
        asked_tokens=table.output_tokens,
    )
    facts = replace(run.provenance, engine_version=ENGINE, gpu="cpu", llm="tiny")
    steps = run.steps if logged else None
    return replace(run, kind="measured", requests=measured, steps=steps, provenance=facts, client_overhead_s=0.0)


def closed(server: ServerDesign, run: RunDesign, noise: float = 0.0, logged: bool = False, seed: int = 0) -> Run:
    """A run of the design as what it is: a closed loop."""
    config, workload = config_of(server), run.workload(ADAPTERS, 0)
    return seen(serve_closed(workload, run.in_flight, known_profile(), config), noise, logged, seed)


def drawn(rate: float, seed: int = 0, window_s: float = 20.0, **arrivals: object) -> Workload:
    """Requests of all adapters with lengths unlike those of the design."""
    group = {"name": "a", "count": 16, "total_rate": rate, "ranks": [8, 16], "arrivals": arrivals or "poisson"}
    lengths = {"prompt": {"kind": "uniform", "min": 20, "max": 150}, "output": {"kind": "uniform", "min": 2, "max": 60}}
    return draw(parse_spec({"window_s": window_s, "lengths": lengths, "groups": [group]}), seed)


def open_(rate: float, config: EngineConfig, seed: int = 0) -> Run:
    """An open loop."""
    return seen(simulate(drawn(rate, seed), known_profile(), config))


@lru_cache(maxsize=4)
def client_runs(noise: float = 0.0, logged: bool = False, seed: int = 0) -> dict[str, Run]:
    """The design measured, with a step log or without, by name."""
    return {
        f"{server.name}-{run.name}": closed(server, run, noise, logged, seed)
        for server in known_design().servers
        for run in server.runs
    }


def off_start(seed: int = 1) -> Profile:
    """A profile of another server: half as fast, and each coefficient between half and twice what it should be."""
    rng = np.random.default_rng(seed)
    truth = known_profile()
    values = truth.step_time.model_dump()
    pure = {"roofline_power", "graph_tokens"}
    moved = {name: v if name in pure else 2 * v * float(2 ** rng.uniform(-1, 1)) for name, v in values.items()}
    frontend = truth.frontend.model_copy(update={"overhead_s": 0.008})
    return truth.model_copy(
        update={"step_time": StepTimeModel(**moved), "frontend": frontend, "name": "other/one/tiny"}
    )
