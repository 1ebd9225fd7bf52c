"""`loratwin calibrate`: profiles from measurements, step by step or in one go."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import (
    STDOUT,
    ApiKeyEnv,
    JsonFile,
    Processes,
    ServerCommand,
    StartTimeout,
    check_json,
    prints_json,
    show,
)
from loratwin.cli.serve import Serve
from loratwin.errors import InputError
from loratwin.lists import listed_names, numbers_in_turn
from loratwin.progress import announce_compilation, measuring, staged_progress

if TYPE_CHECKING:
    from loratwin.calibrate.records_fit import RecordsFit

app = command_group("Make profiles from measurements.")

_Adapters = Annotated[
    Path, typer.Option(help="Adapters to serve: a folder of `loratwin adapters make`, or of PEFT adapters.")
]
_Args = Annotated[
    str, typer.Option(help="vLLM's arguments, in one string, with --model; slots and rank are set by the design.")
]
_Url = Annotated[
    str | None,
    typer.Option(help="A server that runs already; one on this machine tells its arguments, if none are given."),
]
_StepLog = Annotated[Path | None, typer.Option(help="With --url: the folder of that server's step log.")]
_Start = Annotated[
    str | None,
    typer.Option(
        "--start", help="Where a fit without step logs starts: a profile, or its file. Default: assumed for the GPU."
    ),
]
_Llm = Annotated[
    str | None, typer.Option(help="The LLM: a name, or the folder of its config.json. Default: --model's.")
]
_Minutes = Annotated[float, typer.Option(help="Minutes of measuring, starts of servers included.")]
_FITS = "as fits into half of --minutes"
_Window = Annotated[float, typer.Option(min=2, help="Seconds of each workload of the check.")]
_Repeats = Annotated[int, typer.Option(min=1, help="Measurements of each workload: two show the machine's noise.")]
FORMATS = ("text", "json", "markdown")


@app.command()
def server(
    folder: Annotated[Path, typer.Argument(help="Folder for all files; one that is there is gone on with.")],
    lora_folder: _Adapters,
    serve: Serve = None,
    server_args: _Args = "",
    server_command: ServerCommand = None,
    minutes: Annotated[
        float, typer.Option(help="Minutes of measuring, starts of servers included; the check takes half as long.")
    ] = 7.0,
    llm: _Llm = None,
    window: Annotated[
        float | None, typer.Option(min=2, help="Seconds of each workload of the check.", show_default=_FITS)
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Measurements of each workload of the check.", show_default=_FITS)
    ] = None,
    start_timeout: StartTimeout = 600.0,
    check: Annotated[bool, typer.Option(help="Check the profile on workloads that it has not seen.")] = True,
    learn: Annotated[bool, typer.Option("--learn", help="Then fit again, the check's runs included.")] = False,
    json: JsonFile = None,
) -> None:
    """Calibrate your own server in one go: design, run, fit, check.

    For example: loratwin calibrate server mine --lora-folder adapters --server-args "--model tiny --max-num-seqs 16"
    """
    from loratwin.calibrate import calibrate_server, learned_file, server_source
    from loratwin.calibrate.loop.text import as_text, checked_data, fitted_data, fitted_text

    def say_fitted(fit: RecordsFit, path: Path) -> None:
        if not prints_json(json):
            typer.echo(fitted_text(fit, path))
        if check:
            announce_compilation()

    check_json(json)
    source = server_source(lora_folder, server_args, server_command, timeout_s=start_timeout)
    with measuring() as listener:
        done = calibrate_server(
            folder, source, minutes=minutes, llm=llm, check=check, window_s=window, repeats=repeats, learn=learn,
            listener=listener, fitted=say_fitted,
        )  # fmt: skip
    fit, path, checked = done.fit, done.folder.profile, None if done.check is None else done.check.checked
    if done.learned is not None:
        _say_learned(learned_file(path), json)
    show(
        json,
        lambda: None if checked is None else as_text(checked),
        lambda: {**fitted_data(fit, path), "check": None if checked is None else checked_data(checked)},
    )


def _say_learned(path: Path, json: Path | None) -> None:
    typer.echo(f"{path}: fitted once more, the check's runs included", err=prints_json(json))


@app.command()
def design(
    lora_folder: _Adapters,
    output: Annotated[Path, typer.Option("--output", "-o", help="The design's file, .yaml.")] = Path("design.yaml"),
    serve: Serve = None,
    server_args: _Args = "",
    minutes: _Minutes = 7.0,
    llm: _Llm = None,
    json: JsonFile = None,
) -> None:
    """Say which runs a calibration needs, most telling first, as many as fit into the minutes.

    For example: loratwin calibrate design --lora-folder adapters --server-args "--model tiny" --minutes 5
    """
    from loratwin.calibrate import design_for, dump_design, server_source
    from loratwin.calibrate.loop.text import design_text
    from loratwin.records import write_atomically

    source = server_source(lora_folder, server_args)
    check_json(json, (output,))
    made = design_for(source, minutes, llm)
    write_atomically(output, dump_design(made))
    show(json, lambda: design_text(made, source.engine, output), lambda: made.model_dump(mode="json"))


@app.command("run")
def run_(
    design: Annotated[Path, typer.Argument(help="File of `loratwin calibrate design`.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder for the records; what is there stays.")],
    lora_folder: _Adapters,
    serve: Serve = None,
    server_args: _Args = "",
    server_command: ServerCommand = None,
    url: _Url = None,
    step_log: _StepLog = None,
    server: Annotated[
        str | None, typer.Option(help="With --url: which server of the design it is. Default: by its slots and rank.")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Minutes to measure in; what does not fit is left out. Default: all runs.")
    ] = None,
    start: _Start = None,
    llm: _Llm = None,
    start_timeout: StartTimeout = 600.0,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
) -> None:
    """Measure the runs of a design; interrupted, it goes on where it was. Says what is still uncertain.

    Slots and rank belong to a server's start: with --url the runs of one server of the design are measured. Start it
    again with the arguments of the next, as it says in the end, and call this again.

    For example: loratwin calibrate run design.yaml -o mine --lora-folder adapters --server-args "--model tiny"
    """
    from loratwin.calibrate import load_design, measure_design, server_source
    from loratwin.perf import load_profile

    source = server_source(lora_folder, server_args, server_command, url, step_log, start_timeout, api_key_env)
    if server is not None and url is None:
        raise InputError("--server is for a server at --url; of those that we start, all are measured")
    known = None if start is None else load_profile(start)
    shapes = source.llm(llm) if llm or source.names_llm() else known.llm if known else None
    with measuring() as listener:
        measure_design(load_design(design), source, folder, shapes, known, server, listener, minutes)


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(help="Folder with records of runs, or measured tables (serving_*.csv, ...).")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the profile files, or one .yaml.")],
    processes: Processes = 2,
    llm: Annotated[
        str | None, typer.Option(help="For records: the LLM, by name or by the folder of its config.json.")
    ] = None,
    start: _Start = None,
    json: JsonFile = None,
) -> None:
    """Fit a profile to records of runs, or the profiles of all LLMs of measured tables.

    Records with engine steps tell most; of others, imported ones too, the client's figures count, around --start.

    For example: loratwin calibrate fit mine -o mine.yaml --llm tiny
    """
    from loratwin.calibrate import fit_folder, holds_records
    from loratwin.calibrate.loop.text import fitted_data, fitted_text
    from loratwin.perf import load_profile, profile_file, save_profile
    from loratwin.records import check_writable
    from loratwin.validate.cards import fit_with_errors

    check_writable(profile_file(output, "profile"))
    check_json(json)
    if holds_records(data):
        fitted = fit_folder(data, llm, None if start is None else load_profile(start))
        path = save_profile(fitted.profile, profile_file(output, fitted.profile.name))
        show(json, lambda: fitted_text(fitted, path), lambda: fitted_data(fitted, path))
        return
    check_writable(output / "profile.yaml")  # one profile per LLM: a folder
    with staged_progress(compiles=True) as progress:
        profiles = fit_with_errors(data, processes, progress)
    paths = {save_profile(profile, profile_file(output, profile.name)): profile for profile in profiles}
    show(
        json,
        lambda: "\n".join(map(str, paths)),
        lambda: [{"file": str(path), "profile": profile.model_dump(mode="json")} for path, profile in paths.items()],
    )


@app.command()
def check(
    profile: Annotated[Path, typer.Argument(help="File of the profile.")],
    folder: Annotated[Path, typer.Option("--output", "-o", help="Folder of the calibration: checks go into it.")],
    lora_folder: _Adapters,
    serve: Serve = None,
    server_args: _Args = "",
    server_command: ServerCommand = None,
    url: _Url = None,
    step_log: _StepLog = None,
    llm: _Llm = None,
    window: _Window = 18.0,
    repeats: _Repeats = 2,
    start_timeout: StartTimeout = 600.0,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    learn: Annotated[bool, typer.Option("--learn", help="Then fit again, these runs included.")] = False,
    format: Annotated[str, typer.Option(help="text, json (as --json) or markdown.")] = "text",
    json: JsonFile = None,
) -> None:
    """Predict workloads that the profile has not seen, then measure them, and say how far off it was.

    For example: loratwin calibrate check mine/profile.yaml -o mine --lora-folder adapters --server-args "--model tiny"
    """
    if format not in FORMATS:
        raise InputError(f"--format {format!r}: must be one of {', '.join(FORMATS)}")
    from loratwin.calibrate import check_server, save_learned, server_source
    from loratwin.calibrate.loop.text import as_markdown, as_text, checked_data
    from loratwin.perf import load_profile

    json = STDOUT if format == "json" else json
    check_json(json)
    source = server_source(lora_folder, server_args, server_command, url, step_log, start_timeout, api_key_env)
    with measuring() as listener:
        known = load_profile(str(profile))
        announce_compilation()
        done = check_server(known, source, folder, window, repeats, listener)
        if learn:
            _say_learned(save_learned(done, profile, source, llm)[1], json)
    as_words = as_markdown if format == "markdown" else as_text
    show(json, lambda: as_words(done.checked), lambda: checked_data(done.checked))


@app.command("import")
def import_(
    result: Annotated[Path, typer.Argument(help="File or folder of another load client.")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The record, .json or .parquet; a folder for several results.")
    ],
    server_args: Annotated[
        str, typer.Option(help="The server's arguments, in one string: files do not tell them.")
    ] = "",
    serve: Serve = None,
    engine: Annotated[str, typer.Option(help="Version of the engine, as vllm-0.32.0.")] = "",
    gpu: Annotated[str, typer.Option(help="The server's GPU, as h100-sxm, or cpu: its defaults depend on it.")] = "",
    adapters: Annotated[str, typer.Option(help="Adapters as a,b,c, if they were assigned round-robin.")] = "",
    ranks: Annotated[str, typer.Option(help="Their ranks, in turn, as 8,16.")] = "",
) -> None:
    """Make records of results of other load clients: for `loratwin report` beside the twin, or to fit.

    Read are files and folders of vllm bench serve, SGLang's bench_serving, GuideLLM, AIPerf, GenAI-Perf,
    inference-perf, LLMPerf.

    For example: loratwin calibrate import result.json -o run.json --server-args "--model tiny --max-loras 4"
    """
    from loratwin.calibrate import import_results

    in_turn = numbers_in_turn("--ranks", ranks) if ranks else ()
    runs = import_results(result, output, server_args, engine, listed_names(adapters), in_turn, gpu)
    for path in runs:
        typer.echo(f"written: {path}")
    for note in dict.fromkeys(note for run in runs.values() for note in run.provenance.notes):
        typer.echo(f"note: {note}", err=True)
