"""Why no plan was found: one line each, with the nearest that works."""

from __future__ import annotations

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.judge import Judge, Server, Task
from loratwin.fleet.packing import HALVES, Packed, Packer
from loratwin.fleet.plan_result import Bound
from loratwin.fleet.problem import Problem
from loratwin.fleet.traffic import Content, Sample, Share
from loratwin.plan.trial import Trial
from loratwin.simulate import Outcome, outcome

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
    config = finder.config(held, held, _most_sequences(judge, server))
    capacity = judge.oracle.bench(server).capacity(held, config)
    if not capacity.starts:
        return f"no server of {name} starts: {capacity.reason}"
    (result,) = judge.simulate([Task(server, Trial(config, held))], "why not")
    reached = "" if result.outcome is None else _reached(result.outcome)
    asked = f"the SLO {judge.oracle.slo} is out of reach: " if judge.oracle.slo else "nothing works: "
    return f"{asked}a server of {name} with hardly any traffic reaches {reached or 'nothing'}"


def check_reachable(problem: Problem) -> None:
    """Refuse limits of a group that no server keeps with hardly any traffic of that group alone.

    Raises
    ------
    InputError
        Names the group and what a server reaches.
    """
    judge = problem.judge
    for name, slo in judge.oracle.targets.own.items():
        tasks = _alone(problem, name)
        if tasks and all(result.missing for result in judge.simulate(tasks, "limits of groups")):
            server, trial = tasks[0]
            run = judge.oracle.bench(server).simulate(trial)
            reached = _reached(outcome(run, slo, judge.oracle.profiles[server.kind].uncertainty))
            kind = problem.gpus[server.kind].name
            raise InputError(
                f"group {name}: its SLO {slo} is out of reach: a server of {kind} with hardly any traffic of it "
                f"reaches {reached}"
            )


def _alone(problem: Problem, group: str) -> list[Task]:
    """Hardly any traffic of a group, on each kind of server that starts with one slot for it."""
    judge, content = problem.judge, _hardly_any(problem, group)
    found = []
    for server in [Server(kind, content) for kind in range(len(problem.gpus)) if content]:
        config = judge.finder(server).config(1, 1, _most_sequences(judge, server))
        if judge.oracle.bench(server).capacity(1, config).starts:
            found.append(Task(server, Trial(config, 1)))
    return found


def _hardly_any(problem: Problem, group: str) -> Content:
    """A few requests of the adapter that the group's are for most often; none where it is not asked for."""
    members = np.flatnonzero(problem.adapters.group == problem.groups.index(group))
    workload = problem.traffic.workloads[0]
    asked = np.bincount(workload.adapter[workload.adapter >= 0], minlength=len(problem.adapters))[members]
    most = int(asked.argmax())
    return (Share(int(members[most]), 0.0, min(1.0, 2 * REQUESTS / asked[most])),) if asked[most] else ()


def _most_sequences(judge: Judge, server: Server) -> int:
    return judge.settings[server.kind].sequence_options()[-1]


def _reached(seen: Outcome) -> str:
    """Figures that limits are held to, by limit."""
    figures = {**seen.slo_s, **seen.real_slo_s}
    return ", ".join(f"{limit} = {1e3 * value:.0f} ms" for limit, value in figures.items())


def check_pinned_servers(problem: Problem, packer: Packer, count: int | None) -> None:
    """Refuse a pin to a server beyond those that there are.

    Raises
    ------
    InputError
        Names the adapter, the server and the last one that there is.
    """
    for adapter, servers in packer.pinned.items():
        if count is not None and max(servers) >= count:
            name = problem.adapters.name[adapter]
            raise InputError(
                f"pin: adapter {name!r} is to be on gpu-{max(servers)}, and the last of the {count} servers is "
                f"gpu-{count - 1}"
            )


def check_pins(problem: Problem, packer: Packer, least: int) -> None:
    """Refuse pins that alone are too much for a server.

    Raises
    ------
    InputError
        Says how many of the adapters the server carries.
    """
    alone = Packer(problem.judge, problem.load, tuple(packer.pinned), packer.pinned)
    servers = alone.servers(alone.deal(least, HALVES[0]), [0] * least)
    used = [j for j, each in enumerate(servers) if each.content]
    for j, config in zip(used, problem.judge.working([servers[j] for j in used], "pins"), strict=True):
        if config is None:
            names = [problem.adapters.name[a] for a, places in packer.pinned.items() if j in places]
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
