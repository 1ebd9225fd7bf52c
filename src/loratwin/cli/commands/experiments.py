"""`loratwin experiments`: grids of measured runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from loratwin.cli.groups import command_group
from loratwin.cli.options import JsonFile, SlurmPartition, check_json, prints_json, show
from loratwin.progress import announce_compilation, staged_progress

app = command_group("Grids of measured runs: on this machine, on Slurm, on Dask.")

GridFile = Annotated[Path, typer.Argument(help="The grid, a .yaml file.", show_default=False)]
Folder = Annotated[Path, typer.Argument(help="Folder of the runs.", show_default=False)]
ContainerKind = Annotated[
    str, typer.Option("--container", help="What servers run in: none, apptainer, singularity or docker.")
]
Image = Annotated[str, typer.Option(help="The container's image: a .sif file or a name.")]
Bind = Annotated[list[str] | None, typer.Option(help="A folder that the container sees; several times.")]


@app.command()
def plan(
    grid: GridFile,
    container: ContainerKind = "none",
    image: Image = "",
    bind: Bind = None,
    profile: Annotated[str | None, typer.Option(help="Let the twin say of each run what to expect.")] = None,
    json: JsonFile = None,
) -> None:
    """Show every run that a grid makes, its command, and what is left out and why; start nothing."""
    from loratwin.experiments import Container, load_grid, plan_runs
    from loratwin.experiments.estimate import estimates
    from loratwin.experiments.text import planned_data, planned_text
    from loratwin.perf import load_profile

    check_json(json, inputs=(grid,))
    chosen, inside = load_grid(grid), Container(container, image, tuple(bind or ()))  # type: ignore[arg-type]
    planned, expected = plan_runs(chosen, grid.resolve().parent, inside), {}
    if profile is not None:
        twin = load_profile(profile)
        announce_compilation()
        expected = estimates(planned, twin)
    show(json, lambda: planned_text(planned, expected), lambda: planned_data(planned, expected))


@app.command()
def run(
    grid: GridFile,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the runs; the same again goes on.")],
    on: Annotated[str, typer.Option(help="Where: local, slurm, or dask://HOST:PORT.")] = "local",
    jobs: Annotated[int, typer.Option(min=1, help="local: so many runs at a time.")] = 1,
    failed: Annotated[bool, typer.Option("--failed", help="Make runs again that failed.")] = False,
    container: ContainerKind = "none",
    image: Image = "",
    bind: Bind = None,
    partition: SlurmPartition = None,
    account: Annotated[str | None, typer.Option(help="slurm: account.")] = None,
    minutes: Annotated[int | None, typer.Option(min=1, help="slurm: time limit of each run.")] = None,
    gpus: Annotated[int | None, typer.Option(min=0, help="slurm: GPUs of each run.")] = None,
    cpus: Annotated[int | None, typer.Option(min=1, help="slurm: CPUs of each run.")] = None,
    at_once: Annotated[int, typer.Option(min=1, help="slurm: runs at the same time, at most.")] = 256,
    with_nsys: Annotated[bool, typer.Option("--with-nsys", help="Servers under Nsight Systems.")] = False,
    with_ncu: Annotated[bool, typer.Option("--with-ncu", help="Servers under Nsight Compute.")] = False,
    profiler_args: Annotated[str | None, typer.Option(help="The profiler's arguments.")] = None,
    setup: Annotated[
        list[str] | None,
        typer.Option(help="slurm: a shell line before each run, as 'module load cuda'; several times."),
    ] = None,
) -> None:
    """Make the runs of a grid that are not done yet; on Slurm hand them over as one array.

    For example: loratwin experiments run grid.yaml -o slots --on slurm --partition gpu --gpus 1
    """
    from loratwin.experiments import Container, Experiments, SlurmOptions, executor_at, load_grid, plan_runs
    from loratwin.experiments.text import handed_text, states_text

    chosen, experiments = load_grid(grid).with_profilers(with_nsys, with_ncu, profiler_args), Experiments(output)
    inside = Container(container, image, tuple(bind or ()))  # type: ignore[arg-type]
    names = experiments.prepare(chosen, plan_runs(chosen, grid.resolve().parent, inside))
    if on == "slurm":
        options = SlurmOptions(partition, account, minutes, gpus, cpus, at_once, tuple(setup or ()))
        typer.echo(handed_text(experiments, experiments.submit(names, options, failed)))
        return
    missing, place = experiments.missing(names, failed), executor_at(on, output, jobs)
    with staged_progress() as progress, place as executor:
        experiments.make(missing, executor, failed, progress)
    typer.echo(states_text(experiments))


@app.command()
def status(
    folder: Folder,
    watch: Annotated[bool, typer.Option("--watch", help="Again every two seconds, until all is at its end.")] = False,
    json: JsonFile = None,
) -> None:
    """Say how far the runs are, and why those that failed did."""
    from loratwin.experiments import Experiments
    from loratwin.experiments.text import counts_text, states_data, states_text

    check_json(json)
    experiments = Experiments(folder)
    experiments.grid()
    while watch and experiments.in_hand():
        typer.echo(counts_text(experiments.counts()), err=prints_json(json))
        time.sleep(2.0)
    show(json, lambda: states_text(experiments), lambda: states_data(experiments))


@app.command()
def collect(
    folder: Folder,
    output: Annotated[Path, typer.Option("--output", "-o", help="Table to write: .parquet or .csv.")],
    report: Annotated[Path | None, typer.Option(help="Write a page of all figures.", metavar="FILE.html")] = None,
    json: JsonFile = None,
) -> None:
    """Put all runs into one table: the grid's values, how each ended, and its figures."""
    from loratwin.experiments import collect as collect_runs
    from loratwin.records import check_writable, write_atomically
    from loratwin.report.grid_page import collected_data, collected_text, grid_html

    for path in filter(None, (output, report)):
        check_writable(path)
    check_json(json, (output, report))
    table = collect_runs(folder)
    table.write(output)
    if report is not None:
        write_atomically(report, grid_html(table))
    show(json, lambda: collected_text(table, output), lambda: collected_data(table))


