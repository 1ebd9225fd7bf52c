"""How many servers each way of placing needs, on the same requests with the same judge."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from loratwin.fleet.baselines import DEALERS
from loratwin.fleet.contenders import Baseline, fewest_by, first_fit, greedy, max_backbone, outcome_of
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Oracle, Task
from loratwin.fleet.no_plan import check_reachable
from loratwin.fleet.packing import Packed, check_holdable
from loratwin.fleet.plan_result import Bound
from loratwin.fleet.pool_search import search_pools
from loratwin.fleet.problem import Problem, traffic_of
from loratwin.fleet.wishes import Wishes
from loratwin.metrics import Slo, SloFor
from loratwin.plan.question import HEADROOM, SEEDS, AnyWorkload, drawn_for, settings_for, targets
from loratwin.plan.search import Progress
from loratwin.plan.trial import Result
from loratwin.simulate.workers import Workers

BEYOND, MORE = 2, 4
"""A method is tried with up to so many times the bound's servers, and so many more."""

OURS = "fleet plan"


class Compared(NamedTuple):
    """What each method came to; ours first."""

    bound: Bound
    methods: tuple[Baseline, ...]


def compare_placements(
    workload: AnyWorkload,
    gpus: Gpus,
    *,
    slo: Slo | str | None = None,
    slo_for: SloFor | None = None,
    headroom: float = HEADROOM,
    seeds: Sequence[int] = SEEDS[:1],
    processes: int = 1,
    progress: Progress | None = None,
) -> Compared:
    """The fewest servers that could do, and what each method needs; ours first.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already.
    gpus
        The kind of server; its count is not looked at.
    slo, slo_for, headroom, seeds, processes, progress
        As `plan_fleet` has them: every method's servers are judged by the same.

    Raises
    ------
    InputError
        No number of servers does, or an adapter is held by none.
    """
    limits = targets(workload, slo, slo_for)
    traffic = traffic_of(drawn_for(workload, seeds), limits)
    settings = settings_for(
        gpus.profile, objective="throughput", slo=limits.slo, headroom=headroom, confidence=None, slots=None,
        advised=None, max_num_seqs=None, max_num_batched_tokens=None, max_model_len=None,
        gpu_memory_utilization=None, others={}, extrapolate=False,
    )  # fmt: skip
    oracle = Oracle(traffic, (gpus.profile,), limits)
    with Workers[Task, Result](oracle.measure, processes) as workers:
        judge = Judge(oracle, [settings], workers, progress)
        check_holdable(judge, traffic.adapters.name)
        problem = Problem(judge, (replace(gpus, count=None),), "fewest", Wishes())
        check_reachable(problem)
        ours, bound = search_pools(problem)
        least, load = bound.gpus, problem.load
        most = BEYOND * least + MORE
        methods: dict[str, Callable[[], Packed | None]] = {
            OURS: lambda: ours,
            "greedy": lambda: greedy(judge, load, most),
            "first fit": lambda: first_fit(judge, load, most),
            "MaxBackbone": lambda: max_backbone(judge, load, least, most),
            "MaxBackbone x 2/3": lambda: max_backbone(judge, load, least, most, 2 / 3),
            **{name: _dealt(judge, problem, name, least, most) for name in DEALERS},
        }
        rows = tuple(outcome_of(judge, load, name, place()) for name, place in methods.items())
        return Compared(bound, rows)


def _dealt(judge: Judge, problem: Problem, name: str, least: int, most: int) -> Callable[[], Packed | None]:
    return lambda: fewest_by(judge, problem.load, name, least, most)
