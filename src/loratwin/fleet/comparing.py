"""How many servers each way of placing needs, on the same requests with the same judge."""

from __future__ import annotations

from collections.abc import Sequence

from loratwin.errors import InputError
from loratwin.fleet.baselines import DEALERS, Baseline, fewest_by, greedy, ours
from loratwin.fleet.gpus import Gpus
from loratwin.fleet.judge import Judge, Oracle, Task
from loratwin.fleet.packing import Packer, check_holdable
from loratwin.fleet.traffic import Traffic
from loratwin.metrics import Slo
from loratwin.plan.question import HEADROOM, SEEDS, Asked, drawn_for, settings_for, targets
from loratwin.plan.search import Progress
from loratwin.plan.trial import Result
from loratwin.simulate.workers import Workers
from loratwin.workload import BASE

BEYOND = 2
"""A method is tried with up to so many times the bound's servers, and four more."""


def compare_placements(
    workload: Asked,
    gpus: Gpus,
    *,
    slo: Slo | str | None = None,
    headroom: float = HEADROOM,
    seeds: Sequence[int] = SEEDS[:1],
    processes: int = 1,
    progress: Progress | None = None,
) -> tuple[int, tuple[Baseline, ...]]:
    """The fewest servers by an even share, and what each method needs; ours first.

    Parameters
    ----------
    workload
        A specification, drawn once for each seed; or what was drawn already.
    gpus
        The kind of server; its count is not looked at.
    slo, headroom, seeds, processes, progress
        As `plan_fleet` has them: every method's servers are judged by the same.

    Returns
    -------
    The bound, and a row for each method.

    Raises
    ------
    InputError
        No number of servers does, or an adapter is held by none.
    """
    limits, reach, groups = targets(workload, slo, None)
    traffic = Traffic(drawn_for(workload, seeds))
    settings = settings_for(
        gpus.profile, objective="throughput", slo=limits, headroom=headroom, confidence=None, slots=None,
        advised=None, max_num_seqs=None, max_num_batched_tokens=None, max_model_len=None,
        gpu_memory_utilization=None, others={}, extrapolate=False,
    )  # fmt: skip
    oracle = Oracle(traffic, (gpus.profile,), limits, reach, groups)
    load = traffic.tokens_per_s()
    with Workers[Task, Result](oracle.measure, processes) as workers:
        judge = Judge(oracle, [settings], workers, progress)
        check_holdable(judge, traffic.adapters.name)
        least = Packer(judge, load, tuple(range(BASE, len(load) - 1))).least_by_even_share(0)
        if least is None:
            raise InputError("no number of servers was found that works, not even for an equal part of everything")
        most = BEYOND * least + 4
        others = [fewest_by(judge, load, name, least, most) for name in DEALERS]
        return least, (ours(judge, load, least, most), greedy(judge, load, most), *others)
