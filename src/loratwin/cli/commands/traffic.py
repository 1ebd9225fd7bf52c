"""`loratwin traffic`: what is in a trace of requests, and a workload of what servers in use were asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, check_json
from loratwin.cli.options import show as show_result

app = command_group("Traffic that was: traces, logs and metrics, and a workload of them.")


@app.command()
def show(
    trace: Annotated[
        Path, typer.Argument(help="CSV, JSON lines, JSON or parquet, also compressed; or a folder of ServeGen's.")
    ],
    format: Annotated[
        str | None, typer.Option(help="Its form (docs/reference/traces.md). Default: recognised by its columns.")
    ] = None,
    column: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROLE=NAME",
            help="Which column is what, as time=ts, prompt=in, output=out, adapter=model (of JSON a dotted path).",
        ),
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of the times: s, ms, us, ns, timestamp.")] = None,
    unfit: Annotated[str | None, typer.Option(help="Rows that are no request: refuse, skip or clip.")] = None,
    workload: Annotated[
        str | None, typer.Option(help="Of clients with rates (ServeGen): which workload of several in the file.")
    ] = None,
    json: JsonFile = None,
) -> None:
    """Say what form a trace has, how many requests and tokens, when they end, and what is left out.

    For example: loratwin traffic show AzureLLMInferenceTrace_conv.csv
    """
    from loratwin.report.trace_text import trace_text
    from loratwin.traces import read_facts, reading

    check_json(json, inputs=(trace,))
    facts = read_facts(trace, reading(format, column or (), unit, unfit), workload)
    show_result(json, lambda: trace_text(facts), facts.as_json)


@app.command(name="import")
def import_(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE...",
            help="A log of requests; saved range queries of Prometheus; one or two pages of /metrics; or the address "
            "of a Prometheus (http://...).",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="The workload file.", metavar="PATH")],
    hours: Annotated[str, typer.Option(help="Which window: busiest, median, or all.")] = "busiest",
    window: Annotated[float, typer.Option(min=1, help="Seconds of the window.")] = 3600.0,
    base: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A name that is the LLM itself, not an adapter.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=NAME", help="Of a log: which column is what, see `show`.")
    ] = None,
    unit: Annotated[str | None, typer.Option(help="Of a log's times: s, ms, us, ns, timestamp.")] = None,
    unfit: Annotated[str | None, typer.Option(help="Of a log's rows that are no request: refuse, skip, clip.")] = None,
    label: Annotated[str, typer.Option(help="Of metrics: the label whose values are the adapters.")] = "model_name",
    match: Annotated[str, typer.Option(help="Of Prometheus: further labels, as 'namespace=\"prod\"'.")] = "",
    since: Annotated[str, typer.Option(help="Of Prometheus: how far back, as 24h, 7d, 90m.")] = "24h",
    until: Annotated[
        str | None, typer.Option(help="Of Prometheus: the end, as 2026-11-27T12:00 (UTC). Default: now.")
    ] = None,
    step: Annotated[float | None, typer.Option(help="Of Prometheus: seconds between two values.")] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Of pages of /metrics: between them, or since the server's start.")
    ] = None,
    lora_folder: Annotated[
        Path | None, typer.Option(help="Folder of the adapters (PEFT): tells their ranks.", metavar="FOLDER")
    ] = None,
    api_key: Annotated[
        str | None, typer.Option(envvar="PROMETHEUS_TOKEN", help="Sent to Prometheus as a bearer.")
    ] = None,
) -> None:
    """Make a workload file of what was asked of servers in use: rate, lengths and burstiness of each adapter.

    For example: loratwin traffic import gateway.jsonl.gz -o traffic.yaml
    """
    from loratwin.traces import reading
    from loratwin.traffic import Sources, hours_named, import_traffic, past

    length_s, end_s = past(since, until)
    _, seen, chosen = import_traffic(
        Sources(
            tuple(sources), reading(None, column or (), unit, unfit), tuple(base or ()), label, match, length_s, end_s,
            step, seconds, api_key, lora_folder,
        ),
        output, hours_named(hours), window,
    )  # fmt: skip
    typer.echo(f"{seen.source}: {len(seen.names)} names, {seen.num_requests:,.0f} requests in {seen.span_s:,.0f} s")
    typer.echo(f"window: {chosen.why}; what could not be known stands at the head of the file")
    typer.echo(f"written: {output}", err=True)
