"""`loratwin bench`: send a workload to real servers, and measure."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.options import ApiKeyEnv, JsonFile, ServerCommand, SloChecked, StartTimeout, check_json, show
from loratwin.cli.serve import Serve
from loratwin.errors import InputError
from loratwin.progress import announce_compilation, measuring

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
    fleet: Annotated[
        Path | None,
        typer.Option(
            help="Placement, or a plan of a fleet: --url of each of its servers, in its order.", metavar="PLAN"
        ),
    ] = None,
    router: Annotated[
        str | None,
        typer.Option(help="With --fleet: which router to be.", show_default="fractions"),
    ] = None,
    serve: Serve = None,
    server_args: Annotated[str | None, typer.Option(help=_ARGS)] = None,
    server_command: ServerCommand = None,
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
    reference: Annotated[
        bool, typer.Option("--reference", help="Before and after the window, see how fast the machine is (3 s each).")
    ] = False,
    scrape_every: Annotated[float, typer.Option(help="Seconds between scrapes of /metrics and the GPU.")] = 1.0,
    start_timeout: StartTimeout = 600.0,
    api_key_env: ApiKeyEnv = "OPENAI_API_KEY",
    slo: SloChecked = None,
    profile: Annotated[str | None, typer.Option(help="Show the twin's figures beside, with this profile.")] = None,
    per_adapter: Annotated[bool, typer.Option("--per-adapter", help="Show each adapter.")] = False,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The record (.json, .parquet). Default: bench.json, or the folder's own."),
    ] = None,
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
    from loratwin.bench import Options, choose_servers, key_headers, load_requests, measure, recovered, was_interrupted
    from loratwin.bench.options import REFERENCE_S
    from loratwin.metrics import parse_slo
    from loratwin.perf import load_profile
    from loratwin.report import check_outputs, print_runs, runs_as_json, twins_of, write_report

    if router is not None and fleet is None:
        raise InputError("--router is for the servers of a placement: --fleet")
    if fleet is not None:  # the twin comes with it, which takes a while to import
        from loratwin.fleet import fleet_twin, measure_fleet, placement_to_measure

        policy = router or "fractions"
        placement = placement_to_measure(fleet, {
            "--launch": launch, "--serve": serve, "--server-args": server_args, "--server-command": server_command,
            "--replicas": replicas > 1, "--mps": mps, "--steps": steps, "--adapters": adapters, "--profile": profile,
        })  # fmt: skip
    limits = parse_slo(slo) if slo is not None else None
    check_outputs(report)
    twin = None if profile is None else load_profile(profile)
    check_json(json, (output, report), filter(None, (workload, profile)))
    if recover is not None:
        run, (path, *more) = recovered(recover, output, force)
        typer.echo(f"written: {', '.join(map(str, (path, *more)))} ({recover} can be removed)", err=True)
    elif workload is None:
        raise InputError("no workload: give a file, example:NAME, or a record to replay (or --recover FOLDER)")
    else:
        requests = load_requests(workload, seed, window)
        options = Options(
            api=api, in_flight=in_flight, prompts=prompts, warm_up=warm_up, preload=preload,  # type: ignore[arg-type]
            scrape_every_s=scrape_every, reference_s=REFERENCE_S * reference, headers=key_headers(api_key_env),
        )  # fmt: skip
        with measuring() as listener:
            path = output or Path("bench.json")
            if fleet is not None:
                run = measure_fleet(
                    placement, requests, url or (), path, router=policy, options=options, llm=llm,
                    lora_folder=lora_folder, force=force, listener=listener,
                )  # fmt: skip
            else:
                servers = choose_servers(
                    url or (), launch, line=serve, args=server_args, command=server_command, replicas=replicas, mps=mps,
                    steps=steps, timeout_s=start_timeout, lora_folder=lora_folder, llm=llm,
                    adapters=tuple(name.strip() for name in adapters.split(",")) if adapters else (),
                )  # fmt: skip
                run = measure(requests, servers, path, options=options, force=force, listener=listener)
    runs = {path.stem: run}
    if fleet is not None:
        announce_compilation()
        runs["twin"] = fleet_twin(placement, run, policy)
    if twin is not None:
        announce_compilation()
        runs |= twins_of(runs, twin)
    show(json, lambda: print_runs(runs, limits, per_adapter), lambda: runs_as_json(runs, limits, per_adapter))
    if report is not None:
        typer.echo(f"written: {write_report(runs, report, slo=limits)}", err=True)
    if recover is None and was_interrupted(run):
        raise KeyboardInterrupt
