"""`loratwin bench`: send a workload to real servers, and measure."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from loratwin.cli.interrupts import terminable
from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.bench import Options
    from loratwin.cli.measuring.output import BenchOutput
    from loratwin.cli.measuring.servers import Launch, Running
    from loratwin.metrics import Slo
    from loratwin.records import Run
    from loratwin.workload import Workload, WorkloadSpec

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
        typer.Option(
            help="Adapters of `loratwin adapters make`: served by --lora-modules (--launch) or /v1/load_lora_adapter."
        ),
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
    force: Annotated[bool, typer.Option("--force", help="Replace a record that is there.")] = False,
    recover: Annotated[
        Path | None, typer.Option(help="Make the record of a benchmark that was killed, from its .partial folder.")
    ] = None,
) -> None:
    """Send a workload to real servers and measure every request, adapter by adapter.

    For example: loratwin bench example:support-desk --url http://127.0.0.1:8000 --window 600 -o measured.json
    """
    from loratwin.metrics import parse_slo

    limits = parse_slo(slo) if slo is not None else None
    _check_shown(report, profile)
    if recover is not None:
        _show(_recover(recover, output, force), output, limits, profile, per_adapter, report)
        return
    _check_sources(workload, url, launch, replicas, mps, steps)
    _check_launch(launch, start_timeout, llm, server_command)
    drawn = _workload(str(workload), seed, window)
    options = _options(
        api=api, in_flight=in_flight, prompts=prompts, warm_up=warm_up, preload=preload,
        scrape_every_s=scrape_every, headers=_headers(api_key_env),
    )  # fmt: skip
    from loratwin.cli.measuring.output import BenchOutput

    files = BenchOutput(output, force)
    files.check_free()
    names = tuple(name.strip() for name in adapters.split(",")) if adapters else ()
    started = _launch(launch, server_args, server_command, replicas, mps, steps, start_timeout, lora_folder)
    with terminable():
        servers = _servers(started, url or [], drawn, names, options, server_args, llm, lora_folder, files)
        run = _measured(drawn, servers, options, files)
    _show(run, output, limits, profile, per_adapter, report)
    if any("interrupted" in reason for reason in run.invalid):
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
    if steps and launch != "vllm":
        raise InputError(f"--steps: only vLLM's steps can be logged, not {launch}'s")


def _check_launch(launch: str | None, timeout_s: float, llm: str | None, command: str | None) -> None:
    if not 0 < timeout_s < float("inf"):
        raise InputError(f"--start-timeout {timeout_s:g}: it must be a positive number of seconds")
    if launch is not None and llm is not None:
        raise InputError("--llm is for --url; a server that we start is asked for its LLM's name")
    if launch is None and command is not None:
        raise InputError("--server-command is for a server that we start: --launch")


def _check_shown(report: Path | None, profile: str | None) -> None:
    """What is shown after the window must not fail for a reason that could be known before it."""
    from loratwin.cli.commands.report import check_html
    from loratwin.perf import load_profile

    if report is not None:
        check_html(report)
    if profile is not None:
        load_profile(profile)


def _workload(source: str, seed: int, window_s: float | None) -> Workload:
    """A workload of a file and a seed, or the requests of a record."""
    from loratwin.records import load_run
    from loratwin.workload import draw, load_spec, recorded_workload

    if source.endswith((".json", ".parquet")):
        run = load_run(source)
        return recorded_workload(run if window_s is None else _cut(run, window_s))
    spec = load_spec(source)
    return draw(spec if window_s is None else _over(spec, window_s), seed)


def _over(spec: WorkloadSpec, window_s: float) -> WorkloadSpec:
    """The workload over another window, checked again: it may ask for too many requests now."""
    from loratwin.workload import WorkloadSpec

    values = {name: getattr(spec, name) for name in WorkloadSpec.model_fields} | {"window_s": _positive(window_s)}
    try:
        return WorkloadSpec(**values)
    except InputError as error:
        raise InputError(f"--window {window_s:g}: {str(error).removeprefix('WorkloadSpec: ')}") from None


def _cut(run: Run, window_s: float) -> Run:
    from dataclasses import replace

    if window_s > run.window_s:
        raise InputError(f"--window {window_s:g}: the record has {run.window_s:g} s")
    return replace(run, window_s=_positive(window_s))


def _positive(window_s: float) -> float:
    if not 0 < window_s < float("inf"):
        raise InputError(f"--window {window_s:g}: it must be a positive number of seconds")
    return window_s


def _options(**given: Any) -> Options:
    from loratwin.bench import Options
    from loratwin.telemetry import check_period

    if given["api"] not in ("completions", "chat"):
        raise InputError(f"--api {given['api']!r}: completions or chat")
    check_period(given["scrape_every_s"], "--scrape-every")
    if given["prompts"] != "random":
        _check_prompts(Path(given["prompts"]))
    return Options(prompt_seed=int.from_bytes(os.urandom(4), "little"), **given)


def _check_prompts(path: Path) -> None:
    """Read here for its faults only; the load client reads it again."""
    from loratwin.bench.worker.prompts import load_texts

    if not path.is_file():
        raise InputError(f"--prompts {str(path)!r}: no such file (or random)")
    load_texts(path)


def _headers(variable: str) -> dict[str, str]:
    key = os.environ.get(variable, "")
    if not key.isascii() or not key.isprintable() or any(character.isspace() for character in key):
        raise InputError(f"the API key in {variable} has characters that no HTTP header may have")
    return {"Authorization": f"Bearer {key}"} if key else {}


def _launch(
    engine: str | None,
    args: str | None,
    command: str | None,
    replicas: int,
    mps: bool,
    steps: bool,
    timeout_s: float,
    lora_folder: Path | None,
) -> Launch | None:
    from loratwin.cli.measuring.servers import Launch

    return None if engine is None else Launch(engine, args or "", command, replicas, mps, steps, timeout_s, lora_folder)


@contextmanager
def _servers(
    launch: Launch | None,
    urls: list[str],
    workload: Workload,
    names: tuple[str, ...],
    options: Options,
    server_args: str | None,
    llm: str | None,
    lora_folder: Path | None,
    files: BenchOutput,
) -> Iterator[Running]:
    from loratwin.cli.measuring.servers import given_servers, launched_servers

    wanted = workload.adapters.name
    with ExitStack() as stack:
        if launch is None:
            yield given_servers(urls, wanted, names, options.headers, "vllm", server_args, llm, lora_folder)
        else:
            typer.echo(f"starting {launch.replicas} x {launch.engine}; logs in {files.logs}", err=True)
            yield stack.enter_context(launched_servers(launch, wanted, names, options.headers, files.logs))


def _measured(workload: Workload, servers: Any, options: Options, files: BenchOutput) -> Run:
    """Measure, stop the servers, and write the record; what was measured stays in a folder until then."""
    import shutil

    from loratwin.bench import measure
    from loratwin.bench.result import window_start_s
    from loratwin.bench.session import nothing_measured
    from loratwin.cli.measuring.progress import watching

    running: Running
    with servers as running, watching() as watch:
        try:
            run = measure(workload, running.target, options, files.partial, watch)
        except BaseException:
            if files.partial.is_dir() and nothing_measured(files.partial):
                shutil.rmtree(files.partial)
            raise
    start_s = window_start_s(files.partial)
    run, written = files.write(run, start_s, running.kv_tokens, running.step_logs)
    for path in written:
        typer.echo(f"written: {path}", err=True)
    return run


def _recover(folder: Path, output: Path, force: bool) -> Run:
    from loratwin.bench import recover
    from loratwin.cli.measuring.output import BenchOutput
    from loratwin.records import save_run

    files = BenchOutput(output, force)
    run = recover(folder)
    typer.echo(f"written: {save_run(run, files.path)} ({folder} can be removed)", err=True)
    return run


def _show(run: Run, output: Path, slo: Slo | None, profile: str | None, per_adapter: bool, report: Path | None) -> None:
    from loratwin.cli.commands.report import simulated_beside
    from loratwin.cli.measuring.table import print_runs
    from loratwin.records import write_atomically

    runs = {output.stem: run}
    if profile is not None:
        runs |= simulated_beside(runs, profile)
    print_runs(runs, slo, per_adapter)
    if report is not None:
        from loratwin.report import run_report

        typer.echo(f"written: {write_atomically(report, run_report(runs, slo))}", err=True)
