"""`loratwin advise`: the batch, and replicas on one GPU."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.cli.options import JsonFile, check_json, show
from loratwin.lists import whole_numbers
from loratwin.progress import announce_compilation

if TYPE_CHECKING:
    from loratwin.advise import BatchSweep

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
Slots = Annotated[
    int | None, typer.Option(min=0, help="Adapter slots of the twin's server. Default: one for each adapter.")
]

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
    max_loras: Slots = None,
    json: JsonFile = None,
) -> None:
    """Say beyond which batch more memory buys almost nothing (arXiv 2503.08311), and what slots in its place give.

    For example: loratwin advise batch sweep.csv --llm opt-1.3b --times 2
    """
    from loratwin.advise import advise_batch, known_shapes, price_slots
    from loratwin.advise.text import batch_json, batch_text
    from loratwin.bench import load_requests
    from loratwin.perf import load_profile

    check_json(json, inputs=sources or ())
    advice = advise_batch(_sweep(sources, llm, workload, profile, batches, max_loras), itl_ms, times, epsilon)
    shapes, prices = known_shapes(llm or advice.sweep.llm), None
    if workload is not None and profile is not None:
        prices = price_slots(advice, load_requests(workload), load_profile(profile), max_loras, rank)
    show(json, lambda: "\n".join(batch_text(advice, shapes, rank, prices)), lambda: batch_json(advice, prices))


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
    workload: WorkloadFile = None,
    profile: ProfileName = None,
    batches: Batches = _BATCHES,
    max_loras: Slots = None,
    json: JsonFile = None,
) -> None:
    """Predict several servers on one GPU from the sweep of one, and choose their number.

    For example: loratwin advise replicas sweep.csv --llm opt-1.3b --replicas 1,2,4 --itl-ms 20
    """
    from loratwin.advise import advise_replicas, known_shapes
    from loratwin.advise.text import fixed_tokens, replicas_json, replicas_text

    check_json(json, inputs=sources or ())
    sweep = _sweep(sources, llm, workload, profile, batches, max_loras)
    fixed, counts = fixed_tokens(known_shapes(llm or sweep.llm), sweep.llm), whole_numbers("--replicas", numbers)
    advice = advise_replicas(sweep, counts, fixed, batch=batch, slo_ms=itl_ms, requests=requests)
    show(json, lambda: "\n".join(replicas_text(advice, itl_ms)), lambda: replicas_json(advice))


def _sweep(
    sources: list[Path] | None,
    llm: str | None,
    workload: str | None,
    profile: str | None,
    batches: str,
    max_loras: int | None,
) -> BatchSweep:
    from loratwin.advise import find_sweep

    if profile is not None:
        announce_compilation()
    tried = whole_numbers("--batches", batches)
    return find_sweep(sources or (), llm, workload=workload, profile=profile, batches=tried, max_loras=max_loras)
