"""`loratwin plan`: what to run on one GPU."""

from __future__ import annotations

import json as json_format
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.perf import Profile
    from loratwin.plan import Candidate, Plan
    from loratwin.workload import WorkloadSpec


def plan(
    workload: Annotated[str, typer.Argument(help="Workload file, or example:NAME.")],
    profile: Annotated[str, typer.Option(help="GPU, engine version and LLM; or a profile file.", show_default=False)],
    objective: Annotated[str, typer.Option(help="throughput, or latency (mean end to end).")] = "throughput",
    slo: Annotated[
        str | None, typer.Option(help="Limits to keep, as ttft_p99=2s,tpot_p99=100ms.", show_default=False)
    ] = None,
    slo_for: Annotated[
        str | None,
        typer.Option(
            metavar="all|groups|adapters",
            help="Of whom the SLO is asked: the server as a whole, each group, or each adapter.",
            show_default="all",
        ),
    ] = None,
    headroom: Annotated[
        str | None,
        typer.Option(
            metavar="PERCENT",
            help="How much higher all rates can be before it starves or misses the SLO; 0 plans to the edge.",
            show_default="20%",
        ),
    ] = None,
    scale: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME=FACTOR", help="What if an adapter, a group or all ask for so much? Can be repeated."
        ),
    ] = None,
    add: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT", help="What if these came, as '24 adapters at 0.1/s, rank 16'? Can be repeated."),
    ] = None,
    slots: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Try only these max_loras.", show_default=False)
    ] = None,
    max_num_seqs: Annotated[
        str | None, typer.Option(metavar="N,N,...", help="Try only these.", show_default=False)
    ] = None,
    max_num_batched_tokens: Annotated[int, typer.Option(min=1, help="Tokens of a step.")] = 2048,
    max_model_len: Annotated[
        int | None, typer.Option(min=1, help="Longest context; by default the LLM's.", show_default=False)
    ] = None,
    gpu_memory_utilization: Annotated[
        float | None,
        typer.Option(
            help="Part of the GPU memory to fill; by default that of the profile's vLLM, 0.9 or 0.92.",
            show_default=False,
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="First seed.")] = 0,
    seeds: Annotated[int, typer.Option(min=1, help="Draws of the workload that each figure is the mean of.")] = 3,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="HTML report to write; by default plan.html.", show_default=False),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the plan as JSON, too.", show_default=False)] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes to use.")] = 2,
    fast: Annotated[
        bool, typer.Option("--fast", help="Slots by the learned model; the twin only checks them, with one seed.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check/--no-check", help="With --fast: check with the twin, or only print the answer.")
    ] = True,
) -> None:
    """Find the slots and limits to run for a workload on one GPU, or how many of its adapters one GPU serves.

    For example: loratwin plan example:support-desk --profile h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct
    """
    from loratwin.cli.progress import announce_compilation
    from loratwin.metrics import parse_slo
    from loratwin.perf import load_profile
    from loratwin.plan import HEADROOM, parse_headroom, plan_json
    from loratwin.plan import plan as find_plan
    from loratwin.plan.what_if import check_names, parse_added, parse_scale, what_if, what_if_json, what_if_rows
    from loratwin.records import write_atomically
    from loratwin.workload import load_spec

    limits = parse_slo(slo) if slo is not None else None
    share = HEADROOM if headroom is None else parse_headroom(headroom)
    slot_list, sequences = _numbers("--slots", slots), _numbers("--max-num-seqs", max_num_seqs)
    changes = [*map(parse_scale, scale or ()), *map(parse_added, add or ())]
    chosen_profile, spec = load_profile(profile), load_spec(workload)
    check_names(changes, spec)
    if not check:
        _check_no_plan(fast, output, json)
    output = output or Path("plan.html")
    _check_outputs(output, json, (workload, profile))
    if fast:
        lines, slot_list, sequences = _learned(spec, chosen_profile, objective, slot_list, sequences, seed)
        typer.echo("\n".join(lines) + ("\n" if check else ""))
        if not check:
            return
        seeds = 1
    announce_compilation()
    with _progress() as progress:
        found = find_plan(
            spec,
            chosen_profile,
            objective=objective,  # type: ignore[arg-type]  # checked there
            slo=limits,
            slo_for=slo_for,  # type: ignore[arg-type]  # checked there
            headroom=share,
            seeds=range(seed, seed + seeds),
            slots=slot_list,
            max_num_seqs=sequences,
            max_num_batched_tokens=max_num_batched_tokens,
            max_model_len=max_model_len,
            gpu_memory_utilization=gpu_memory_utilization,
            processes=processes,
            progress=progress,
            name=workload,
        )
        cases = what_if(found, spec, changes, processes=processes, progress=progress) if changes else ()
    from loratwin.report import plan_report

    page = plan_report(found, cases)
    if json is not None:
        data = plan_json(found) | {"what_if": what_if_json(cases, found)}
        write_atomically(json, json_format.dumps(data, indent=1, allow_nan=False) + "\n")
    write_atomically(output, page)
    typer.echo(plan_text(found))
    if cases:
        typer.echo("\nWhat if (the chosen configuration, and what to run where it fails):")
        typer.echo(aligned(what_if_rows(cases, found)))
    typer.echo(f"\nReport: {output}")


