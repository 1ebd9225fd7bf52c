"""`--serve`: a server's line, whose values become the defaults of a command's other options."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

import typer

_CHOSEN = {"plan": {"max_loras", "max_cpu_loras", "max_lora_rank", "max_num_seqs"}}
"""What a command looks for by itself, whatever the line says."""


def _take(context: typer.Context, given: str | None) -> str | None:
    """Make the line's values the defaults of this command; what is typed beside it wins."""
    if given is None or context.resilient_parsing:
        return given
    from loratwin.engines.server_line import find_line, values_for

    options = {str(parameter.name): parameter for parameter in context.command.params}
    said = values_for(find_line(given), options, _CHOSEN.get(str(context.command.name), ()))
    told = {name: _as_typed(options[name], value) for name, value in said.items()}
    context.default_map = {**(context.default_map or {}), **told}
    return given


def _as_typed(option: Any, value: Any) -> Any:
    """A value as an option takes it from the command line."""
    several = [str(one) for one in value] if isinstance(value, list | tuple) else None
    text = value if isinstance(value, bool | float) else ",".join(several) if several else str(value)
    return (several or [text]) if getattr(option, "multiple", False) else text


def note(remarks: Iterable[str]) -> None:
    """What is taken for granted, on stderr: after all checks, so that an error stands alone."""
    for remark in remarks:
        typer.echo(f"note: {remark}", err=True)


Serve = Annotated[
    str | None,
    typer.Option(
        "--serve",
        is_eager=True,
        callback=_take,
        metavar="LINE|FILE",
        help='Your server: "vllm serve ...", or the --config, compose, Kubernetes or Helm file that holds the line; '
        "options typed beside it win.",
    ),
]
