"""`loratwin profiles`: what was fitted, on what, and how far it can be trusted; profiles of what was not measured."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loratwin.perf import Profile
    from loratwin.perf.compare import Row

app = typer.Typer(help="Performance profiles: GPU, engine and LLM.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_profiles(
    long: Annotated[bool, typer.Option("--long", help="With hash, origin and where it is.")] = False,
) -> None:
    """List the profiles that come with the package and your own."""
    from loratwin.perf import profile_names, user_names

    mine = user_names()
    for name in profile_names():
        typer.echo(_described(name, name in mine) if long else name)


def _described(name: str, is_mine: bool) -> str:
    """A line about a profile, also about one that cannot be read."""
    from loratwin.errors import InputError
    from loratwin.perf import load_profile

    whose = f"{'yours' if is_mine else 'shipped':8}  {name}"
    try:
        profile = load_profile(name)
    except InputError as error:
        return f"{'-':16}  {'damaged':8}  {whose}: {error}"
    return f"{profile.digest}  {profile.origin:8}  {whose}"


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a profile, or a profile file (.yaml).")]) -> None:
    """Show a profile: its card, held-out errors, domain and coefficients."""
    from loratwin.perf import load_profile

    typer.echo(text(load_profile(name)))


@app.command()
def compare(
    first: Annotated[str, typer.Argument(help="Name of a profile, or a profile file (.yaml).")],
    second: Annotated[str, typer.Argument(help="The one to compare with it.")],
) -> None:
    """Show two profiles side by side: KV capacity, decode steps, and every coefficient with its difference."""
    from loratwin.perf import compare_profiles, load_profile

    profiles = [load_profile(first), load_profile(second)]
    for label, profile in zip("AB", profiles, strict=True):
        typer.echo(f"{label}: {profile.name} ({profile.origin}, {profile.digest})")
    typer.echo("\n".join(_side_by_side(compare_profiles(*profiles))))


@app.command()
def add(
    file: Annotated[Path, typer.Argument(help="Profile file (.yaml).")],
    replace: Annotated[bool, typer.Option("--replace", help="Overwrite your profile of the same name.")] = False,
) -> None:
    """Check a profile file and keep it: from then on it is found by its name."""
    from loratwin.perf import add_profile

    profile, path = add_profile(str(file), replace)
    typer.echo(f"{profile.name} is now {path}")


@app.command()
def assume(
    gpu: Annotated[str, typer.Option("--gpu", help="GPU, as h100-sxm; an unknown one lists the known.")],
    llm: Annotated[str, typer.Option("--llm", help="LLM: a name, as llama-3.1-8b-instruct, or a local config.json.")],
    out: Annotated[Path, typer.Option("-o", "--output", help="Profile file to write (.yaml).")],
    engine: Annotated[str, typer.Option("--engine", help="Version of vLLM.")] = "vllm-0.8.5",
    tensor_parallel: Annotated[int, typer.Option("--tensor-parallel", min=1, help="GPUs that share the LLM.")] = 1,
) -> None:
    """Make a profile of a GPU and an LLM that were not measured, from data sheet and shapes; it is marked as assumed.

    For example: loratwin profiles assume --gpu h100-sxm --llm llama-3.1-8b-instruct --engine vllm-0.32.0 -o my.yaml
    """
    from loratwin.errors import InputError
    from loratwin.perf import assume as assumed
    from loratwin.perf import find_gpu, find_llm, save_profile

    if out.suffix not in (".yaml", ".yml"):
        raise InputError(f"{out}: the file of a profile must end in .yaml")
    profile = assumed(find_gpu(gpu), find_llm(llm, engine), engine, tensor_parallel)
    save_profile(profile, out)
    typer.echo(f"{profile.name}: {out}")
    for note in profile.notes:
        typer.echo(f"note: {note}", err=True)


def _side_by_side(rows: list[Row]) -> list[str]:
    """One line for each figure, below a line for each group."""
    lines, group = [], ""
    width = max(len(row.name) for row in rows)
    for row in rows:
        if row.group != group:
            group = row.group
            lines += ["", f"{group:{width + 2}} {'A':>12} {'B':>12}"]
        change = "" if row.difference is None else f"{100 * row.difference:+8.1f} %"
        lines.append(f"  {row.name:{width}} {_figure(row.first)} {_figure(row.second)} {row.unit:6} {change}".rstrip())
    return lines


def _figure(value: float | None) -> str:
    if value is None:
        return f"{'-':>12}"
    return f"{value:12,.0f}" if abs(value) >= 1000 else f"{value:12.4g}"


def text(profile: Profile) -> str:
    """A profile as plain text."""
    data = profile.model_dump(mode="json")
    card, domain = data.pop("card"), data.pop("domain")
    uncertainty = data.pop("uncertainty")
    parts = {key: value for key, value in data.items() if isinstance(value, dict)}
    errors = card.pop("held_out_error") or {"": "not stated"}
    state = {"engine": profile.engine, "origin": profile.origin, "hash of the coefficients": profile.digest}
    lines = [profile.name, *_table({**card, **state})]
    lines += ["", "held-out error (runs that were not fitted)", *_table(errors)]
    lines += [
        "",
        "domain (beyond it, results are marked)",
        *_table({k: f"{v[0]} to {v[1]}" for k, v in domain.items()}),
    ]
    for title, values in parts.items():
        lines += ["", title.replace("_", " "), *_table(values)]
    if uncertainty:
        lines += ["", "standard errors", *_table(uncertainty["standard_errors"] or {"": "not stated"})]
    return "\n".join(lines)


def _table(values: dict[str, object]) -> list[str]:
    """One line each, the names in a column; lists as further lines."""
    width = max(len(name) for name in values)
    return [
        f"  {name if first else '':{width}}  {line}".rstrip()
        for name, value in values.items()
        for first, line in _lines(value)
    ]


def _lines(value: object) -> list[tuple[bool, object]]:
    items = list(value) if isinstance(value, (list, tuple)) else [value]
    return [(i == 0, item) for i, item in enumerate(items)] or [(True, "none")]
