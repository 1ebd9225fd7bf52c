"""`loratwin bench`: send a workload to real servers, and measure."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.cli.options import JsonFile, check_json, show
from loratwin.cli.serve import Serve, engine_of_line
from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.bench.servers import Servers
    from loratwin.metrics import Slo
    from loratwin.records import Run

_URL = "Server(s) to ask, as http://127.0.0.1:8000; several share the requests evenly."
_ARGS = "With --launch: the engine's arguments, in one string. With --url: what the server runs with, for the record."


def bench(
    workload: Annotated[
        str | None,
        typer.Argument(help="Workload file, example:NAME, or the record of a run (.json, .parquet) to replay."),
    ] = None,
    url: Annotated[list[str] | None, typer.Option(help=_URL)] = None,
    launch: Annotated[
        str | None, typer.Option(help="Start a server for the benchmark: vllm or sglang.", metavar="ENGINE")
    ] = None,
    serve: Serve = None,
    server_args: Annotated[str | None, typer.Option(help=_ARGS)] = None,
    server_command: Annotated[
        str | None, typer.Option(help="What the arguments are appended to. Default: the engine's own command.")
    ] = None,
    replicas: Annotated[int, typer.Option(min=1, help="Servers to start, one after the other, on one GPU.")] = 1,
    mps: Annotated[bool, typer.Option("--mps", help="Start them with an MPS daemon of their own.")] = False,
    steps: Annotated[bool, typer.Option("--steps", help="Log every engine step (vLLM that we start).")] = False,
    window: Annotated[float | None, typer.Option(help="Seconds to measure. Default: the workload's.")] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the workload: the same requests as the twin's.")] = 0,
    in_flight: Annotated[
        int, typer.Option(min=0, help="Closed loop: so many requests always in flight. Default: the workload's times.")
    ] = 0,
    adapters: Annotated[
        str | None, typer.Option(help="The server's adapters to use, as a,b,c. Default: equal names, else in order.")
    ] = None,
    lora_folder: Annotated[
        Path | None,
        typer.Option(help="Adapters (PEFT folders): served by --lora-modules (--launch) or /v1/load_lora_adapter."),
    ] = None,
    llm: Annotated[str | None, typer.Option(help="Name of the LLM itself. Default: what the server says.")] = None,
    api: Annotated[str, typer.Option(help="completions or chat.")] = "completions",
    prompts: Annotated[
        str, typer.Option(help="random (token ids), or a file: ShareGPT .json, .jsonl with prompt, or lines of text.")
    ] = "random",
    warm_up: Annotated[int, typer.Option(min=0, help="Requests before the window.")] = 16,
    preload: Annotated[bool, typer.Option(help="Ask for each adapter once before the window.")] = True,
    scrape_every: Annotated[float, typer.Option(help="Seconds between scrapes of /metrics and the GPU.")] = 1.0,
    start_timeout: Annotated[float, typer.Option(help="Seconds that a server may take to start.")] = 600.0,
    api_key_env: Annotated[
        str, typer.Option(help="Environment variable with the API key, if there is one.")
    ] = "OPENAI_API_KEY",
    slo: Annotated[str | None, typer.Option(help="Limits to check, as ttft_p99=2s,tpot_p99=100ms.")] = None,
    profile: Annotated[str | None, typer.Option(help="Show the twin's figures beside, with this profile.")] = None,
    per_adapter: Annotated[bool, typer.Option("--per-adapter", help="Show each adapter.")] = False,
    output: Annotated[Path, typer.Option("--output", "-o", help="The record, .json or .parquet.")] = Path("bench.json"),
    report: Annotated[
        Path | None, typer.Option(help="Write a self-contained HTML report.", metavar="FILE.html")
    ] = None,
    json: JsonFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a record that is there.")] = False,
    recover: Annotated[
        Path | None, typer.Option(help="Make the record of a benchmark that was killed, from its .partial folder.")
    ] = None,
) -> None:
    """Send a workload to real servers and measure every request, adapter by adapter.

    For example: loratwin bench example:support-desk --url http://127.0.0.1:8000 --window 600 -o measured.json
    """
    from loratwin.bench import Options, key_headers, load_requests, measure, was_interrupted
    from loratwin.metrics import parse_slo
    from loratwin.progress import measuring

    limits = parse_slo(slo) if slo is not None else None
    _check_shown(report, profile)
    check_json(json, (output, report), filter(None, (workload, profile)))
    if recover is not None:
        _show(_recover(recover, output, force), output, limits, profile, per_adapter, report, json)
        return
    if serve is not None and not url and launch is None:
        launch = engine_of_line(serve)
    _check_sources(workload, url, launch, replicas, mps, steps)
    _check_launch(launch, start_timeout, llm, server_command)
    requests = load_requests(str(workload), seed, window)
    options = Options(
        api=api, in_flight=in_flight, prompts=prompts, warm_up=warm_up, preload=preload,  # type: ignore[arg-type]
        scrape_every_s=scrape_every, headers=key_headers(api_key_env),
    )  # fmt: skip
    names = tuple(name.strip() for name in adapters.split(",")) if adapters else ()
    servers = _servers(
        launch, url or [], server_args, server_command, replicas, mps, steps, start_timeout, lora_folder, llm, names
    )
    with measuring() as listener:
        run = measure(requests, servers, output, options=options, force=force, listener=listener)
    _show(run, output, limits, profile, per_adapter, report, json)
    if was_interrupted(run):
        raise KeyboardInterrupt


def _check_sources(
    workload: str | None, url: list[str] | None, launch: str | None, replicas: int, mps: bool, steps: bool
) -> None:
    if workload is None:
        raise InputError("no workload: give a file, example:NAME, or a record to replay (or --recover FOLDER)")
    if bool(url) == (launch is not None):
        raise InputError("give the server's --url, or --launch vllm to start one")
    if launch is None and (replicas > 1 or mps or steps):
        raise InputError("--replicas, --mps and --steps are for servers that we start: --launch")


def _check_launch(launch: str | None, timeout_s: float, llm: str | None, command: str | None) -> None:
    if not 0 < timeout_s < float("inf"):
        raise InputError(f"--start-timeout {timeout_s:g}: it must be a positive number of seconds")
    if launch is not None and llm is not None:
        raise InputError("--llm is for --url; a server that we start is asked for its LLM's name")
    if launch is None and command is not None:
        raise InputError("--server-command is for a server that we start: --launch")


def _check_shown(report: Path | None, profile: str | None) -> None:
    """What is shown after the window must not fail for a reason that could be known before it."""
    from loratwin.perf import load_profile
    from loratwin.report import check_html

    if report is not None:
        check_html(report)
    if profile is not None:
        load_profile(profile)


def _servers(
    engine: str | None,
    urls: list[str],
    args: str | None,
    command: str | None,
    replicas: int,
    mps: bool,
    steps: bool,
    timeout_s: float,
    lora_folder: Path | None,
    llm: str | None,
    adapters: tuple[str, ...],
) -> Servers:
    from loratwin.bench import GivenServers, LaunchedServers

    if engine is None:
        return GivenServers(urls, adapters, args, llm, lora_folder)
    return LaunchedServers(args or "", engine, command, replicas, mps, steps, timeout_s, lora_folder, adapters)


def _recover(folder: Path, output: Path, force: bool) -> Run:
    from loratwin.bench import recover
    from loratwin.bench.files import RecordFiles
    from loratwin.records import save_run

    files = RecordFiles(output, force)
    run = recover(folder)
    typer.echo(f"written: {save_run(run, files.path)} ({folder} can be removed)", err=True)
    return run


def _show(
    run: Run,
    output: Path,
    slo: Slo | None,
    profile: str | None,
    per_adapter: bool,
    report: Path | None,
    json: Path | None,
) -> None:
    from loratwin.perf import load_profile
    from loratwin.progress import announce_compilation
    from loratwin.report import print_runs, runs_as_json, twins_of, write_report

    runs = {output.stem: run}
    if profile is not None:
        announce_compilation()
        runs |= twins_of(runs, load_profile(profile))
    show(json, lambda: print_runs(runs, slo, per_adapter), lambda: runs_as_json(runs, slo, per_adapter))
    if report is not None:
        typer.echo(f"written: {write_report(runs, report, slo=slo)}", err=True)
