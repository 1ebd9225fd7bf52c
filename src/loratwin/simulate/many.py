"""One question asked of many workloads: on this machine or on a cluster, kept in a folder, again from where it stopped.

The folder holds `question.json` (what is asked), `results/NAME.json` for each workload, and in the end `table.csv`. A
result is written whole or not at all, by whoever finds it, and depends on nothing but the question and its workload.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from loratwin.errors import DataError, InputError, LoratwinError, SeveralErrors
from loratwin.perf import Profile
from loratwin.records import write_atomically
from loratwin.records.rows import columns_of, rows_csv
from loratwin.simulate.lines import on_line
from loratwin.simulate.sweep import server_configs, sweep
from loratwin.simulate.workers import Progress, Workers, silent
from loratwin.units import with_units
from loratwin.version import __version__
from loratwin.workload import WorkloadSpec, draw

QUESTION, RESULTS, TABLE = "question.json", "results", "table.csv"

Rows = list[dict[str, Any]]


class Question(Protocol):
    """What is asked of each workload; goes to other processes and machines."""

    @property
    def asked(self) -> dict[str, Any]:
        """Everything that results depend on beside the workload, as plain data."""

    def __call__(self, name: str, spec: WorkloadSpec) -> dict[str, Any]:
        """The result, as plain data."""

    def rows(self, result: Mapping[str, Any]) -> Rows:
        """Its rows of the table, without the workload's name."""


@dataclass(frozen=True)
class Answers:
    """What was found for all workloads.

    Parameters
    ----------
    folder
        Where it lies.
    num_new
        Workloads that were not there before.
    results
        By workload, in the order given: what `--json` writes; of one that could not be answered, its `error`.
    rows
        Of the table.
    """

    folder: Path
    num_new: int
    results: dict[str, dict[str, Any]]
    rows: Rows

    @property
    def errors(self) -> dict[str, str]:
        """Why workloads have no result."""
        return {name: result["error"] for name, result in self.results.items() if "error" in result}


def answer_all(
    workloads: Mapping[str, WorkloadSpec],
    question: Question,
    folder: str | Path,
    *,
    seed: int = 0,
    processes: int = 1,
    progress: Progress = silent,
    executor: Executor | None = None,
) -> Answers:
    """Ask a question of many workloads into a folder; results that are there are kept.

    Parameters
    ----------
    workloads
        By name, as of `load_specs`.
    seed
        Of the draw that tells whether a workload is the one that a result is of.
    processes
        Cores to use; no result depends on it.
    progress
        Is told how many workloads are done.
    executor
        Where they are simulated instead of processes here, as on a cluster that sees the same folder.

    Raises
    ------
    InputError
        No workload, the folder holds something else or cannot be written.
    SeveralErrors
        What is wrong with each workload that cannot be drawn; nothing is written then.
        Or none of them could be answered, and why.
    DataError
        A result is missing, as the cluster does not see the folder.
    """
    if not workloads:
        raise InputError("no workloads; at least one is needed")
    folder, marks = Path(folder), _marks(workloads, seed)
    _claim(folder, question)
    missing = [name for name in workloads if _kept(folder, name, marks[name]) is None]
    kept = len(workloads) - len(missing)
    progress(kept)
    tasks = [_WorkloadTask(name, workloads[name], marks[name]) for name in missing]
    with Workers(_Answering(folder.resolve(), question), processes, executor) as workers:
        workers.map(tasks, lambda done: progress(kept + done))
    answers = _collected(folder, question, marks, len(missing))
    if len(answers.errors) == len(workloads):
        raise SeveralErrors(InputError(f"{name}: {error}") for name, error in answers.errors.items())
    return answers


@dataclass(frozen=True)
class _WorkloadTask:
    """A workload; travels alone."""

    name: str
    spec: WorkloadSpec
    mark: str


@dataclass(frozen=True)
class _Answering:
    """What all tasks have in common."""

    folder: Path
    question: Question

    def __call__(self, task: _WorkloadTask) -> None:
        try:
            result = self.question(task.name, task.spec)
        except LoratwinError as error:  # of this workload; the others have theirs
            result = {"workload": task.name, "error": " ".join(str(error).split())}
        document = json.dumps({"of": task.mark, "result": with_units(result)}, indent=1, allow_nan=False)
        write_atomically(_place(self.folder, task.name), document + "\n")


def _place(folder: Path, name: str) -> Path:
    return folder / RESULTS / f"{name}.json"


def _marks(workloads: Mapping[str, WorkloadSpec], seed: int) -> dict[str, str]:
    """Of each workload what no other has: what its file says, and the requests that it is drawn to, as of a trace."""
    marks: dict[str, str] = {}
    errors: list[LoratwinError] = []
    for name, spec in workloads.items():
        try:
            said = f"{spec.model_dump_json()} {draw(spec, seed).digest}"
        except LoratwinError as error:
            errors.append(InputError(f"{name}: {error}"))
            continue
        marks[name] = hashlib.sha256(said.encode()).hexdigest()[:16]
    if errors:
        raise SeveralErrors(errors)
    return marks


