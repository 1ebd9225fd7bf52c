"""A fleet, literally: before each request every server is simulated anew up to what the router sees of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from loratwin.kernel import AdapterCosts, EngineLimits, Requests, StepCost, step_time_s
from tests.reference.async_engine import ENGINES
from tests.reference.engine import Place, ReferenceEngine, ReferenceTrace
from tests.reference.routers import Known

Router = Callable[[dict[int, Known], int, tuple[float, float]], int]

Row = tuple[float, int, int, int]  # arrival, the adapter's number on the server, prompt and output tokens


class Spec(NamedTuple):
    """One server, and which adapters it holds, in the order of their numbers there."""

    limits: EngineLimits
    costs: AdapterCosts
    step_cost: StepCost
    adapters: list[int]
    takes_base: bool


def run_to(spec: Spec, rows: list[Row], until_s: float) -> tuple[ReferenceEngine, ReferenceTrace]:
    """The server after all steps that start before a time, and its trace."""
    columns = list(zip(*rows, strict=True)) if rows else [(), (), (), ()]
    adapter, prompt, output = (np.array(column, np.int32) for column in columns[1:])
    requests = Requests(np.array(columns[0], float), adapter, prompt, output)
    limits = spec.limits._replace(window_s=min(until_s, spec.limits.window_s))
    made = ENGINES[limits.rules.async_scheduling, limits.rules.skipped_first](
        requests, limits, spec.costs, len(spec.adapters), lambda f: step_time_s(spec.step_cost, f), False
    )
    return made, made.run()


def engine(spec: Spec, rows: list[Row], until_s: float) -> ReferenceEngine:
    """The server after all steps that start before a time."""
    return run_to(spec, rows, until_s)[0]


def as_of(spec: Spec, rows: list[Row], time_s: float) -> ReferenceEngine:
    """The server at the end of the last step that has ended by a time."""
    made = engine(spec, rows, time_s)
    return made if made.now_s <= time_s else engine(spec, rows, made.steps[-1].start_s)


def look(spec: Spec, rows: list[Row], now_s: float, scraped_s: float | None) -> Known:
    """What the router knows of a server."""
    known = Known(max_loras=spec.limits.max_loras)
    known.in_flight = len(rows) - answered(spec, rows, now_s)
    if scraped_s is None or spec.limits.rules.async_scheduling:  # an engine that schedules ahead shows the next step
        return known
    server = as_of(spec, rows, scraped_s)
    number = spec.adapters
    in_queue, in_batch = [r.adapter for r in server.waiting], [r.adapter for r in server.running]
    known.waiting = len(server.waiting)
    known.kv_usage = (spec.limits.num_blocks - server.free_blocks) / spec.limits.num_blocks
    known.active = {number[a] for a in in_queue + in_batch if a >= 0}
    known.running = {number[a] for a in in_batch if a >= 0}
    known.in_slots = {number[a] for a in server.adapters.active}
    known.in_host = {number[a] for a in server.adapters.registered}
    return known


def answered(spec: Spec, rows: list[Row], now_s: float) -> int:
    """Requests that were answered, or refused, by a time."""
    if spec.limits.rules.async_scheduling:
        return sum(request.finish_s <= now_s for request in engine(spec, rows, now_s).requests)
    return sum(r.place in (Place.FINISHED, Place.REFUSED) for r in as_of(spec, rows, now_s).requests)


def last_scrape_s(now_s: float, phase_s: float, every_s: float) -> float | None:
    """The last of phase, phase + every, ... up to now; None: there was none."""
    if every_s == 0:
        return now_s
    times = [phase_s + i * every_s for i in range(math.ceil(now_s / every_s) + 1)]
    return max((t for t in times if t <= now_s), default=None)


def serve(
    specs: list[Spec],
    requests: Requests,
    router: Router,
    numbers: np.ndarray,
    every_s: float,
    phase_s: np.ndarray,
) -> tuple[list[int], list[ReferenceTrace], list[list[int]]]:
    """Server of each request; the traces of the servers; which requests each got."""
    rows: list[list[Row]] = [[] for _ in specs]
    got: list[list[int]] = [[] for _ in specs]
    columns = (column.tolist() for column in requests[:4])
    for i, (arrival_s, adapter, prompt, output) in enumerate(zip(*columns, strict=True)):
        holders = [k for k, s in enumerate(specs) if (adapter in s.adapters if adapter >= 0 else s.takes_base)]
        known = {k: look(specs[k], rows[k], arrival_s, last_scrape_s(arrival_s, phase_s[k], every_s)) for k in holders}
        chosen = router(known, adapter, tuple(numbers[i]))
        local = specs[chosen].adapters.index(adapter) if adapter >= 0 else -1
        rows[chosen].append((arrival_s, local, prompt, output))
        got[chosen].append(i)
    traces = [run_to(spec, row, spec.limits.window_s)[1] for spec, row in zip(specs, rows, strict=True)]
    return [next(k for k in range(len(specs)) if i in got[k]) for i in range(len(requests.arrival_s))], traces, got