def _check_no_plan(fast: bool, output: Path | None, json: Path | None) -> None:
    """What cannot be asked for together with `--no-check`."""
    if not fast:
        raise InputError("--no-check: goes with --fast; without it, all figures are the twin's")
    for option, path in (("--output", output), ("--json", json)):
        if path is not None:
            raise InputError(
                f"{option}: with --no-check there is no plan to write (loratwin learn predict --no-check --json FILE "
                "writes what the learned model says)"
            )


def _check_outputs(output: Path, json: Path | None, inputs: Sequence[str]) -> None:
    """Refuse before long work files that cannot be written, or would replace each other or what they are made of."""
    from loratwin.cli.commands.report import check_html
    from loratwin.records import check_writable

    check_html(output)
    if json is not None:
        check_writable(json)
        if json.resolve() == output.resolve():
            raise InputError(f"{json} is given as both --output and --json")
    for path in filter(None, (output, json)):
        if path.exists() and any(Path(each).exists() and path.samefile(each) for each in inputs):
            raise InputError(f"{path} is a file that the plan is made of: give another name")


def _learned(
    spec: WorkloadSpec,
    profile: Profile,
    objective: str,
    slots: list[int] | None,
    sequences: list[int] | None,
    seed: int,
) -> tuple[list[str], list[int], list[int]]:
    """What the learned model says, and the slots and sequences to check.

    It was learned with one `max_num_seqs`. Where the workload starves, the slots are those for as many adapters as can
    be served.
    """
    from loratwin.learn.cases.case import MAX_NUM_SEQS
    from loratwin.learn.cases.labels import nearest_slots
    from loratwin.learn.cases.search import SLOTS
    from loratwin.learn.models.answer import answer, answer_lines, mix_of_workload
    from loratwin.learn.models.model import load_model
    from loratwin.plan.choice import check_objective
    from loratwin.workload import draw

    check_objective(objective)
    model, drawn = load_model(), draw(spec, seed)
    found = answer(drawn, profile, model, objective, slots)
    best = found.slots or nearest_slots(model.workload_figure("slots", mix_of_workload(drawn), profile), slots or SLOTS)
    return ["Predicted by the learned model:", *answer_lines(found)], [best], sequences or [MAX_NUM_SEQS]


def _numbers(option: str, text: str | None) -> list[int] | None:
    """`8,16` as numbers."""
    if text is None:
        return None
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise InputError(f"{option} {text}: whole numbers with commas between them are expected, as 8,16,32") from None


@contextmanager
def _progress() -> Iterator[Callable[[int, int, str], None]]:
    """One bar on stderr, whose end moves as more simulations turn out to be needed; nothing without a terminal."""
    if not sys.stderr.isatty():
        yield lambda done, total, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    what = TextColumn("{task.description}")
    columns = (TextColumn("simulating"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), what)
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        bar = bars.add_task("", total=None)
        yield lambda done, total, what: bars.update(bar, completed=done, total=total, description=what)


def plan_text(plan: Plan) -> str:
    """The plan for a terminal: verdict, table, commands, remarks."""
    from loratwin.plan import commands, explanation, verdict

    parts = [verdict(plan), *explanation(plan), "", "Simulated:", alternatives_table(plan.table, plan)]
    if plan.notes:
        parts += ["", "Extrapolated:", *(f"  {note}" for note in plan.notes)]
    for command in commands(plan):
        parts += ["", f"{command.title}:", command.text, *(f"  {remark}" for remark in command.remarks)]
    return "\n".join(parts)


HEADER = ("slots", "", "tokens/s", "served", "TTFT", "TTFT p99", "TPOT", "ITL p99", "KV tokens", "margin")


def alternatives_table(candidates: Sequence[Candidate], plan: Plan) -> str:
    """The alternatives as aligned text."""
    rows = [HEADER, *(_row(each, plan) for each in candidates if each.starts)]
    width = max(len(row[0]) for row in rows)
    lines = [f"{each.slots:>{width}}  does not start: {each.why_not}" for each in candidates if not each.starts]
    return "\n".join([aligned(rows), *lines])


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Cells in columns, to the right."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)


def _row(each: Candidate, plan: Plan) -> tuple[str, ...]:
    from loratwin.plan.words import duration, margin_text

    times = ("ttft_mean_ms", "ttft_p99_ms", "tpot_mean_ms", "itl_p99_ms")
    return (
        str(each.slots),
        _status(each, plan),
        f"{each.throughput:,.0f}",
        f"{100 * each.mean('served_share'):.1f} %",
        *(duration(each.mean(name)) for name in times),
        f"{each.kv_tokens:,}",
        margin_text(each.margin),
    )


def _status(each: Candidate, plan: Plan) -> str:
    from loratwin.plan.words import status

    if plan.best is not None and each.config == plan.best.config:
        return "chosen"
    return status(each, plan.slo)
