"""`loratwin validate`: the twin against measured runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, Processes, check_json, show
from loratwin.errors import InputError
from loratwin.lists import whole_numbers
from loratwin.progress import staged_progress

app = command_group("Compare the twin with measured runs.")

RunsFile = Annotated[Path, typer.Argument(help="A serving_*.csv; measured columns may be absent.")]
Tables = Annotated[Path, typer.Argument(help="Folder with the measured tables.")]
Output = Annotated[Path, typer.Option("--output", "-o", help="CSV file to write.")]
Seeds = Annotated[int, typer.Option(min=1, help="Runs of the twin that each figure is the mean of.")]


@app.command()
def runs(runs_csv: RunsFile, output: Output, seeds: Seeds = 1, processes: Processes = 1, json: JsonFile = None) -> None:
    """Predict every row from its configuration columns: throughput, latencies, KV capacity, starts, starved."""
    from loratwin.records.plain import as_plain
    from loratwin.validate import predict_file

    check_json(json, (output,), (runs_csv,))
    with staged_progress(compiles=True) as progress:
        predictions = predict_file(runs_csv, output, range(seeds), processes, progress)
    show(json, lambda: f"{len(predictions)} predictions in {output}", lambda: as_plain(predictions))


@app.command()
def decisions(
    runs_csv: RunsFile,
    output: Output,
    seeds: Seeds = 1,
    processes: Processes = 1,
    using: Annotated[str, typer.Option(help="twin, learned (the shipped model), or the file of a learned model.")] = (
        "twin"
    ),
    json: JsonFile = None,
) -> None:
    """Answer for every workload of a grid: adapters and slots for throughput, slots for throughput and for latency."""
    from loratwin.learn.models.model import load_model
    from loratwin.validate import decide_file, decisions_data

    learned = None if using == "twin" else load_model(None if using == "learned" else Path(using))
    check_json(json, (output,), (runs_csv,))
    with staged_progress(compiles=learned is None) as progress:
        answers = decide_file(runs_csv, output, range(seeds), processes, progress, learned)
    show(json, lambda: f"{len(answers)} decisions in {output}", lambda: decisions_data(answers))


@app.command()
def report(
    data: Tables,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for report.html and report.md.")],
    processes: Processes = 2,
    json: JsonFile = None,
) -> None:
    """Fit without each workload in turn, predict it, and report the errors by regime (up to 15 minutes)."""
    from loratwin.records import check_writable
    from loratwin.report.validation import validation_data, write_validation
    from loratwin.validate.crossval import cross_validate, first_look, fit_all

    check_writable(output / "report.html")
    check_json(json)
    with staged_progress(compiles=True) as progress:
        looks = first_look(data, processes, progress)
        typer.echo("the shipped profiles, which were fitted to these runs, are off on average by", err=True)
        for look in looks:
            typer.echo(f"  {look.metric}: {look.mape:.1f} % ({look.runs} runs)", err=True)
        validation = cross_validate(data, fit_all(data, processes, progress), processes, progress)
    written = write_validation(validation, output)
    show(json, lambda: "\n".join(map(str, written)), lambda: validation_data(validation))


@app.command()
def chance(
    data: Tables,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Markdown file to write; else it is printed.")
    ] = None,
    processes: Processes = 2,
    json: JsonFile = None,
) -> None:
    """Whether limits are kept as often as the stated chance says, by tenths of it, on held-out runs (some minutes)."""
    from loratwin.records import check_writable, write_atomically
    from loratwin.report.chance import chance_data, chance_markdown
    from loratwin.validate.chance import predict_draws, statements, verdicts
    from loratwin.validate.crossval import fit_all

    if output is not None:
        check_writable(output)
    check_json(json, (output,))
    with staged_progress(compiles=True) as progress:
        held_out = predict_draws(data, fit_all(data, processes, progress), processes, progress)
    said = statements(held_out), verdicts(held_out), verdicts(held_out, corrected=False)
    text = chance_markdown(*said)
    if output is not None:
        write_atomically(output, text)
    show(json, lambda: text.rstrip() if output is None else str(output), lambda: chance_data(*said))


@app.command()
def public(
    data: Annotated[Path, typer.Argument(help="Folder with kv_capacity.csv, decode_steps.csv, serving.csv.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for predictions and report.html, report.md.")],
    processes: Processes = 2,
    json: JsonFile = None,
) -> None:
    """Predict measurements that others published of other GPUs, LLMs and engines, and report the errors."""
    from loratwin.records import check_writable, would_replace
    from loratwin.report.public_validation import write_public
    from loratwin.validate.public import predict_public

    if would_replace(output, (data,)):
        raise InputError(f"{output} is the folder with the measurements: give another one with -o")
    check_json(json)
    output.mkdir(parents=True, exist_ok=True)
    check_writable(output / "report.html")
    with staged_progress(compiles=True) as progress:
        tables = predict_public(data, processes, progress)
    written = write_public(tables, output)
    show(json, lambda: "\n".join(map(str, written)), lambda: {table.name: table.as_plain() for table in tables})


@app.command()
def curve(
    data: Tables,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="File to write, .md or .json; else Markdown is printed.")
    ] = None,
    serving_runs: Annotated[
        str, typer.Option("--serving-runs", help="How many serving runs are evidence, separated by commas.")
    ] = "0,5,10,20,40",
    draws: Annotated[int, typer.Option(min=1, help="Times that these runs are drawn.")] = 3,
    sets: Annotated[int, typer.Option(min=2, help="Sets of workloads, each held out in turn.")] = 3,
    sample: Annotated[int, typer.Option(min=1, help="Runs of each held-out set that are predicted.")] = 40,
    seed: Annotated[int, typer.Option(min=0, help="Of the draws.")] = 0,
    processes: Processes = 1,
    json: JsonFile = None,
) -> None:
    """Held-out error with micro measurements alone, and with a few serving runs more (takes some minutes)."""
    from loratwin.records import write_atomically
    from loratwin.validate.curve import CurvePlan, check_curve_file, curve_data, curve_text, learning_curve

    plan = CurvePlan(tuple(whole_numbers("--serving-runs", serving_runs)), draws, sets, sample, seed)
    if output is not None:
        check_curve_file(output)
    check_json(json, (output,))
    with staged_progress(compiles=True) as progress:
        scores = learning_curve(data, plan, processes, progress)
    text = curve_text(scores, output)
    if output is not None:
        write_atomically(output, text)
    show(json, lambda: text.rstrip() if output is None else str(output), lambda: curve_data(scores))
