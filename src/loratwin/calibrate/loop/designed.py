"""The runs of a design: which there are, measured on its servers, and what is still uncertain after each."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loratwin.bench import Listener
from loratwin.bench.listener import SILENT
from loratwin.calibrate.design import Design, ServerDesign, dump_design, load_design, make_design
from loratwin.calibrate.evidence import gather
from loratwin.calibrate.loop.budget import Budget
from loratwin.calibrate.loop.folder import CalibrationFolder
from loratwin.calibrate.loop.measuring import PlannedRun, measure_runs
from loratwin.calibrate.loop.source import ServerSource
from loratwin.calibrate.loop.text import progress_line
from loratwin.calibrate.records_fit import fit_records
from loratwin.errors import DataError, InputError
from loratwin.llms import LlmShapes
from loratwin.perf import Profile
from loratwin.records import Run, write_atomically


def design_for(source: ServerSource, minutes: float = 7.0, llm: str | None = None) -> Design:
    """The design of a server with these arguments and adapters; what `loratwin calibrate design` does.

    Parameters
    ----------
    source
        What servers are started with.
    minutes
        To measure in, starts of servers included.
    llm
        Name of the LLM, or the folder of its config.json; None: `--model` of the arguments.

    Raises
    ------
    InputError
        There are no adapters, the LLM is not known, or the minutes are too few.
    """
    config, adapters = source.config(), source.adapters()
    longest = config.max_model_len or source.llm(llm).max_model_len
    ranks = sorted(set(adapters.rank.tolist()))
    return make_design(len(adapters), ranks, config.max_num_seqs, longest, 60 * minutes)


def design_in(folder: CalibrationFolder, source: ServerSource, minutes: float = 7.0, llm: str | None = None) -> Design:
    """The design of the folder, made (`design_for`) if there is none."""
    if folder.design.exists():
        return load_design(folder.design)
    design = design_for(source, minutes, llm)
    write_atomically(folder.design, dump_design(design))
    return design


def measure_design(
    design: Design,
    source: ServerSource,
    folder: str | Path,
    llm: LlmShapes | None = None,
    start: Profile | None = None,
    server: str | None = None,
    listener: Listener = SILENT,
    minutes: float | None = None,
) -> None:
    """Measure all runs of a design; what `loratwin calibrate run` does. Runs whose record is there are left alone.

    After each run the listener is told what is still uncertain, if the LLM is known.

    Parameters
    ----------
    design
        As `design_for` or `load_design` give it.
    source
        Where servers come from; at a URL the runs of one server of the design are measured.
    folder
        Of the calibration: records go to `records` in it.
    llm
        Shapes of the server's LLM; None: nothing is said of what is uncertain.
    start
        For runs without a step log: see `fit_records`.
    server
        With a URL: which server of the design it is; None: as its slots and rank tell.
    listener
        Who is told how it goes on.
    minutes
        To measure in, from now on: repetitions that would take the time of servers that come later are left out, then
        what does not fit, and the listener is told; None: all is measured, however long it takes.

    Raises
    ------
    InputError, ServerError
        As `measure_runs`; or the design has no such server, or the minutes are not positive.
    """
    if minutes is not None and not minutes > 0:
        raise InputError(f"--minutes {minutes:g}: it must be a positive number")
    files = CalibrationFolder.made(folder)
    seen: dict[str, Run] = {}
    chosen = design.servers if source.url is None else (server_at_url(design, source, server),)
    if source.url is not None:
        listener.line(_at_url(chosen[0], source))

    def look(path: Path, run: Run) -> None:
        seen[path.stem] = run
        if source.url is not None and len(seen) == 1:
            server_at_url(design, source, chosen[0].name)  # vLLM tells its slots after the first requests
        if llm is not None:
            listener.line(f"  {len(seen)} of {design.num_runs} runs; {_state(seen, llm, start)}")

    budget = None if minutes is None else Budget(60 * minutes)
    for i, one in enumerate(chosen):
        planned = _planned(one, design.passes, files, source)
        if budget is not None:
            budget.reserved_s = sum(_first_pass_s(later, budget, files, source) for later in chosen[i + 1 :])
        measure_runs(source, one.arguments(source.engine), planned, files.logs(one.name), look, listener, budget)
    for one in design.servers:
        if one not in chosen and not all(run.path.exists() for run in _planned(one, design.passes, files, source)):
            listener.line(_not_measured(one, source.engine))


def _first_pass_s(server: ServerDesign, budget: Budget, folder: CalibrationFolder, source: ServerSource) -> float:
    """What a server's runs, each once, still take."""
    left = [run for run in _planned(server, 1, folder, source) if not run.path.exists()]
    return budget.server_s([run.workload.window_s for run in left]) if left else 0.0


def server_at_url(design: Design, source: ServerSource, name: str | None) -> ServerDesign:
    """The server of the design that the one at the URL is: by name, else by slots and rank, else the first.

    Raises
    ------
    InputError
        The design has none of the name, or the server tells other slots than that one's.
    """
    names = ", ".join(server.name for server in design.servers)
    slots, rank = source.slots_and_rank()
    if name is not None:
        named = next((server for server in design.servers if server.name == name), None)
        if named is None:
            raise InputError(f"--server {name!r}: the design has no such server, but {names}")
        if slots not in (None, named.max_loras) or rank not in (None, named.max_lora_rank):
            is_ = _slots_words(slots, rank)
            raise InputError(f"--server {name} of the design has {_has(named)}, and {source.url} {is_}")
        return named
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


def _at_url(server: ServerDesign, source: ServerSource) -> str:
    runs = f"{len(server.runs)} runs"
    return f"{source.url} is measured as server {server.name!r} of the design ({_has(server)}): {runs}"


def _not_measured(server: ServerDesign, engine: str) -> str:
    runs = f"{len(server.runs)} runs of server {server.name!r} are not measured"
    words = " ".join(server.arguments(engine).words)
    return f"{runs}: start the server with {words}, and call again with --server {server.name}"


def _planned(server: ServerDesign, passes: int, folder: CalibrationFolder, source: ServerSource) -> list[PlannedRun]:
    """The runs of a server, pass after pass; other requests in each."""
    adapters, num = source.adapters(), len(server.runs)
    return [
        PlannedRun(
            folder.records / f"{server.name}-{run.name}{f'-{n + 1}' if n else ''}.json",
            run.workload(adapters, n * num + i),
            run.in_flight,
            about=run.tells,
            repeats=n > 0,
        )
        for n in range(passes)
        for i, run in enumerate(server.runs)
    ]


def _state(runs: Mapping[str, Run], llm: LlmShapes, start: Profile | None) -> str:
    try:
        return progress_line(fit_records(gather(runs), llm, draws=12, start=start))
    except (
        DataError,
        InputError,
    ) as error:  # what cannot be fitted yet, or of an engine that does not tell its version
        return str(error)
