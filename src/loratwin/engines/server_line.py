"""The server that people have: the line that starts it, as typed, or as a file of a deployment holds it.

find_line("vllm serve tiny --max-loras 8").arguments.whole("max_loras")  # 8
find_line("compose.yaml")  # its one service that starts a server; compose.yaml#NAME where there are several
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import asked_config
from loratwin.engines.config_file import with_config_file
from loratwin.engines.line_files import started_in
from loratwin.engines.registry import find_engine
from loratwin.engines.shell import Started, started_by
from loratwin.errors import InputError
from loratwin.records import EngineConfig

_FILE = re.compile(r"\S*\.(ya?ml|sh|bash|json|txt)(#\S+)?")
_UNKNOWN = re.compile(r"\$[({A-Za-z_]")


@dataclass(frozen=True)
class ServerLine:
    """A server's line.

    Parameters
    ----------
    arguments
        Its arguments; those of a `--config` file are among them.
    where
        What it was read from, to be shown.
    version
        Of the engine, by the container's image, as "vllm-0.11.0"; "": not said.
    gpu
        As Kubernetes' labels name it; "": not said.
    """

    arguments: ServerArguments
    where: str
    version: str = ""
    gpu: str = ""

    @property
    def parts(self) -> list[str]:
        """Each option with its values as one text, secrets hidden: lines of a diff."""
        return self.arguments.shown_parts


def find_line(line_or_file: str) -> ServerLine:
    """The one server of a line or file.

    Parameters
    ----------
    line_or_file
        "vllm serve ...", as a shell takes it (also `python -m ...`, `docker run ... vllm/vllm-openai ...`); or a file:
        vLLM's `--config` YAML, a compose file, Kubernetes manifests, Helm values, a shell script. FILE#NAME names one
        of several servers in a file.

    Raises
    ------
    InputError
        No server is in it, several that differ are, a variable is not told, or its arguments are such as the engine
        refuses.
    """
    name = line_or_file.strip()
    is_file = _FILE.fullmatch(name) is not None or ("\n" not in name and len(name) < 1024 and Path(name).is_file())
    if not is_file:
        return _line(_only(started_by(line_or_file), "--serve", ""), Path(), "--serve")
    file, _, which = name.partition("#")
    path = Path(file)
    if not path.is_file():
        raise InputError(f"--serve {file}: no such file")
    return _line(_only(started_in(path), file, which), path.parent, file)


def _only(servers: Sequence[Started], where: str, which: str) -> Started:
    """The one that is meant; several that start the same count as one."""
    if not servers:
        raise InputError(
            f"{where}: no line that starts a server is in it; expected `vllm serve LLM ...`, a list of its arguments, "
            "or a YAML file of vLLM's --config"
        )
    if which:
        named = [one for one in servers if one.name == which]
        if not named:
            raise InputError(f"{where}: no server {which!r} in it; there are {', '.join(one.name for one in servers)}")
        servers = named
    if len({(one.engine, one.words) for one in servers}) > 1:
        names = [one.name or "?" for one in servers]
        raise InputError(f"{where}: several servers are in it ({', '.join(names)}); name one: {where}#{names[0]}")
    return servers[0]


def _line(started: Started, folder: Path, where: str) -> ServerLine:
    arguments = with_config_file(ServerArguments(find_engine(started.engine), started.words), folder)
    for part in arguments.shown_parts:
        if _UNKNOWN.search(part) and not part.startswith("{"):
            _refuse_unknown(part, arguments, where)
    arguments.check()
    named = f"{where}#{started.name}" if started.name else where
    return ServerLine(arguments, named, started.version, started.gpu)


def _refuse_unknown(part: str, arguments: ServerArguments, where: str) -> None:
    """A variable whose value nobody tells matters where the option does."""
    known = {option.name for field, option in arguments.engine.options.items() if field not in _NO_MATTER}
    first = shlex.split(part)[0].partition("=")[0]
    if first in known or not first.startswith("-"):
        raise InputError(f"{where}: {part}: the variable's value is not said there; put the value in its place")


_NO_MATTER = {"host", "port", "api_key", "admin_api_key", "hf_token", "ssl_keyfile", "ssl_keyfile_password"}


def defaults_of(line: ServerLine) -> dict[str, Any]:
    """What the line makes of a server, by field of `EngineConfig`, and `llm`, `engine`, `dtype` and so on beside them.

    Where it says nothing, what the engine takes whatever the machine: one slot of rank 16 with --enable-lora, none
    without. Limits that depend on the GPU are absent.

    Raises
    ------
    InputError
        A value cannot be read.
    """
    arguments = line.arguments
    found = asked_config(arguments)
    if arguments.engine.lora_is_on(arguments):
        found = {"max_loras": 1, "max_lora_rank": EngineConfig.model_fields["max_lora_rank"].default} | found
    found = {name: value for name, value in found.items() if value is not None}
    said = {"llm": arguments.text("model"), "engine": line.version, "server_args": shlex.join(arguments.words)}
    said |= {name: arguments.text(name) for name in ("dtype", "quantization")}
    parallel = {name: arguments.whole(name) for name in ("tensor_parallel", "pipeline_parallel")}
    return found | {name: value for name, value in {**said, **parallel}.items() if value}


_BESIDE = {"server_args", "llm", "engine", "dtype", "quantization", "tensor_parallel", "pipeline_parallel",
           "enable_prefix_caching"}  # fmt: skip
"""What the profile or the record says, where a command has no option for it."""


def values_for(line: ServerLine, options: Collection[str], chosen: Collection[str] = ()) -> dict[str, Any]:
    """What a line says for the options of a command, by their names.

    Parameters
    ----------
    line
        A server's line.
    options
        Names of the command's options. One that takes `server_args` gets the line's words whole, and no values.
    chosen
        What the command looks for by itself, whatever the line says.

    Raises
    ------
    InputError
        The line has another value than the default, which the command does not take.
    """
    said = defaults_of(line)
    if "server_args" in options:
        return {name: said[name] for name in ("server_args", "engine") if name in said and name in options}
    for name in said.keys() - set(options) - set(chosen) - _BESIDE:
        if said[name] != EngineConfig.model_fields[name].default:
            raise InputError(f"--serve: {name} = {said[name]} of the line is not taken by this command")
    return {name: value for name, value in said.items() if name in options and name not in chosen}
