"""`loratwin traffic`: what is in a trace of requests."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(no_args_is_help=True, help="Traces of requests: what is in them.")


@app.command()
def show(
    trace: Annotated[Path, typer.Argument(help="CSV, JSON lines, JSON or parquet; gzip, bzip2, xz.")],
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
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
) -> None:
    """Say what form a trace has, how many requests and tokens, when they end, and what is left out.

    For example: loratwin traffic show AzureLLMInferenceTrace_conv.csv
    """
    from loratwin.report.trace_text import trace_text
    from loratwin.traces import read_trace, reading

    facts = read_trace(trace, reading(format, column or (), unit, unfit)).facts
    typer.echo(json.dumps(facts.as_json(), indent=2) if as_json else trace_text(facts))
