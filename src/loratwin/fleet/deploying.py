"""A placement into a folder: what starts its servers, what watches them, and what to measure them with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from loratwin.errors import InputError
from loratwin.fleet.deployment import check_target, checked, deployment, save_deployment
from loratwin.fleet.expected import Expected, expected_figures
from loratwin.fleet.files import save_placement
from loratwin.fleet.placement import Placement, Server
from loratwin.fleet.targets import Documents
from loratwin.fleet.watching import watching
from loratwin.perf import Profile
from loratwin.plan import Plan
from loratwin.plan.question import HEADROOM, SEEDS
from loratwin.plan.search import Progress
from loratwin.workload import BASE, WorkloadSpec, draw, part_of, save_spec

__all__ = ["check_target", "deploy", "deploy_plan", "placement_of"]

BENCH = "bench"
"""Folder of what `loratwin bench` takes."""


def deploy(
    placement: Placement,
    target: str,
    folder: str | Path,
    workload: WorkloadSpec | None = None,
    *,
    tag: str | None = None,
    headroom: float = HEADROOM,
    seeds: Sequence[int] = SEEDS,
    profiles: Mapping[str, Profile] | None = None,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """Write the files of a target, checked by their schemas; with a workload also alert rules and what `bench` takes.

    Parameters
    ----------
    target
        One of `targets.TARGETS`.
    workload
        What is served: the twin says what its servers should show (`watch/`), and `bench/` holds it with the placement.
    tag
        Version of the images; None: that of the engine that was planned.
    headroom, seeds
        For what the servers should show: at most with all rates higher by this part, of so many draws.
    profiles, processes, progress
        As of `expected_figures`.

    Returns
    -------
    The files, those that start servers first.

    Raises
    ------
    InputError
        A server cannot be deployed so, or does not keep up; the folder cannot be written.
    """
    files = deployment(placement, target, tag, profiles)
    if workload is None:
        return save_deployment(files, folder)
    drawn = [draw(workload, seed) for seed in seeds]
    expected = expected_figures(placement, drawn, headroom, profiles=profiles, processes=processes, progress=progress)
    files |= _watch(target, expected, headroom)
    return [*save_deployment(files, folder), *_bench(placement, workload, Path(folder))]


def deploy_plan(
    plan: Plan,
    workload: WorkloadSpec,
    target: str,
    folder: str | Path,
    *,
    processes: int = 1,
    progress: Progress | None = None,
) -> list[Path]:
    """The same of a plan of one GPU: a placement of one server, with the adapters that it serves.

    Where it does not serve all of them, nothing is written for `bench`: the workload asks for the others, too.

    Raises
    ------
    InputError
        Nothing works; or as `deploy`.
    """
    placement = placement_of(plan)
    profiles = {plan.profile.name: plan.profile}
    files = deployment(placement, target, None, profiles)
    planned = workload if plan.hour is None else part_of(workload, plan.hour.start_s)
    drawn = [draw(planned, seed).take_adapters(plan.served) for seed in plan.seeds]
    expected = expected_figures(
        placement, drawn, plan.headroom, profiles=profiles, processes=processes, progress=progress
    )
    files |= _watch(target, expected, plan.headroom)
    paths = save_deployment(files, folder)
    return [*paths, *_bench(placement, planned, Path(folder))] if plan.serves_all else paths


def _watch(target: str, expected: Sequence[Expected], headroom: float) -> Documents:
    files = watching(target, expected, headroom)
    for name, documents in files.items():
        checked({name: documents}, Path(name).stem)
    return files


def _bench(placement: Placement, workload: WorkloadSpec, folder: Path) -> list[Path]:
    target = folder / BENCH
    target.mkdir(exist_ok=True)
    return [
        save_spec(workload, target / "workload.yaml"),
        save_placement(placement, target / "placement.json"),
    ]


def placement_of(plan: Plan) -> Placement:
    """The server of a plan of one GPU, with the adapters that it serves, and traffic without adapter.

    Raises
    ------
    InputError
        The plan has no configuration that works.
    """
    if plan.best is None:
        raise InputError("nothing works on this GPU, so that there is nothing to deploy")
    names = plan.served_names
    adapter = np.arange(BASE, len(names), dtype=np.int32)
    server = Server("gpu-0", plan.profile.name, plan.best.config)
    return Placement((server,), names, adapter, np.zeros_like(adapter), np.ones(len(adapter)))
