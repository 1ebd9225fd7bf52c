"""`loratwin advise`: the batch, and replicas on one GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.cli.groups import command_group, grouped
from loratwin.cli.options import JsonFile, check_json, show
from loratwin.lists import whole_numbers
from loratwin.progress import announce_compilation

if TYPE_CHECKING:
    from loratwin.advise import BatchSweep

app = command_group("Which batch, and how many replicas on one GPU.")

Sources = Annotated[
    list[Path] | None,
    typer.Argument(help="A table of measured runs (.csv), or records that differ in max_num_seqs.", show_default=False),
]
Llm = Annotated[str | None, typer.Option(help="The LLM: which one of the table, and its sizes.")]
Itl = Annotated[float | None, typer.Option(min=0.001, help="Most milliseconds between tokens.", metavar="MS")]


@dataclass(frozen=True)
class TwinSweep:
    """A sweep of the twin, instead of a table."""

    workload: Annotated[str | None, typer.Option(help="With --profile: sweep the twin with this workload.")] = None
    profile: Annotated[str | None, typer.Option(help="Sweep the twin instead of a table.")] = None
    batches: Annotated[str, typer.Option(help="Batches that the twin is asked for.")] = (
        "1,2,4,8,16,32,64,96,128,192,256,384,512"
    )
    max_loras: Annotated[
        int | None, typer.Option(min=0, help="Adapter slots of the twin's server. Default: one for each adapter.")
    ] = None

    def find(self, sources: list[Path] | None, llm: str | None) -> BatchSweep:
        """The sweep of the table or the records, or of the twin."""
        from loratwin.advise import find_sweep

        if self.profile is not None:
            announce_compilation()
        tried = whole_numbers("--batches", self.batches)
        return find_sweep(sources or (), llm, **{**vars(self), "batches": tried})


@app.command()
@grouped
def batch(
    *,
    sources: Sources = None,
    llm: Llm = None,
    itl_ms: Itl = None,
    times: Annotated[
        float | None, typer.Option(min=0.001, help="Instead: so many times that at batch 32.", show_default="2")
    ] = None,
    epsilon: Annotated[float, typer.Option(help="Least efficiency T(B) / (B T(1)).")] = 0.1,
    rank: Annotated[int, typer.Option(min=1, help="Of adapter slots that would fit what is free.")] = 16,
    twin: TwinSweep,
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
    advice = advise_batch(twin.find(sources, llm), itl_ms, times, epsilon)
    shapes, prices = known_shapes(llm or advice.sweep.llm), None
    if twin.workload is not None and twin.profile is not None:
        prices = price_slots(advice, load_requests(twin.workload), load_profile(twin.profile), twin.max_loras, rank)
    show(json, lambda: "\n".join(batch_text(advice, shapes, rank, prices)), lambda: batch_json(advice, prices))


@app.command()
@grouped
def replicas(
    *,
    sources: Sources = None,
    llm: Llm = None,
    numbers: Annotated[str, typer.Option("--replicas", help="Numbers of replicas to try.")] = "1,2,4",
    batch: Annotated[int | None, typer.Option(min=1, help="Batch of each; default: the best one.")] = None,
    itl_ms: Itl = None,
    requests: Annotated[int | None, typer.Option(min=1, help="All at once so many; default: a steady stream.")] = None,
    twin: TwinSweep,
    json: JsonFile = None,
) -> None:
    """Predict several servers on one GPU from the sweep of one, and choose their number.

    For example: loratwin advise replicas sweep.csv --llm opt-1.3b --replicas 1,2,4 --itl-ms 20
    """
    from loratwin.advise import advise_replicas, known_shapes
    from loratwin.advise.text import fixed_tokens, replicas_json, replicas_text

    check_json(json, inputs=sources or ())
    sweep = twin.find(sources, llm)
    fixed, counts = fixed_tokens(known_shapes(llm or sweep.llm), sweep.llm), whole_numbers("--replicas", numbers)
    advice = advise_replicas(sweep, counts, fixed, batch=batch, slo_ms=itl_ms, requests=requests)
    show(json, lambda: "\n".join(replicas_text(advice, itl_ms)), lambda: replicas_json(advice))
