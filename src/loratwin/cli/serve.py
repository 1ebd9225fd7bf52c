"""`--serve`: a server's line, whose values become the defaults of a command's other options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from loratwin.errors import InputError

if TYPE_CHECKING:
    from loratwin.engines.server_line import ServerLine
    from loratwin.perf import Profile

_CHOSEN = {"plan": {"max_loras", "max_cpu_loras", "max_lora_rank", "max_num_seqs"}}
"""What a command looks for by itself, whatever the line says."""

_BESIDE = {"server_args", "llm", "engine", "dtype", "quantization", "tensor_parallel", "pipeline_parallel",
           "enable_prefix_caching"}  # fmt: skip
"""What the profile or the record says, where the command has no option for it."""


def _take(context: typer.Context, given: str | None) -> str | None:
    """Make the line's values the defaults of this command; what is typed beside it wins."""
    if given is None or context.resilient_parsing:
        return given
    from loratwin.engines.server_line import defaults_of, find_line
    from loratwin.records import EngineConfig

    said = defaults_of(find_line(given))
    options = {str(parameter.name): parameter for parameter in context.command.params}
    if "server_args" in options:
        said = {name: said[name] for name in ("server_args", "engine") if name in said}
    else:
        chosen = _CHOSEN.get(str(context.command.name), set())
        for name in said.keys() - options.keys() - chosen - _BESIDE:
            if said[name] != EngineConfig.model_fields[name].default:
                raise InputError(f"--serve: {name} = {said[name]} of the line is not taken by this command")
        said = {name: value for name, value in said.items() if name not in chosen}
    told = {name: _as_typed(options[name], value) for name, value in said.items() if name in options}
    context.default_map = {**(context.default_map or {}), **told}
    return given


def _as_typed(option: Any, value: Any) -> Any:
    """A value as an option takes it from the command line."""
    text = value if isinstance(value, bool | float) else str(value)
    return [text] if getattr(option, "multiple", False) else text


def line_beside(given: str | None, profile: Profile) -> ServerLine | None:
    """The server's line, if there is one, checked against a profile; what differs is said on stderr."""
    from loratwin.engines.server_line import find_line
    from loratwin.simulate import check_line

    if given is None:
        return None
    line = find_line(given)
    for remark in check_line(line, profile):
        typer.echo(f"note: {remark}", err=True)
    return line


Serve = Annotated[
    str | None,
    typer.Option(
        "--serve",
        is_eager=True,
        callback=_take,
        metavar="LINE|FILE",
        help='Your server: "vllm serve ...", or the --config, compose, Kubernetes or Helm file that holds the line; '
        "options typed beside it win.",
        show_default=False,
    ),
]
