"""Cases that a plan is tried with: all rates grow, the hottest adapter triples, the fullest server is lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from loratwin.fleet.judge import Server, Task
from loratwin.fleet.losses import failing_after, fullest, reserves
from loratwin.fleet.packing import Packed, Packer
from loratwin.fleet.plan_result import Stress
from loratwin.fleet.problem import Problem
from loratwin.plan.trial import Trial

GROWTH, TRIPLED = 1.2, 3.0


def stress_cases(problem: Problem, packed: Packed, reserve: Mapping[int, int]) -> tuple[Stress, ...]:
    """What each case does to the servers.

    Parameters
    ----------
    reserve
        Adapter -> server that takes over; empty: whoever is least loaded does.
    """
    servers = Packer.servers(packed.entries, packed.kinds)
    everyone = range(len(servers))
    grown = [_trial(problem, packed, servers, j)._replace(factor=GROWTH) for j in everyone]
    hottest = int(problem.load[:-1].argmax())
    entries = packed.entries
    where = sorted(set(entries.server[entries.adapter == hottest].tolist()))
    name = problem.adapters.name[hottest]
    tripled = [_trial(problem, packed, servers, j)._replace(customer=name, customer_factor=TRIPLED) for j in where]
    cases = [
        _case(problem, f"all rates +{100 * (GROWTH - 1):.0f} %", servers, everyone, grown),
        _case(problem, f"{name} asks {TRIPLED:g} times as much", servers, where, tripled),
    ]
    if len(servers) > 1:
        cases.append(_loss(problem, packed, dict(reserve)))
    return tuple(cases)


def _trial(problem: Problem, packed: Packed, servers: Sequence[Server], j: int) -> Trial:
    return Trial(packed.candidates[j].config, problem.judge.num_adapters(servers[j]), verdict_only=True)


def _case(
    problem: Problem, name: str, servers: Sequence[Server], numbers: Sequence[int], trials: Sequence[Trial]
) -> Stress:
    tasks = [Task(servers[j], trial) for j, trial in zip(numbers, trials, strict=True)]
    results = problem.judge.simulate(tasks, "what if")
    return Stress(name, tuple(f"gpu-{j}" for j, result in zip(numbers, results, strict=True) if not result.works))


def _loss(problem: Problem, packed: Packed, reserve: dict[int, int]) -> Stress:
    (lost,) = fullest(packed, problem.load, 1)
    taking_over = reserve or reserves(packed, problem.load, problem.adapters.rank.tolist())
    failing = failing_after(problem.judge, packed, lost, taking_over)
    names = ("an adapter without a server",) if failing is None else tuple(f"gpu-{j}" for j in failing)
    return Stress(f"gpu-{lost} is lost", names)
