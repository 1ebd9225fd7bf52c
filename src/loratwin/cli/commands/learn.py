"""`loratwin learn`: models and rules distilled from the twin."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group, grouped
from loratwin.cli.many import Cluster
from loratwin.cli.options import (
    JsonFile,
    Objective,
    Processes,
    ProfileGiven,
    Workload,
    check_json,
    show,
)
from loratwin.lists import known_names
from loratwin.progress import announce_compilation, staged_progress

app = command_group("Learn from the twin: fast answers, and rules.")

Folders = Annotated[list[Path], typer.Argument(help="Folders that `learn generate` made.", show_default=False)]
Partly = Annotated[bool, typer.Option("--partly", help="Take what is there of an unfinished generation.")]


@app.command()
@grouped
def generate(
    *,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the shards.", show_default=False)],
    design: Annotated[str, typer.Option(help="published (the grid of arXiv 2508.08343), or broad.")] = "published",
    search: Annotated[
        str, typer.Option(help="edge: around the most adapters; slots: all slots below; grid: all of the paper's grid.")
    ] = "edge",
    cases: Annotated[
        int | None, typer.Option(min=1, help="The first so many workloads of the design.", show_default="all")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the workloads, and of their draws.")] = 0,
    processes: Processes = 2,
    cluster: Cluster,
) -> None:
    """Run the twin on many workloads; goes on where it was interrupted.

    For example: loratwin learn generate --design broad --cases 500 -o shards
    """
    from loratwin.experiments import beside_here
    from loratwin.learn.cases.design import design as cases_of
    from loratwin.learn.cases.generate import generate as run
    from loratwin.learn.cases.generate import generated_text

    chosen = cases_of(design, cases, seed)
    place = beside_here(cluster.on, output, "learn", cluster.partition, cluster.minutes)
    with staged_progress(compiles=True) as progress, place as executor:
        done = run(chosen, output, search, seed, processes, partial(progress, "simulating shards"), executor)
    typer.echo(generated_text(done, output))


@app.command()
def train(
    shards: Folders,
    output: Annotated[Path, typer.Option("--output", "-o", help="File of the model (.npz).", show_default=False)],
    partly: Partly = False,
    json: JsonFile = None,
) -> None:
    """Fit the model that `learn predict` and `plan --fast` use; prints its errors on workloads not seen."""
    from loratwin.learn import load_shards, save_model
    from loratwin.learn import train as fit
    from loratwin.learn.models.model import saved_text
    from loratwin.records import check_writable
    from loratwin.records.plain import as_plain

    check_writable(output)
    check_json(json, (output,))
    explored = load_shards(shards, partly)
    with staged_progress() as progress:
        model = fit(explored, partial(progress, "learning targets"))
    save_model(model, output)
    show(json, lambda: saved_text(model, output), lambda: {"file": str(output), **as_plain(model.header)})


@app.command()
def table(
    shards: Folders,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Markdown file.")] = None,
    models: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these.")] = None,
    targets: Annotated[str | None, typer.Option(metavar="NAME,...", help="Only these.")] = None,
    published_features: Annotated[
        bool, typer.Option("--published-features", help="The eight published features, adapters on the grid.")
    ] = False,
    partly: Partly = False,
    json: JsonFile = None,
) -> None:
    """Compare all models on all targets by nested cross-validation, grouped by workload (takes minutes)."""
    from loratwin.learn import compare_models, load_shards
    from loratwin.learn.training.registry import REGISTRY
    from loratwin.learn.training.table import comparable_targets, table_markdown
    from loratwin.records import check_writable, write_atomically
    from loratwin.records.plain import as_plain

    if output is not None:
        check_writable(output)
    check_json(json, (output,))
    chosen = known_names("model", models, REGISTRY)
    asked = known_names("target", targets, comparable_targets(published_features))
    explored = load_shards(shards, partly)
    with staged_progress() as progress:
        rows = compare_models(explored, chosen, asked, published_features, partial(progress, "models x targets"))
    text = table_markdown(rows)
    if output is not None:
        write_atomically(output, text)
    show(json, text.rstrip, lambda: as_plain(rows))


@app.command()
def rules(
    shards: Folders,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File: .txt, .md, .json, .py or .svg.")] = None,
    profile: Annotated[str | None, typer.Option(help="Only this profile.", show_default="all")] = None,
    partly: Partly = False,
    json: JsonFile = None,
) -> None:
    """Print one page of rules, with their errors: how many adapters, which slots, how much throughput.

    For example: loratwin learn rules shards -o rules.md
    """
    from loratwin.learn import check_rules_path, learn_rules, load_shards, save_rules
    from loratwin.learn.rules.text import rules_data, rules_text

    check_json(json, (output,))
    if output is not None:
        check_rules_path(output)
    explored = load_shards(shards, partly, profile)
    learned, title = learn_rules(explored), f"LoRA adapters on one GPU: {profile or 'all learned profiles'}"
    written = None if output is None else str(save_rules(learned, explored, title, output))
    show(json, lambda: written or rules_text(learned, title).rstrip(), lambda: rules_data(learned, title))


@app.command()
def predict(
    workload: Workload,
    profile: ProfileGiven,
    model: Annotated[Path | None, typer.Option(help="Model of `learn train`.", show_default="shipped")] = None,
    objective: Objective = "throughput",
    check: Annotated[bool, typer.Option(help="Check the answer with one run of the twin.")] = True,
    seed: Annotated[int, typer.Option(min=0, help="Of the draw of the workload.")] = 0,
    json: JsonFile = None,
) -> None:
    """Predict adapters, slots, throughput and latency without a search, with 90 % intervals.

    For example: loratwin learn predict example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    """
    from loratwin.learn import advice_text, load_model
    from loratwin.learn import predict as learned_advice
    from loratwin.perf import load_profile
    from loratwin.workload import load_spec

    chosen, learned, spec = load_profile(profile), load_model(model), load_spec(workload)
    check_json(json, inputs=(workload, profile))
    if check:
        announce_compilation()
    advice = learned_advice(spec, chosen, learned, objective, seed=seed, check=check)
    show(json, lambda: advice_text(advice), advice.as_json)