def _claim(folder: Path, question: Question) -> None:
    """Make the folder, or see that it is of this question."""
    path, asked = (
        folder / QUESTION,
        json.dumps({"loratwin": __version__, **question.asked}, indent=1, default=str) + "\n",
    )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if path.exists():
            if path.read_text(encoding="utf-8") != asked:
                raise InputError(f"{folder} holds answers to another question ({path}): take another folder with -o")
        elif others := sorted(entry.name for entry in folder.iterdir()):
            raise InputError(f"{folder}: holds {others[0]} and no {QUESTION}; give a new or an empty folder")
        write_atomically(path, asked)
        (folder / RESULTS).mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None


def _kept(folder: Path, name: str, mark: str) -> dict[str, Any] | None:
    """What is there already, whole and of this very workload."""
    try:
        document = json.loads(_place(folder, name).read_text(encoding="utf-8"))
        result: dict[str, Any] = document["result"]
        return result if document["of"] == mark else None
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _collected(folder: Path, question: Question, marks: Mapping[str, str], num_new: int) -> Answers:
    results: dict[str, dict[str, Any]] = {}
    for name, mark in marks.items():
        if (result := _kept(folder, name, mark)) is None:
            raise DataError(f"{_place(folder, name)} is missing: all machines must see the same folder")
        results[name] = result
    rows = [{"workload": name, **row} for name, result in results.items() for row in _rows(question, result)]
    write_atomically(folder / TABLE, rows_csv(columns_of(rows), rows))
    return Answers(folder, num_new, results, rows)


def _rows(question: Question, result: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    return [{"error": result["error"]}] if "error" in result else question.rows(result)


@dataclass(frozen=True)
class SweepQuestion:
    """What `sweep` says of each workload; the question of `loratwin simulate` over several.

    Parameters
    ----------
    profile
        Coefficients of the GPU, engine and LLM.
    max_loras, options
        Of the servers, as `server_configs` takes them.
    seeds, slo, intervals
        As for `sweep`.
    adapters, series
        As for `Sweep.as_json`.
    as_line
        Servers are those of a line that a user gave (`on_line`).
    """

    profile: Profile
    max_loras: Sequence[int] | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
    seeds: Sequence[int] = (0,)
    slo: str | None = None
    intervals: bool = False
    adapters: bool = False
    series: bool = False
    as_line: bool = False

    @property
    def asked(self) -> dict[str, Any]:
        """What is simulated, but for the workload."""
        names = ("max_loras", "options", "seeds", "slo", "intervals", "adapters", "series", "as_line")
        return {"simulate": self.profile.name, "profile_hash": self.profile.digest} | {
            name: getattr(self, name) for name in names
        }

    def __call__(self, name: str, spec: WorkloadSpec) -> dict[str, Any]:
        """As `Sweep.as_json`."""
        configs = server_configs(spec, self.profile, self.max_loras, **self.options)
        done = sweep(
            spec, self.profile, [on_line(config) for config in configs] if self.as_line else configs,
            seeds=self.seeds, slo=self.slo, intervals=self.intervals,
            keep="first" if self.adapters or self.series else "none", with_steps=self.series, name=name,
        )  # fmt: skip
        return done.as_json(self.adapters, self.series)

    def rows(self, result: Mapping[str, Any]) -> Rows:
        """One for each configuration."""
        return [_sweep_row(result, column) for column in result["results"]]


def _sweep_row(result: Mapping[str, Any], column: Mapping[str, Any]) -> dict[str, Any]:
    config = {name: column["config"][name] for name in ("max_loras", "max_num_seqs")}
    row = {"adapters": result["served_adapters"], **config, "kv_tokens": column["kv_tokens"]}
    if not column["starts"]:
        return {**row, "starts": False, "error": column["reason"]}
    met = (
        {"slo_met": all(limit["met"] for limit in column["slo"]), "chance": column["chance"]} if "slo" in column else {}
    )
    return {**row, "starts": True, "starved_runs": column["starved_runs"], **met, **means(column["figures"])}


def means(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Figures without their intervals."""
    return {name: value["mean"] for name, value in figures.items()}


def sweep_many(
    workloads: Mapping[str, WorkloadSpec], question: SweepQuestion, folder: str | Path, **where: Any
) -> Answers:
    """Simulate many workloads on the same servers; what `loratwin simulate` does with several.

    Parameters
    ----------
    workloads, folder, where
        As for `answer_all`.

    Raises
    ------
    InputError, SeveralErrors, DataError
        As `answer_all`.
    """
    return answer_all(workloads, question, folder, seed=question.seeds[0], **where)
