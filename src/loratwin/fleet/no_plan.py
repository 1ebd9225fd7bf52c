"""Why no plan was found: one line each, with the nearest that works."""

from __future__ import annotations

from loratwin.errors import InputError
from loratwin.fleet.judge import Server, Task
from loratwin.fleet.packing import HALVES, Packed, Packer
from loratwin.fleet.plan_result import Bound
from loratwin.fleet.problem import Problem
from loratwin.fleet.traffic import Sample
from loratwin.plan.trial import Trial

SMALLEST, REQUESTS = 4096, 4
"""Hardly any traffic: one of so many equal parts, of fewer where one would have fewer requests than this."""


def too_few(problem: Problem, kind: int, count: int | None, needed: Packed | None, bound: Bound) -> str:
    """So many servers of a kind do not suffice; those that would were found, or not."""
    name, least = problem.gpus[kind].name, f"(at least {bound.gpus} by {bound.name})"
    if count is None:
        return f"no number of servers of {name} was found to do {least}: a single adapter may be too much for one"
    nearest = "no number of them was found to do" if needed is None else f"{len(needed.kinds)} would"
    return f"{count} servers of {name} do not suffice: {nearest} {least}"


def hopeless(problem: Problem, packer: Packer) -> str:
    """Why no number of servers does: what one with hardly any traffic reaches."""
    judge, name = problem.judge, problem.gpus[0].name
    number = max(1, min(SMALLEST, judge.oracle.traffic.workloads[0].num_requests // REQUESTS))
    server = packer.even_share(number, 0)
    finder, held = judge.finder(server), judge.num_adapters(server)
    config = finder.config(held, held, judge.settings[0].sequence_options()[-1])
    capacity = judge.oracle.bench(server).capacity(held, config)
    if not capacity.starts:
        return f"no server of {name} starts: {capacity.reason}"
    (result,) = judge.simulate([Task(server, Trial(config, held))], "why not")
    seen = {**result.outcome.slo_s, **result.outcome.real_slo_s} if result.outcome is not None else {}
    reached = ", ".join(f"{limit} = {1e3 * value:.0f} ms" for limit, value in seen.items())
    asked = f"the SLO {judge.oracle.slo} is out of reach: " if judge.oracle.slo else "nothing works: "
    return f"{asked}a server of {name} with hardly any traffic reaches {reached or 'nothing'}"


def check_pins(problem: Problem, least: int) -> None:
    """Refuse pins that alone are too much for a server.

    Raises
    ------
    InputError
        Says how many of the adapters the server carries.
    """
    alone = Packer(problem.judge, problem.load, tuple(problem.pinned), problem.pinned)
    servers = alone.servers(alone.deal(least, HALVES[0]), [0] * least)
    used = [j for j, each in enumerate(servers) if each.content]
    for j, config in zip(used, problem.judge.working([servers[j] for j in used], "pins"), strict=True):
        if config is None:
            names = [problem.adapters.name[a] for a, places in problem.pinned.items() if j in places]
            raise InputError(
                f"pins put {len(names)} adapters on gpu-{j} ({', '.join(names[:3])} ...), which it cannot carry: "
                f"pin {_most_pins(problem, servers[j])} of them there, or split them, as NAME=gpu-{j},gpu-{j + 1}"
            )


def _most_pins(problem: Problem, server: Server) -> int:
    assert not isinstance(server.content, Sample)
    content = tuple(sorted(server.content, key=lambda share: float(problem.load[share.adapter])))
    good, bad = 0, len(content)
    while bad - good > 1:
        middle = (good + bad) // 2
        part = Server(server.kind, tuple(sorted(content[:middle])))
        good, bad = (middle, bad) if problem.judge.working([part], "pins")[0] is not None else (good, middle)
    return good
