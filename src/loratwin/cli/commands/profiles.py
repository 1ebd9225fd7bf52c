"""`loratwin profiles`: what was fitted, on what, and how far it can be trusted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from loratwin.perf import Profile

app = typer.Typer(help="Performance profiles: GPU, engine and LLM.", no_args_is_help=True, rich_markup_mode=None)


@app.command("list")
def list_profiles() -> None:
    """List the profiles that come with the package."""
    from loratwin.perf import profile_names

    for name in profile_names():
        typer.echo(name)


@app.command()
def show(name: Annotated[str, typer.Argument(help="Name of a profile, or a profile file (.yaml).")]) -> None:
    """Show a profile: its card, held-out errors, domain and coefficients."""
    from loratwin.perf import load_profile

    typer.echo(text(load_profile(name)))


def text(profile: Profile) -> str:
    """A profile as plain text."""
    data = profile.model_dump(mode="json")
    card, domain = data.pop("card"), data.pop("domain")
    parts = {key: value for key, value in data.items() if isinstance(value, dict)}
    errors = card.pop("held_out_error") or {"": "not stated"}
    lines = [profile.name, *_table({**card, "hash of the coefficients": profile.digest})]
    lines += ["", "held-out error (runs that were not fitted)", *_table(errors)]
    lines += [
        "",
        "domain (beyond it, results are marked)",
        *_table({k: f"{v[0]} to {v[1]}" for k, v in domain.items()}),
    ]
    for title, values in parts.items():
        lines += ["", title.replace("_", " "), *_table(values)]
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
