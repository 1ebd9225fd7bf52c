"""The plan of a fleet: how many servers of which kind, which adapters on each, with which slots and limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import get_args

from loratwin.errors import InputError, UnknownNameError
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Oracle, Task
from loratwin.fleet.no_plan import check_reachable
from loratwin.fleet.outcome import finished, fleet_plan
from loratwin.fleet.packing import check_holdable
from loratwin.fleet.plan_result import FleetPlan, Target
from loratwin.fleet.pool_search import search_pools
from loratwin.fleet.present import as_present
from loratwin.fleet.problem import Problem, traffic_of
from loratwin.fleet.wishes import Wishes, as_specified, check_wishes
from loratwin.metrics import Slo, SloFor
from loratwin.plan.question import HEADROOM, SEEDS, AnyWorkload, drawn_for, settings_for, targets
from loratwin.plan.search import Progress
from loratwin.plan.trial import Result
from loratwin.simulate.workers import Workers


def plan_fleet(
    workload: AnyWorkload,
    gpus: Sequence[Gpus],
    *,
    target: Target = "fewest",
    slo: Slo | str | None = None,
    slo_for: SloFor | None = None,
    group_slos: Mapping[str, Slo | str] | None = None,
    headroom: float = HEADROOM,
    confidence: float | None = None,
    wishes: Wishes | None = None,
    seeds: Sequence[int] = SEEDS,
    slots: Sequence[int] | None = None,
    max_num_seqs: Sequence[int] | int | None = None,
    max_num_batched_tokens: int | None = None,
    max_model_len: int | None = None,
    gpu_memory_utilization: float | None = None,
    processes: int = 1,
    progress: Progress | None = None,
    name: str = "workload",
    group_names: Sequence[str] = (),
) -> FleetPlan:
    """Find how many servers a workload needs, and which adapters live on which.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already, then `seeds` is ignored.
    gpus
        Kinds of server to choose from, with the number that can be had and the price.
    target
        `fewest` servers; the `cheapest` by their prices; or `latency`: all that are given, for the least TTFT (99th
        percentile) of the worst adapter.
    slo, slo_for, group_slos, headroom, confidence
        What every server must keep, as `loratwin.find_plan` has them.
    wishes
        Pins, isolation, a server that may be lost, moves; None: none. They come on top of those in a specification.
    seeds
        Draws of the workload that every server is verified with.
    slots, max_num_seqs, max_num_batched_tokens, max_model_len, gpu_memory_utilization
        As `loratwin.find_plan` has them.
    processes
        More than 1 starts further Python processes: a script then needs `if __name__ == "__main__":`. The result is the
        same for any number.
    progress
        Called with the number of simulations done, the number known to be needed so far, and what they are for.
    name
        Of the workload, to be shown.
    group_names
        Of a workload that was drawn already, by index; a specification tells its own.

    Returns
    -------
    FleetPlan
        Every server in it was simulated with what it gets, and works.

    Raises
    ------
    InputError
        No such plan was found: an adapter that no GPU holds, counts that do not suffice, pins that contradict, more
        moves than allowed. One line with the nearest that works.
    """
    wishes = as_specified(wishes or Wishes(), workload)
    _check(gpus, target, wishes)
    limits = targets(workload, slo, slo_for, group_slos, group_names)
    traffic = traffic_of(drawn_for(workload, seeds), limits)
    settings = [
        settings_for(
            each.profile,
            objective="latency" if target == "latency" else "throughput",
            slo=limits.slo,
            headroom=headroom,
            confidence=confidence,
            slots=slots,
            advised=None,
            max_num_seqs=max_num_seqs,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            others={},
            extrapolate=False,
        )
        for each in gpus
    ]
    oracle = Oracle(traffic, tuple(each.profile for each in gpus), limits)
    with Workers[Task, Result](oracle.measure, processes) as workers:
        judge = Judge(oracle, settings, workers, progress)
        check_holdable(judge, traffic.adapters.name)
        problem = Problem(judge, tuple(gpus), target, wishes)
        check_reachable(problem)
        packed, bound = search_pools(problem)
        packed, changes = as_present(problem, packed)
        return fleet_plan(problem, finished(problem, packed), bound, changes, name)


def _check(gpus: Sequence[Gpus], target: str, wishes: Wishes) -> None:
    if not gpus:
        raise InputError("gpus: name one kind at least")
    if target not in get_args(Target):
        raise UnknownNameError("target", target, get_args(Target))
    if target == "cheapest" and any(each.price_per_h is None for each in gpus):
        raise InputError("the cheapest fleet needs a price for each kind: --gpus PROFILE@2.5")
    if target == "latency" and any(each.count is None for each in gpus):
        raise InputError("the least latency is asked for on given GPUs: say how many, as --gpus PROFILE:8")
    if len({each.name for each in gpus}) < len(gpus):
        raise InputError("gpus: a profile is given twice; give it once, with the number of both")
    check_wishes(wishes)
