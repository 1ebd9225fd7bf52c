"""Simulate a design: shard by shard, on several cores, again from where it stopped."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path

from loratwin.errors import DataError, InputError, UnknownNameError
from loratwin.learn.cases.case import Case
from loratwin.learn.cases.search import SEARCHES, SimulatedHour, explore
from loratwin.learn.cases.shards import (
    Manifest,
    is_complete,
    read_manifest,
    read_shard,
    shard_path,
    write_manifest,
    write_shard,
)
from loratwin.perf import load_profile
from loratwin.simulate.workers import Workers


@dataclass(frozen=True)
class Generated:
    """What a generation did."""

    num_shards: int
    num_new: int  # the others were there
    num_runs: int  # of the twin, in the new shards; servers that do not start are none


@dataclass(frozen=True)
class _WriteShard:
    """Simulate and write one shard; what goes to other processes. Returns the runs of the twin."""

    folder: Path
    manifest: Manifest

    def __call__(self, number: int) -> int:
        cases = self.manifest.shard_cases(number)
        rows = [self._explore(case) for case in cases]
        write_shard(self.folder, self.manifest, number, rows)
        return sum(row.kv_tokens > 0 for of_case in rows for row in of_case)

    def _explore(self, case: Case) -> list[SimulatedHour]:
        return explore(case, load_profile(case.profile), self.manifest.search, self.manifest.seed)


def generate(
    cases: Sequence[Case],
    folder: Path,
    search: str = "edge",
    seed: int = 0,
    processes: int = 1,
    progress: Callable[[int, int], None] = lambda done, of: None,
    executor: Executor | None = None,
) -> Generated:
    """Simulate all cases into a folder; shards that are there and whole are kept.

    Parameters
    ----------
    cases
        Workloads, of `design`.
    folder
        For the shards; it is made where it is not there.
    search
        Which servers are simulated for each: `edge`, `slots` or `grid`.
    seed
        Of the draws.
    processes
        Cores to use; the result does not depend on it.
    progress
        Told how many shards are done, and how many there will be.
    executor
        Where shards are simulated instead of processes here, as on a cluster that sees the same folder.

    Raises
    ------
    InputError
        No such search, no cases, or the folder holds something else or cannot be written.
    """
    if search not in SEARCHES:
        raise UnknownNameError("search", search, SEARCHES)
    if not cases:
        raise InputError("the design has no cases; at least one is needed")
    profiles = {name: load_profile(name).digest for name in sorted({case.profile for case in cases})}
    manifest = Manifest(search, seed, profiles, tuple(cases))
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    write_manifest(folder, manifest)
    missing = [number for number in range(manifest.num_shards) if not is_complete(folder, manifest, number)]
    kept = manifest.num_shards - len(missing)
    progress(kept, manifest.num_shards)
    with Workers(_WriteShard(folder.resolve(), manifest), processes, executor) as workers:
        runs = workers.map(missing, lambda done: progress(kept + done, manifest.num_shards))
    return Generated(manifest.num_shards, len(missing), sum(runs))


def generated_text(done: Generated, folder: str | Path) -> str:
    """What a generation did, in a line."""
    new = f"{done.num_new} new shard{'' if done.num_new == 1 else 's'}"
    return f"{done.num_runs} runs of the twin in {new}, {done.num_shards} in {folder}"


@dataclass(frozen=True)
class Explored:
    """A case and what was simulated for it."""

    case: Case
    rows: tuple[SimulatedHour, ...]


def load_shards(folders: Sequence[str | Path], partly: bool = False, profile: str | None = None) -> list[Explored]:
    """Everything in some folders, in the order of their designs.

    Parameters
    ----------
    folders
        That `generate` made.
    partly
        Take what is there; otherwise a missing shard is an error.
    profile
        Only the workloads of this profile, by name; None: all.

    Raises
    ------
    InputError, DataError
        A folder is not one of shards; a shard is missing, damaged or of another design.
    UnknownNameError
        No workload is of this profile.
    """
    explored: list[Explored] = []
    for folder in map(Path, folders):
        manifest = read_manifest(folder)
        for number in range(manifest.num_shards):
            path = shard_path(folder, number)
            if not path.exists():
                if partly:
                    continue
                raise DataError(f"{path} is missing: `loratwin learn generate` was not finished")
            rows = read_shard(folder, manifest, number)
            explored += [
                Explored(case, tuple(of_case)) for case, of_case in zip(manifest.shard_cases(number), rows, strict=True)
            ]
    if not explored:
        raise DataError(f"{', '.join(map(str, folders))}: no shard yet; run `loratwin learn generate`")
    return _of_profile(explored, profile)


def _of_profile(explored: list[Explored], profile: str | None) -> list[Explored]:
    if profile is None:
        return explored
    kept = [one for one in explored if one.case.profile == profile]
    if not kept:
        raise UnknownNameError("profile in the shards", profile, {one.case.profile for one in explored})
    return kept
