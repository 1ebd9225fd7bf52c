"""Several workloads where a command takes one: the same question of each, into a folder, here or on a cluster."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loratwin.cli.options import SlurmPartition, check_json, show
from loratwin.cli.serve import note
from loratwin.errors import InputError
from loratwin.progress import staged_progress

if TYPE_CHECKING:
    from loratwin.perf import Profile
    from loratwin.simulate import Answers


@dataclass(frozen=True)
class Cluster:
    """Where to run."""

    on: Annotated[str, typer.Option(help="Where to run: local, slurm, or dask://HOST:PORT.")] = "local"
    partition: SlurmPartition = None
    minutes: Annotated[int, typer.Option(min=1, help="slurm: time limit of each job.")] = 60


def are_several(given: Sequence[str], on: str) -> bool:
    """Whether results go into a folder: more than one workload, a folder of them, or work for a cluster."""
    return len(given) > 1 or Path(given[0]).is_dir() or on != "local"


def answer(
    many: Callable[..., Answers],
    question: Any,
    given: Sequence[str],
    adapters: tuple[Profile, Path | None, int | None],
    output: Path | None,
    json: Path | None,
    at: Cluster,
    processes: int,
    **not_here: Any,
) -> None:
    """Ask, and print the table.

    Parameters
    ----------
    many
        `sweep_many` or `plan_many`.
    adapters
        What `checked_workloads` takes beside the workloads.
    not_here
        Options, by their names, that make no sense with several.

    Raises
    ------
    InputError
        One of these is given, or no folder for the results.
    """
    from loratwin.experiments import beside_here
    from loratwin.report.many_table import answers_data, answers_text
    from loratwin.simulate import checked_workloads

    for name, value in not_here.items():
        if value:
            raise InputError(f"--{name.replace('_', '-')} goes with one workload; here are several")
    if output is None or output.suffix:
        raise InputError("several workloads, or a cluster: -o FOLDER says where the results go; the same again goes on")
    check_json(json, (output,), given)
    workloads, remarks = checked_workloads(given, *adapters)
    note(remarks)
    with (
        staged_progress(compiles=at.on == "local") as progress,
        beside_here(at.on, output, "loratwin", at.partition, at.minutes) as executor,
    ):
        told = partial(progress, "workloads")
        answers = many(
            workloads, question, output, processes=processes, executor=executor,
            progress=lambda done: told(done, len(workloads)),
        )  # fmt: skip
    show(json, lambda: answers_text(answers), lambda: answers_data(answers))
