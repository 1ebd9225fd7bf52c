"""The check of a profile on its server: predicted, measured, scored, and learned from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from loratwin.bench import Listener
from loratwin.bench.listener import SILENT
from loratwin.calibrate.checks.check import Checked, predict_check, score_checks
from loratwin.calibrate.checks.learned import with_measured_errors
from loratwin.calibrate.checks.loads import REPEATS, WINDOW_S, Check, make_checks
from loratwin.calibrate.design import ServerDesign
from loratwin.calibrate.evidence import gather, read_records
from loratwin.calibrate.loop.folder import CalibrationFolder
from loratwin.calibrate.loop.measuring import PlannedRun, measure_runs
from loratwin.calibrate.loop.source import ServerSource
from loratwin.calibrate.loop.text import as_json, as_markdown
from loratwin.calibrate.records_fit import fit_records
from loratwin.errors import InputError
from loratwin.llms import LlmShapes
from loratwin.perf import Profile
from loratwin.records import Run, load_run, write_atomically


def checks_for(profile: Profile, folder: CalibrationFolder, source: ServerSource, window_s: float) -> list[Check]:
    """The check's workloads, for the fewest and the most slots that were calibrated; at a URL, for those it has."""
    runs = read_records(folder.records) if folder.records.is_dir() and any(folder.records.iterdir()) else {}
    known = next(iter(runs.values())).config if runs else source.config()
    adapters = source.adapters()
    rank = min((run.config.max_lora_rank for run in runs.values()), default=known.max_lora_rank)
    slots = set(profile.domain.max_loras) if source.url is None else {_slots_at_url(source, runs)}
    return make_checks(profile, known.replace(max_lora_rank=rank), sorted(slots), adapters, window_s)


def _slots_at_url(source: ServerSource, runs: Mapping[str, Run]) -> int:
    """Slots of the server at the URL: as told, else those of all records.

    Raises
    ------
    InputError
        The records are of several.
    """
    slots, _ = source.slots_and_rank()
    known = {run.config.max_loras for run in runs.values()} if slots is None else {slots}
    if len(known) != 1:
        raise InputError(f'{source.url}: does not tell its slots; give them: --server-args "--max-loras N"')
    return known.pop()


@dataclass(frozen=True)
class ServerCheck:
    """A profile, checked on its server.

    Parameters
    ----------
    folder
        Where its files are.
    profile
        Which was checked.
    checked
        Predicted and measured figures, verdicts on starvation.
    measured
        By name of the check: the runs, one for each repetition.
    """

    folder: CalibrationFolder
    profile: Profile
    checked: Checked
    measured: Mapping[str, Sequence[Run]]


def check_server(
    profile: Profile,
    source: ServerSource,
    folder: str | Path,
    window_s: float = WINDOW_S,
    repeats: int = REPEATS,
    listener: Listener = SILENT,
) -> ServerCheck:
    """Predict workloads that the profile has not seen, then measure them; what `loratwin calibrate check` does.

    Predictions are on file before the first server starts. Records that are there are not measured again.

    Parameters
    ----------
    profile
        To be checked.
    source
        Where servers come from; at a URL its slots alone are checked.
    folder
        Of the calibration: predictions and records go to `checks` in it. Its records of the design, if any, say what
        the servers are like.
    window_s
        Seconds of each workload.
    repeats
        Measurements of each workload: two show the machine's noise.
    listener
        Who is told how it goes on.

    Raises
    ------
    InputError
        Workloads of another check are in the folder; or as `measure_runs`.
    """
    files = CalibrationFolder.made(folder)
    checks = checks_for(profile, files, source, window_s)
    for check in checks:
        _refuse_another(check, files, repeats)
    predictions = [predict_check(check, profile) for check in checks]
    text = json.dumps([asdict(prediction) for prediction in predictions], indent=1, allow_nan=False)
    write_atomically(files.checks / "predictions.json", text + "\n")
    measured: dict[str, list[Run]] = {check.name: [] for check in checks}
    for slots in sorted({check.config.max_loras for check in checks}):
        at_once = [check for check in checks if check.config.max_loras == slots]
        _measure_checks(at_once, source, files, repeats, measured, listener)
    checked = score_checks(predictions, measured, profile)
    write_atomically(files.path / "check.json", as_json(checked))
    write_atomically(files.path / "check.md", as_markdown(checked))
    return ServerCheck(files, profile, checked, measured)


def _check_record(folder: CalibrationFolder, check: Check, repetition: int) -> Path:
    return folder.checks / f"{check.name}-{repetition}.json"


def _refuse_another(check: Check, folder: CalibrationFolder, repeats: int) -> None:
    """A record that is there counts as measured: it must be of this workload, not of another profile's or window's."""
    for path in (_check_record(folder, check, i) for i in range(1, repeats + 1)):
        known = load_run(path).provenance.workload_hash if path.exists() else None
        if known not in (None, check.workload.digest):
            raise InputError(
                f"{path} was measured with another workload than this check's (another profile, window or adapters): "
                f"check in another folder (-o), or remove {folder.checks}"
            )


def _measure_checks(
    checks: Sequence[Check],
    source: ServerSource,
    folder: CalibrationFolder,
    repeats: int,
    measured: Mapping[str, list[Run]],
    listener: Listener,
) -> None:
    """All repetitions on one start of the server; the repetitions of a workload lie apart in time."""
    config = checks[0].config
    server = ServerDesign(
        name="check", max_loras=config.max_loras, max_cpu_loras=config.max_cpu_loras or config.max_loras,
        max_lora_rank=config.max_lora_rank, runs=(),
    )  # fmt: skip
    planned = [
        PlannedRun(_check_record(folder, check, i), check.workload, about=f"repetition {i} of {repeats}")
        for i in range(1, repeats + 1)
        for check in checks
    ]

    def keep(path: Path, run: Run) -> None:
        measured[path.stem.rpartition("-")[0]].append(run)

    measure_runs(
        source, server.arguments(source.engine), planned, folder.logs(f"check-{config.max_loras}"), keep, listener
    )


def learn_from_check(check: ServerCheck, llm: LlmShapes | None = None) -> Profile:
    """The profile fitted once more, the check's runs among the evidence, with the errors that the check showed.

    Where no steps were logged, the fit starts from the checked profile.

    Parameters
    ----------
    check
        As `check_server` gives it.
    llm
        None: the checked profile's.

    Raises
    ------
    DataError
        There are no records in the folder, or they are no evidence.
    """
    more = {f"check-{name}-{i}": run for name, runs in check.measured.items() for i, run in enumerate(runs, start=1)}
    evidence = gather({**read_records(check.folder.records), **more})
    fitted = fit_records(evidence, llm or check.profile.llm, start=check.profile)
    return with_measured_errors(fitted.profile, check.checked)
