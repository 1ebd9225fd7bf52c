"""A server on this machine that somebody else started: its command line and environment, where we may read them."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.as_started import own_variables
from loratwin.engines.config_file import with_config_file
from loratwin.engines.registry import find_engine
from loratwin.engines.shell import started
from loratwin.errors import InputError
from loratwin.launch.ports import listening


class LocalServer(NamedTuple):
    """What a process was started with.

    Parameters
    ----------
    arguments
        Of its engine; those of a `--config` file are among them, where it can be read.
    env
        Environment variables that say how the engine computes, as NAME=value; None: not ours to read.
    """

    arguments: ServerArguments
    env: tuple[str, ...] | None


def is_local(url: str) -> bool:
    """Whether an address is this machine's own."""
    host = urlsplit(url).hostname or ""
    return host in ("localhost", "::1") or host.startswith("127.")


def local_server(url: str) -> LocalServer | None:
    """The server that listens at an address of this machine, by /proc.

    None: it is elsewhere, of another user, in a container of its own, or what listens there is no engine that we know
    (a gateway, or processes that hide their command line).
    """
    parts = urlsplit(url)
    if not is_local(url):
        return None
    for pid in listening(parts.port or 80):
        with suppress(OSError, InputError):
            if (server := _server(Path(f"/proc/{pid}"))) is not None:
                return server
    return None


def _server(folder: Path) -> LocalServer | None:
    words = [word.decode("utf-8", "replace") for word in (folder / "cmdline").read_bytes().split(b"\0")[:-1]]
    line = started(words)
    if line is None:
        return None
    arguments = with_config_file(ServerArguments(find_engine(line.engine), line.words), folder / "cwd")
    arguments.check()
    try:
        variables = (folder / "environ").read_bytes().decode("utf-8", "replace").split("\0")
    except OSError:
        return LocalServer(arguments, None)
    environment = dict(variable.partition("=")[::2] for variable in variables if variable)
    return LocalServer(arguments, own_variables(environment, arguments.engine.variables))