@app.command("definition")
def show_definition(
    engine: Annotated[str, typer.Argument(help="Engine and version, as vllm-0.25.1.")],
    profilers: Annotated[bool, typer.Option("--profilers", help="With Nsight Systems.")] = False,
) -> None:
    """Print an Apptainer definition file for servers of a version; not tried on a real Apptainer."""
    from loratwin.experiments import definition

    typer.echo(definition(engine, profilers), nl=False)


@app.command("import")
def import_published(
    workload: Annotated[Path, typer.Argument(help="Workload file, relative to the grid's.", show_default=False)],
    output: Annotated[Path, typer.Option("--output", "-o", help="Grid to write, a .yaml file.")],
    default_server_args: Annotated[str, typer.Option(help="A dictionary: the server's arguments that stay.")] = "{}",
    test_server_args: Annotated[str, typer.Option(help="A dictionary of lists: those that are tried.")] = "{}",
    default_benchmark_args: Annotated[str, typer.Option(help="The load client's that stay.")] = "{}",
    test_benchmark_args: Annotated[str, typer.Option(help="The load client's that are tried.")] = "{}",
    where: Annotated[list[str] | None, typer.Option(help="A condition on values; several times.")] = None,
) -> None:
    """Write a grid from the four dictionaries of the launcher that came with arXiv 2508.08343.

    For example: loratwin experiments import traffic.yaml -o grid.yaml --test-server-args "{'--max-loras': [8, 16]}"
    """
    from loratwin.experiments import expand, write_published

    written = write_published(
        output,
        workload,
        default_server_args,
        test_server_args,
        default_benchmark_args,
        test_benchmark_args,
        where or (),
    )
    typer.echo(f"{output}: {sum(not combination.left_out for combination in expand(written))} runs")
