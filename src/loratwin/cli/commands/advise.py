"""`loratwin advise`: the batch, and replicas on one GPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loratwin.advise import BatchSweep
    from loratwin.llms import LlmShapes

app = typer.Typer(help="Which batch, and how many replicas on one GPU.", no_args_is_help=True, rich_markup_mode=None)

Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="A table of measured runs (.csv), or records that differ in max_num_seqs.", show_default=False),
]
Llm = Annotated[str | None, typer.Option(help="The LLM: which one of the table, and its sizes.")]
Itl = Annotated[float | None, typer.Option(min=0.001, help="Most milliseconds between tokens.", metavar="MS")]
WorkloadFile = Annotated[str | None, typer.Option(help="With --profile: sweep the twin with this workload.")]
ProfileName = Annotated[str | None, typer.Option(help="Sweep the twin instead of a table.")]
Batches = Annotated[str, typer.Option(help="Batches that the twin is asked for.")]

_BATCHES = "1,2,4,8,16,32,64,96,128,192,256,384,512"


@app.command()
def batch(
    sources: Sources = None,
    llm: Llm = None,
    itl_ms: Itl = None,
    times: Annotated[
        float | None, typer.Option(min=0.001, help="Instead: so many times that at batch 32.", show_default="2")
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Least efficiency T(B) / (B T(1)).")] = 0.1,
    rank: Annotated[int, typer.Option(min=1, help="Of adapter slots that would fit what is free.")] = 16,
    workload: WorkloadFile = None,
    profile: ProfileName = None,
    batches: Batches = _BATCHES,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Say beyond which batch more memory buys almost nothing (arXiv 2503.08311).

    For example: loratwin advise batch sweep.csv --llm opt-1.3b --times 2
    """
    from loratwin.advise import advise_batch
    from loratwin.advise.text import batch_json, batch_text

    advice = advise_batch(_sweep(sources, llm, workload, profile, batches), itl_ms, times, epsilon)
    if as_json:
        typer.echo(json.dumps(batch_json(advice), indent=2))
        return
    for line in batch_text(advice, _shapes(llm or advice.sweep.llm), rank):
        typer.echo(line)


@app.command()
def replicas(
    sources: Sources = None,
    llm: Llm = None,
    numbers: Annotated[str, typer.Option("--replicas", help="Numbers of replicas to try.")] = "1,2,4",
    batch: Annotated[int | None, typer.Option(min=1, help="Batch of each; default: the best one.")] = None,
    itl_ms: Itl = None,
    requests: Annotated[
        int | None, typer.Option(min=1, help="All at once so many; default: a steady stream.", show_default=False)
    ] = None,
) -> None:
    """Predict several servers on one GPU from the sweep of one, and choose their number."""
    from loratwin.advise import best_replicas, predict_replicas
    from loratwin.advise.text import fixed_tokens, replicas_text
    from loratwin.cli.options import whole_numbers
    from loratwin.errors import InputError

    sweep = _sweep(sources, llm, None, None, _BATCHES)
    shapes = _shapes(llm or sweep.llm)
    if shapes is None:
        raise InputError(f"the sizes of {sweep.llm} are not known: name it with --llm, or give its folder")
    fixed, counts = fixed_tokens(shapes), whole_numbers("--replicas", numbers)
    limit = itl_ms if itl_ms is not None else float("inf")
    best = best_replicas(sweep, counts, limit, fixed, requests)
    chosen = batch if batch is not None else best.batch if best is not None else sweep.points[-1].batch
    tried = [predict_replicas(sweep, chosen, number, fixed, requests) for number in counts]
    for line in replicas_text(tried, best, itl_ms):
        typer.echo(line)


def _sweep(
    sources: list[Path] | None, llm: str | None, workload: str | None, profile: str | None, batches: str
) -> BatchSweep:
    from loratwin.advise import sweep_of_runs
    from loratwin.errors import InputError
    from loratwin.records import load_run

    if profile is not None:
        if workload is None or sources:
            raise InputError("--profile sweeps the twin: it needs --workload, and no table")
        return _of_twin(workload, profile, batches)
    if not sources:
        raise InputError("no sweep: give a table (.csv), records, or --profile with --workload")
    if sources[0].suffix == ".csv":
        return _of_table(sources[0], llm)
    return sweep_of_runs({path.stem: load_run(path) for path in sources})


def _of_table(path: Path, llm: str | None) -> BatchSweep:
    from loratwin.advise import read_sweeps
    from loratwin.errors import InputError, UnknownNameError

    sweeps = {sweep.llm: sweep for sweep in read_sweeps(path)}
    if llm is None and len(sweeps) > 1:
        raise InputError(f"{path} has several LLMs: choose one with --llm ({', '.join(sweeps)})")
    if llm is not None and llm not in sweeps:
        raise UnknownNameError("LLM of the table", llm, list(sweeps))
    return sweeps[llm] if llm is not None else next(iter(sweeps.values()))


def _of_twin(workload: str, name: str, batches: str) -> BatchSweep:
    from loratwin.advise import sweep_twin
    from loratwin.bench import load_requests
    from loratwin.cli.options import whole_numbers
    from loratwin.cli.progress import announce_compilation
    from loratwin.perf import load_profile

    announce_compilation()
    return sweep_twin(load_requests(workload), load_profile(name), batches=whole_numbers("--batches", batches))


def _shapes(name: str) -> LlmShapes | None:
    """Sizes of an LLM; None: not known."""
    from loratwin.errors import LoratwinError
    from loratwin.llms import find_llm

    try:
        return find_llm(name)
    except LoratwinError:
        return None
