"""Free ports, and who listens on one."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from loratwin.errors import InputError


def free_port(host: str, port: int | None = None) -> int:
    """A port that nobody listens on: this one, or any. It was bound, so it is free; it stays so for the moment only.

    Raises
    ------
    InputError
        The port is taken, or the host is not this machine.
    """
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: a port just given up is free
        try:
            probe.bind((host, port or 0))
        except (OSError, OverflowError) as error:
            what = f"port {port} of {host}" if port else host
            raise InputError(f"cannot listen on {what}: {getattr(error, 'strerror', None) or error}") from None
        return int(probe.getsockname()[1])


def listens(pids: Iterable[int], port: int) -> bool | None:
    """Whether one of these processes listens on the port, by /proc; None where there is none.

    A server that answers on the port need not be ours: another process may have taken it in the meantime.
    """
    sockets = _listening(port)
    if sockets is None:
        return None
    return any(sockets & _open(pid) for pid in pids)


def listening(port: int) -> list[int]:
    """Ids of the processes that listen on a port, lowest first, as far as they are ours to look at (by /proc)."""
    sockets = _listening(port)
    if not sockets:
        return []
    pids = sorted(int(folder.name) for folder in Path("/proc").glob("[0-9]*"))
    return [pid for pid in pids if sockets & _open(pid)]


def _listening(port: int) -> set[str] | None:
    """Sockets in state LISTEN (0A) on the port, as links in /proc/PID/fd name them."""
    sockets = set()
    for table in (Path("/proc/net/tcp"), Path("/proc/net/tcp6")):
        try:
            rows = table.read_text().splitlines()[1:]
        except OSError:
            continue
        for row in rows:
            fields = row.split()
            if fields[3] == "0A" and int(fields[1].rpartition(":")[2], 16) == port:
                sockets.add(f"socket:[{fields[9]}]")
    return sockets if Path("/proc/net/tcp").exists() else None


def _open(pid: int) -> set[str]:
    """What the links in /proc/PID/fd name; a file that is closed meanwhile hides none of the others."""
    links: set[str] = set()
    folder = f"/proc/{pid}/fd"
    with suppress(OSError):  # the process ended
        for name in os.listdir(folder):
            with suppress(FileNotFoundError):
                links.add(os.readlink(f"{folder}/{name}"))
    return links
