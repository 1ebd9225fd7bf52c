"""A calibration in one call: designed, measured, fitted, checked, each kept in files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from loratwin.bench import Listener
from loratwin.bench.listener import SILENT
from loratwin.calibrate.evidence import Evidence, gather, read_records
from loratwin.calibrate.loop.budget import check_times
from loratwin.calibrate.loop.checking import ServerCheck, check_server, learn_from_check
from loratwin.calibrate.loop.designed import design_in, measure_design
from loratwin.calibrate.loop.folder import CalibrationFolder
from loratwin.calibrate.loop.source import ServerSource, llm_shapes
from loratwin.calibrate.records_fit import RecordsFit, fit_records
from loratwin.engines.registry import recorded_arguments
from loratwin.engines.versions import UNTOLD
from loratwin.errors import InputError
from loratwin.llms import LlmShapes
from loratwin.perf import Profile, load_profile, save_profile


@dataclass(frozen=True)
class Calibration:
    """What a calibration came to.

    Parameters
    ----------
    folder
        Where its files are.
    fit
        The profile and how it came about.
    check
        None: it was not checked.
    learned
        The profile fitted once more, the check's runs included; None: that was not asked for.
    """

    folder: CalibrationFolder
    fit: RecordsFit
    check: ServerCheck | None = None
    learned: Profile | None = None

    @property
    def profile(self) -> Profile:
        """The best there is."""
        return self.learned or self.fit.profile


def calibrate_server(
    folder: str | Path,
    source: ServerSource,
    *,
    minutes: float = 7.0,
    llm: str | None = None,
    check: bool = True,
    window_s: float | None = None,
    repeats: int | None = None,
    learn: bool = False,
    listener: Listener = SILENT,
    fitted: Callable[[RecordsFit, Path], None] = lambda fit, path: None,
) -> Calibration:
    """Calibrate your own server: which runs, measured, fitted, checked; what `loratwin calibrate server` does.

    Interrupted and called again with the same folder, it goes on where it was.

    Parameters
    ----------
    folder
        For all files: the design, records, `profile.yaml`, predictions, `check.md` and `check.json`.
    source
        What servers are started with.
    minutes
        Of measuring for the design, starts of servers included; the check takes half as long.
    llm
        Name of the LLM, or the folder of its config.json; None: `--model` of the server's arguments.
    check
        Predict and measure workloads that the profile has not seen.
    window_s, repeats
        Seconds of each workload of the check, and its measurements; None: as many as fit into its time.
    learn
        Then fit once more, the check's runs included, to `profile-learned.yaml`.
    listener
        Who is told how it goes on.
    fitted
        Called with the fit and its file before the check, which may take as long again.

    Returns
    -------
    Calibration

    Raises
    ------
    InputError, ServerError
        The LLM is not known, there are no adapters, the folder cannot be made, or a server does not start.
    DataError
        What was measured does not tell what adapters cost.
    """
    shapes, files = source.llm(llm), CalibrationFolder.made(folder)
    design = design_in(files, source, minutes, llm)
    measure_design(design, source, folder, shapes, listener=listener, minutes=minutes)
    fit = fit_records(gather(read_records(files.records)), shapes)
    save_profile(fit.profile, files.profile)
    fitted(fit, files.profile)
    if not check:
        return Calibration(files, fit)
    known = load_profile(str(files.profile))  # as `check` of the command line has it: what the file holds
    fitting_s, fitting = check_times(minutes, len(set(known.domain.max_loras)))
    checked = check_server(known, source, folder, window_s or fitting_s, repeats or fitting, listener)
    if not learn:
        return Calibration(files, fit, checked)
    learned, _ = save_learned(checked, files.profile, source, llm)
    return Calibration(files, fit, checked, learned)


def save_learned(
    check: ServerCheck, path: str | Path, source: ServerSource, llm: str | None = None
) -> tuple[Profile, Path]:
    """The profile fitted once more, the check's runs included, and its file beside the one that was checked.

    Parameters
    ----------
    check
        As `check_server` gives it.
    path
        File of the profile that was checked.
    source, llm
        Name the LLM; else it is the checked profile's.

    Raises
    ------
    DataError, InputError
        There are no records, or they are no evidence; the file cannot be written.
    """
    shapes = source.llm(llm) if llm or source.names_llm() else None
    learned = learn_from_check(check, shapes)
    return learned, save_profile(learned, learned_file(path))


def fit_folder(folder: str | Path, llm: str | None = None, start: Profile | None = None) -> RecordsFit:
    """Fit a profile to all records of runs in a folder; what `loratwin calibrate fit` does.

    Parameters
    ----------
    folder
        With records (.json, .parquet) in it, or in its folder `records`.
    llm
        Name of the LLM, or the folder of its config.json; None: as the records' server was given, else the start's.
    start
        Profile to start from where no engine steps were logged; None: an assumed one, if the GPU is known.

    Raises
    ------
    DataError
        There are no records, or they are no evidence.
    InputError
        The LLM is not known.
    """
    evidence = gather(read_records(records_in(folder)))
    return fit_records(evidence, _llm_of(evidence, llm, start), start=start)


def records_in(folder: str | Path) -> Path:
    """Where the records are: in the folder of that name inside, or in the folder itself."""
    inside = Path(folder) / "records"
    return inside if inside.is_dir() else Path(folder)


def holds_records(data: str | Path) -> bool:
    """Whether a folder is one of records of runs, rather than of measured tables.

    Raises
    ------
    InputError
        It is neither.
    """
    records = records_in(data)
    if any(records.glob("*.json")) or any(records.glob("*.parquet")):
        return True
    if not any(Path(data).glob("*.csv")):
        raise InputError(f"{data}: neither records of runs (.json, .parquet) nor measured tables (.csv) are there")
    return False


def _llm_of(evidence: Evidence, llm: str | None, start: Profile | None) -> LlmShapes:
    """The LLM that is named, or that the records' server was given, or the start's."""
    source = evidence.first.provenance
    named = llm or recorded_arguments(source).text("model")
    try:
        return llm_shapes(named, source.engine_version or UNTOLD)
    except InputError:
        if llm or start is None:
            raise
        return start.llm  # the server's --model may be a folder of another machine


def learned_file(path: str | Path) -> Path:
    """Where the profile goes that was fitted once more, beside the one that was checked."""
    return Path(path).with_name(Path(path).stem + "-learned.yaml")
