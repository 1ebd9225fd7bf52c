"""Fit a profile from a folder of measurements, and the same without one workload at a time (for honest errors)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from loratwin.calibrate.published.bootstrap import step_time_uncertainty
from loratwin.calibrate.published.frontend import fit_frontend
from loratwin.calibrate.published.memory_and_loading import fit_loading, fit_memory
from loratwin.calibrate.published.micro import MicroPoint, read_micro
from loratwin.calibrate.published.operating_point import Match, match
from loratwin.calibrate.published.queue_walk import telling, walk_error
from loratwin.calibrate.published.rows import table_rows
from loratwin.calibrate.published.serving import ServingRun, read_serving
from loratwin.calibrate.published.start import ENGINE, starting_profile
from loratwin.calibrate.published.step_time import fit_coefficients, fit_roofline
from loratwin.errors import DataError
from loratwin.llms import LlmShapes, find_llm
from loratwin.perf import Profile, Uncertainty
from loratwin.simulate.workers import Workers

MAX_RATE = 250.0
"""Requests/s beyond which a run is not fitted: its client could not keep up, and slower ones say the same."""

WALK_COSTS_S = (1e-7, 2e-7, 3e-7, 4e-7, 5e-7, 6e-7, 8e-7)
"""Candidates for the scheduler's cost per request passed over."""

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how much of it is done, and how much there is."""

SERVING_FILES = ("serving_validation.csv", "serving_optimum.csv")
COMMAND = "loratwin calibrate fit DATA"
SOURCE = "measurements published with arXiv 2508.08343 (Apache-2.0)"


def _quiet(_what: str, _done: int, _of: int) -> None:
    """No progress."""


@dataclass(frozen=True)
class TablesFit:
    """A fitted profile and the evidence behind it, from which folds are fitted again.

    Parameters
    ----------
    profile
        Without its uncertainty, which takes a while: `uncertainty`.
    start
        Of the last pass.
    matches
        Serving runs at their operating points.
    micro
        The micro measurements.
    """

    profile: Profile
    start: Profile
    matches: tuple[Match, ...]
    micro: tuple[MicroPoint, ...]

    @property
    def groups(self) -> list[str]:
        """The workloads (rates and ranks) that the serving runs belong to."""
        return sorted({m.run.group for m in self.matches})

    @property
    def notes(self) -> tuple[str, ...]:
        """What the evidence did not tell."""
        if telling([m.run for m in self.matches if m.usable]):
            return ()
        kept = self.profile.step_time.skipped_s
        return (
            f"the scheduler's cost per request passed over is not fitted ({kept:.1g} s is a round figure): "
            "no run waited for slots in a long queue",
        )

    def uncertainty(self) -> Uncertainty:
        """How uncertain the coefficients of the step time are (`intervals`)."""
        usable = [m for m in self.matches if m.usable]
        rows = table_rows(usable, self.micro, self.start.behaviour, self.start.step_time.graph_tokens)
        return step_time_uncertainty(rows, frozenset(m.run.group for m in usable), self.profile.step_time)

    def without(self, group: str) -> Profile:
        """The profile fitted again without the rows of one workload.

        The operating points of the others are kept; those of a second pass come from coefficients that had seen it.
        """
        rest = [m for m in self.matches if m.run.group != group]
        return _fit_rest(self.start, rest, self.micro)


def read_runs(folder: Path, model: str) -> list[ServingRun]:
    """Completed serving runs of an LLM, but for the fastest."""
    runs = [run for name in SERVING_FILES for run in read_serving(folder / name)]
    return [run for run in runs if run.model == model and run.measured and run.total_rate < MAX_RATE]


def fit_tables(
    folder: str | Path,
    llm: LlmShapes | str,
    processes: int = 2,
    passes: int = 2,
    progress: Progress = _quiet,
    only: Sequence[ServingRun] | None = None,
) -> TablesFit:
    """Fit a profile to published tables of measurements (docs/reference/calibrate.md): everything for one LLM.

    Memory and loading come from their own tables. Then each pass finds the operating point of every serving run
    (`operating_point`) and regresses the step time on them and on the micro measurements; a second pass starts from the
    coefficients of the first. The front end is fitted last.

    Parameters
    ----------
    folder
        With the tables: `serving_validation.csv`, `serving_optimum.csv`, `kv_capacity.csv`, `adapter_loading.csv`,
        `backbone_latency.csv`, `adapter_overhead.csv`.
    llm
        One of the measured LLMs: its shapes, or its name.
    processes
        That simulate at a time; the result does not depend on them.
    passes
        Times that operating points are looked for.
    progress
        Called with what is being done, how much of it is done, and how much there is.
    only
        The serving runs that are evidence, possibly none; None: all of the LLM. What chosen runs cannot tell stays as
        in `starting_profile`: without a run that has no queue the front end and the tokens generated, without a long
        queue the walk's cost.

    Returns
    -------
    TablesFit
        The profile, from which folds are fitted again.

    Raises
    ------
    InputError, DataError
        A table is missing or damaged, or has no run of the LLM (or none without a queue).
    """
    folder, llm = Path(folder), find_llm(llm, ENGINE) if isinstance(llm, str) else llm
    profile = starting_profile(llm)
    profile = profile.model_copy(
        update={"memory": fit_memory(folder, llm, profile.memory), "loading": fit_loading(folder, llm.name)}
    )
    runs, micro = read_runs(folder, llm.name) if only is None else only, tuple(read_micro(folder, llm.name))
    if only is None and not runs:
        raise DataError(f"{folder}: no completed serving run of {llm.name}")
    with _as_far_as_told(only is not None):
        share = {"generated_share": _share_of(llm.name, runs)}
        profile = profile.model_copy(update={"frontend": profile.frontend.model_copy(update=share)})
    for number in range(1, passes + 1):
        start = profile
        label = f"{llm.name}: operating points, pass {number} of {passes}"
        matches = tuple(match_all(runs, start, processes, partial(progress, label)))
        profile = _fit_rest(start, matches, micro, chosen=only is not None)
    return TablesFit(profile, start, matches, micro)


def _as_far_as_told(chosen: bool) -> AbstractContextManager[None, bool | None]:
    """Chosen runs may be too few to tell something; all runs of a folder may not."""
    return suppress(DataError) if chosen else nullcontext()


def _share_of(model: str, runs: Sequence[ServingRun]) -> float:
    shares = sorted(
        run.figure("output_tokens") / run.figure("completed") / run.output_tokens_mean
        for run in runs
        if run.figure("waiting_mean") < 1
    )
    if not shares:
        raise DataError(f"{model}: no run without a queue, from which to tell the tokens generated")
    return shares[len(shares) // 2]


def _fit_rest(start: Profile, matches: Sequence[Match], micro: Sequence[MicroPoint], chosen: bool = False) -> Profile:
    usable = [m for m in matches if m.usable]
    rows = table_rows(usable, micro, start.behaviour, start.step_time.graph_tokens)

    roofline = fit_roofline(rows, start.step_time)

    def with_walk(skipped_s: float) -> Profile:
        return start.model_copy(update={"step_time": fit_coefficients(rows, roofline, skipped_s)})

    runs = [m.run for m in usable]
    costs = WALK_COSTS_S if telling(runs) else (start.step_time.skipped_s,)
    fitted = with_walk(min(costs, key=lambda cost: walk_error(with_walk(cost), runs)))
    with _as_far_as_told(chosen):
        return fitted.model_copy(update={"frontend": fit_frontend(usable, start.frontend)})
    return fitted


def match_all(
    runs: Sequence[ServingRun], profile: Profile, processes: int, progress: Callable[[int, int], None]
) -> list[Match]:
    """Operating points of all runs; those of one workload are neighbours, so that it is drawn once."""
    ordered = sorted(runs, key=lambda run: (run.group, run.served_adapters))
    with Workers(partial(match, profile=profile), processes) as workers:
        return workers.map(ordered, lambda done: progress(done, len(ordered)))
