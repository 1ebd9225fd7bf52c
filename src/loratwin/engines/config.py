"""From a server's arguments, what it says of itself, and its engine's defaults, to the `EngineConfig` of the record."""

from __future__ import annotations

import shutil
import subprocess
from contextlib import suppress
from typing import Any

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config_file import with_config_file
from loratwin.engines.engine import ServerGpu
from loratwin.engines.facts import ServerFacts
from loratwin.errors import InputError
from loratwin.records import EngineConfig


def engine_config(
    arguments: ServerArguments, facts: ServerFacts | None = None, gpu: ServerGpu | None = None
) -> EngineConfig:
    """The configuration: arguments first, then what the server says, then the engine's defaults.

    Parameters
    ----------
    arguments
        A `--config` file among them is read.
    facts
        Of the running server; without them the arguments alone are checked, before a start.
    gpu
        The server's, on which defaults depend; None: the first one of this machine.

    Raises
    ------
    InputError
        The arguments are such as the engine refuses (`ServerArguments.check`), a value is no number, or breaks a rule
        of `EngineConfig`.
    """
    arguments = with_config_file(arguments)
    arguments.check()
    facts = facts or ServerFacts()
    from_server = {
        name: value for name, value in vars(facts).items() if value is not None and name in EngineConfig.model_fields
    }
    from_arguments = asked_config(arguments)
    defaults = arguments.engine.defaults(
        from_server | from_arguments, facts.version or "", _gpu() if gpu is None else gpu
    )
    try:
        return EngineConfig(**defaults | from_server | from_arguments)
    except InputError:
        # what an unusual engine says (blocks of 272 tokens) is left out
        return EngineConfig(**defaults | from_arguments)


def asked_config(arguments: ServerArguments) -> dict[str, Any]:
    """Every field of `EngineConfig` that the engine's table has an option for, where it is given."""
    fields = [name for name in arguments.engine.options if name in EngineConfig.model_fields]
    values = {name: value for name in fields if (value := arguments.value(name)) is not None}
    if not arguments.engine.lora_is_on(arguments):
        values["max_loras"] = 0
        values["max_cpu_loras"] = None
    return values


def changed_config(config: EngineConfig, arguments: ServerArguments) -> EngineConfig:
    """A configuration with what these arguments say in its place; what they do not say stays.

    Raises
    ------
    InputError
        The arguments are such as the engine refuses, or do not fit the rest.
    """
    arguments.check()
    changes = asked_config(arguments.put(enable_lora=True) if config.max_loras else arguments)
    return config.replace(**changes)


def _gpu() -> ServerGpu:
    program = shutil.which("nvidia-smi")
    if program is not None:
        query = [program, "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
        with suppress(OSError, subprocess.SubprocessError, ValueError, IndexError):
            done = subprocess.run(query, capture_output=True, text=True, timeout=30, check=True)
            name, _, mebibytes = done.stdout.splitlines()[0].rpartition(",")
            return ServerGpu(name, float(mebibytes) / 1024)
    return ServerGpu("", 0.0)
