"""The loop of a calibration in a folder: what is measured, fitted, predicted and checked, each kept in files.

FOLDER/design.yaml, records/, profile.yaml, checks/ (predictions.json first, then a record for each repetition),
check.md and check.json. What is there is not measured again.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loratwin.calibrate.checks.check import Checked, predict, score
from loratwin.calibrate.checks.learned import with_measured_errors
from loratwin.calibrate.checks.loads import Check, make_checks
from loratwin.calibrate.design import Design, ServerDesign, dump_design, load_design, make_design
from loratwin.calibrate.evidence import gather, read_records
from loratwin.calibrate.records_fit import RecordsFit, fit_records
from loratwin.cli.calibration.output import as_json, as_markdown, progress_line
from loratwin.cli.calibration.servers import Job, Source, measure_jobs
from loratwin.errors import DataError, InputError
from loratwin.launch.arguments import as_arguments, option
from loratwin.launch.config import engine_config
from loratwin.launch.engines import engine
from loratwin.perf import LlmShapes, Profile, dump_profile
from loratwin.perf.llms import find_llm
from loratwin.records import EngineConfig, Run, load_run, write_atomically

NEWEST = "vllm-0.32.0"
"""Taken to be the engine as long as no server has told its version."""


@dataclass(frozen=True)
class Folder:
    """Where a calibration keeps its files."""

    path: Path

    @property
    def records(self) -> Path:
        """Runs of the design."""
        return self.path / "records"

    @property
    def checks(self) -> Path:
        """Predictions, and runs of the check."""
        return self.path / "checks"

    def make(self) -> None:
        """Make it, and what is in it.

        Raises
        ------
        InputError
            It cannot be made.
        """
        try:
            for each in (self.records, self.checks):
                each.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot make the folder {self.path}: {error.strerror or error}") from None


def given_config(args: str) -> EngineConfig:
    """What a server with these arguments is limited to."""
    return engine_config(engine("vllm"), (*as_arguments(args), "--enable-lora"))


def given_llm(args: str, llm: str | None, engine_version: str = NEWEST) -> LlmShapes:
    """Shapes of the LLM that is named, or that the server's arguments name.

    Parameters
    ----------
    engine_version
        Which layers get LoRA buffers depends on it; it matters for the memory of a GPU only.

    Raises
    ------
    InputError
        Neither names one, or it is not known.
    """
    name = llm or option(as_arguments(args), "--model")
    if not name:
        raise InputError("which LLM? Name it, or give the folder of its config.json: --llm")
    return find_llm(name, engine_version)


def design_for(source: Source, minutes: float, llm: str | None) -> Design:
    """The design of a server with these arguments and adapters."""
    config, adapters = given_config(source.args), source.adapters()
    longest = config.max_model_len or given_llm(source.args, llm).max_model_len
    ranks = sorted(set(adapters.rank.tolist()))
    return make_design(len(adapters), ranks, config.max_num_seqs, longest, 60 * minutes)


def design_in(folder: Folder, source: Source, minutes: float, llm: str | None) -> Design:
    """The design of the folder, made if there is none."""
    path = folder.path / "design.yaml"
    if path.exists():
        return load_design(path)
    design = design_for(source, minutes, llm)
    write_atomically(path, dump_design(design))
    return design


def run_design(
    design: Design,
    source: Source,
    folder: Folder,
    llm: LlmShapes | None = None,
    start: Profile | None = None,
    server: str | None = None,
) -> None:
    """Measure all runs of a design; after each, say what is still uncertain (if the LLM is known).

    Parameters
    ----------
    start
        For runs without a step log: see `fit_records`.
    server
        With a URL: which server of the design it is; None: as its slots and rank tell.

    Raises
    ------
    InputError, ServerError
        As `measure_jobs`; or the design has no such server.
    """
    seen: dict[str, Run] = {}
    chosen = design.servers if source.url is None else (server_at_url(design, source, server),)
    if source.url is not None:
        print(_at_url(chosen[0], source), file=sys.stderr)

    def look(path: Path, run: Run) -> None:
        seen[path.stem] = run
        if source.url is not None and len(seen) == 1:
            server_at_url(design, source, chosen[0].name)  # vLLM tells its slots after the first requests
        if llm is not None:
            print(f"  {len(seen)} of {design.num_runs} runs; {_state(seen, llm, start)}", file=sys.stderr)

    for each in chosen:
        jobs = _jobs(each, design.passes, folder, source)
        measure_jobs(source, each.arguments, jobs, folder.path / f"logs-{each.name}", look)
    for each in design.servers:
        if each not in chosen and not all(job.path.exists() for job in _jobs(each, design.passes, folder, source)):
            print(_not_measured(each), file=sys.stderr)


def server_at_url(design: Design, source: Source, name: str | None) -> ServerDesign:
    """The server of the design that the one at the URL is: by name, else by slots and rank, else the first.

    Raises
    ------
    InputError
        The design has none of the name, or the server tells other slots than that one's.
    """
    names = ", ".join(server.name for server in design.servers)
    slots, rank = source.slots_and_rank()
    if name is not None:
        found = next((server for server in design.servers if server.name == name), None)
        if found is None:
            raise InputError(f"--server {name!r}: the design has no such server, but {names}")
        if slots not in (None, found.max_loras) or rank not in (None, found.max_lora_rank):
            is_ = _slots_words(slots, rank)
            raise InputError(f"--server {name} of the design has {_has(found)}, and {source.url} {is_}")
        return found
    same = [s for s in design.servers if slots in (None, s.max_loras) and rank in (None, s.max_lora_rank)]
    if not same:
        has = "; ".join(f"{server.name} {_has(server)}" for server in design.servers)
        raise InputError(f"{source.url} has {_slots_words(slots, rank)}, and no server of the design has them ({has})")
    return same[0]


def _slots_words(slots: int | None, rank: int | None) -> str:
    words = [f"{slots} slots"] if slots is not None else []
    return " and ".join([*words, *([f"rank {rank}"] if rank is not None else [])])


def _has(server: ServerDesign) -> str:
    return _slots_words(server.max_loras, server.max_lora_rank)


def _at_url(server: ServerDesign, source: Source) -> str:
    runs = f"{len(server.runs)} runs"
    return f"{source.url} is measured as server {server.name!r} of the design ({_has(server)}): {runs}"


def _not_measured(server: ServerDesign) -> str:
    runs = f"{len(server.runs)} runs of server {server.name!r} are not measured"
    return f"{runs}: start the server with {' '.join(server.arguments)}, and call again with --server {server.name}"


def _jobs(server: ServerDesign, passes: int, folder: Folder, source: Source) -> list[Job]:
    """The runs of a server, pass after pass; other requests in each."""
    adapters, num = source.adapters(), len(server.runs)
    return [
        Job(
            folder.records / f"{server.name}-{run.name}{f'-{n + 1}' if n else ''}.json",
            run.workload(adapters, n * num + i),
            run.in_flight,
            about=run.tells,
        )
        for n in range(passes)
        for i, run in enumerate(server.runs)
    ]


def _state(runs: Mapping[str, Run], llm: LlmShapes, start: Profile | None) -> str:
    try:
        return progress_line(fit_records(gather(runs), llm, draws=12, start=start))
    except DataError as error:
        return str(error)


def fit_folder(
    folder: Path, llm: LlmShapes, beside: Mapping[str, Run] | None = None, start: Profile | None = None
) -> RecordsFit:
    """Fit the records of a folder, and others beside them."""
    return fit_records(gather({**read_records(folder), **(beside or {})}), llm, start=start)


def checks_for(profile: Profile, folder: Folder, source: Source, window_s: float) -> list[Check]:
    """The check's workloads, for the fewest and the most slots that were calibrated; at a URL, for those it has."""
    runs = read_records(folder.records) if folder.records.is_dir() and any(folder.records.iterdir()) else {}
    known = next(iter(runs.values())).config if runs else given_config(source.args)
    adapters = source.adapters()
    rank = min((run.config.max_lora_rank for run in runs.values()), default=known.max_lora_rank)
    slots = set(profile.domain.max_loras) if source.url is None else {_slots_at_url(source, runs)}
    return make_checks(profile, known.replace(max_lora_rank=rank), sorted(slots), adapters, window_s)


def _slots_at_url(source: Source, runs: Mapping[str, Run]) -> int:
    """Slots of the server at the URL: as told, else those of all records.

    Raises
    ------
    InputError
        The records are of several.
    """
    told, _ = source.slots_and_rank()
    known = {run.config.max_loras for run in runs.values()} if told is None else {told}
    if len(known) != 1:
        raise InputError(f'{source.url}: does not tell its slots; give them: --server-args "--max-loras N"')
    return known.pop()


def check_server(
    profile: Profile, source: Source, folder: Folder, window_s: float, repeats: int
) -> tuple[Checked, dict[str, list[Run]]]:
    """Predict, then measure; predictions are on file before the first server starts.

    Raises
    ------
    InputError
        Workloads of another check are in the folder; or as `measure_jobs`.
    """
    checks = checks_for(profile, folder, source, window_s)
    for check in checks:
        _refuse_another(check, folder, repeats)
    predictions = [predict(check, profile) for check in checks]
    text = json.dumps([asdict(each) for each in predictions], indent=1, allow_nan=False)
    write_atomically(folder.checks / "predictions.json", text + "\n")
    measured: dict[str, list[Run]] = {check.name: [] for check in checks}
    for slots in sorted({check.config.max_loras for check in checks}):
        _measure_checks([c for c in checks if c.config.max_loras == slots], source, folder, repeats, measured)
    checked = score(predictions, measured)
    write_atomically(folder.path / "check.json", as_json(checked))
    write_atomically(folder.path / "check.md", as_markdown(checked))
    return checked, measured


def _check_record(folder: Folder, check: Check, repetition: int) -> Path:
    return folder.checks / f"{check.name}-{repetition}.json"


def _refuse_another(check: Check, folder: Folder, repeats: int) -> None:
    """A record that is there counts as measured: it must be of this workload, not of another profile's or window's."""
    for path in (_check_record(folder, check, i) for i in range(1, repeats + 1)):
        known = load_run(path).provenance.workload_hash if path.exists() else None
        if known not in (None, check.workload.digest):
            raise InputError(
                f"{path} was measured with another workload than this check's (another profile, window or adapters): "
                f"check in another folder (-o), or remove {folder.checks}"
            )


def _measure_checks(
    checks: Sequence[Check], source: Source, folder: Folder, repeats: int, measured: dict[str, list[Run]]
) -> None:
    """All repetitions on one start of the server; the repetitions of a workload lie apart in time."""
    config = checks[0].config
    server = ServerDesign(
        name="check", max_loras=config.max_loras, max_cpu_loras=config.max_cpu_loras or config.max_loras,
        max_lora_rank=config.max_lora_rank, runs=(),
    )  # fmt: skip
    jobs = [
        Job(_check_record(folder, check, i), check.workload, about=f"repetition {i} of {repeats}")
        for i in range(1, repeats + 1)
        for check in checks
    ]
    logs = folder.path / f"logs-check-{config.max_loras}"
    measure_jobs(source, server.arguments, jobs, logs, lambda path, run: measured[path.stem[:-2]].append(run))


def learn(
    folder: Folder, llm: LlmShapes, checked: Checked, measured: Mapping[str, Sequence[Run]], start: Profile
) -> Profile:
    """The profile fitted once more, the check's runs among the evidence, with the errors that the check showed.

    Where no steps were logged, the fit starts from the checked profile.
    """
    beside = {f"check-{name}-{i}": run for name, runs in measured.items() for i, run in enumerate(runs, start=1)}
    return with_measured_errors(fit_folder(folder.records, llm, beside, start).profile, checked)


def save_profile(profile: Profile, path: Path) -> None:
    """Write a profile's file, whole or not at all."""
    write_atomically(path, dump_profile(profile))
