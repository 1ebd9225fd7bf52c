"""A private MPS daemon, so that replicas share one GPU at the same time and not in turns.

A CUDA process that cannot reach the daemon goes on without it and says nothing. So the daemon's own lists of clients
are compared with the process ids of the servers. Nobody else's daemon is touched: ours has its own pipe directory.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

from loratwin.errors import InputError
from loratwin.interrupts import Interrupts
from loratwin.launch.failure import ServerError, telling_lines
from loratwin.launch.guarded import Guarded

PROGRAM = "nvidia-cuda-mps-control"
ANSWER_TIMEOUT_S = 30.0
START_TIMEOUT_S = 30.0
GRACE_S = 5.0


class HasProcesses(Protocol):
    """What of a server is needed here."""

    @property
    def url(self) -> str:
        """Where it answers."""

    def processes(self) -> list[int]:
        """Ids of all its processes."""


class Mps:
    """A running MPS daemon. Made by `start_mps`."""

    def __init__(self, program: str, pipes: Path, logs: Path) -> None:
        self.env = {"CUDA_MPS_PIPE_DIRECTORY": str(pipes), "CUDA_MPS_LOG_DIRECTORY": str(logs)}
        """To be given to every server that is to use it."""
        self._program = program

    def ask(self, command: str) -> str:
        """What the daemon answers to a command of `nvidia-cuda-mps-control`.

        Raises
        ------
        ServerError
            It does not answer.
        """
        try:
            done = subprocess.run(
                [self._program], input=command + "\n", capture_output=True, text=True,
                env=os.environ | self.env, timeout=ANSWER_TIMEOUT_S,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ServerError(f"the MPS daemon does not answer to {command!r}: {error}") from None
        if done.returncode:
            reason = " ".join((done.stderr or done.stdout).split())
            raise ServerError(f"the MPS daemon does not answer to {command!r}: {reason or done.returncode}")
        return done.stdout

    def clients(self) -> set[int]:
        """Ids of the processes that use the GPU through this daemon."""
        servers = _ids(self.ask("get_server_list"))
        return {pid for server in servers for pid in _ids(self.ask(f"get_client_list {server}"))}

    def check(self, servers: Iterable[HasProcesses]) -> None:
        """Make sure that a process of each server uses the daemon.

        Raises
        ------
        ServerError
            One runs without it.
        """
        clients = self.clients()
        for server in servers:
            pids = server.processes()
            if not clients.intersection(pids):
                raise ServerError(
                    f"the server at {server.url} runs without MPS: none of its processes {_listed(pids)} is among the "
                    f"daemon's clients ({_listed(clients)})"
                )


@contextmanager
def start_mps(log_folder: str | Path) -> Iterator[Mps]:
    """Run a daemon of our own; at the end it is told to quit, then stopped with all that it started.

    Its logs go to `mps` in `log_folder`, its pipes to a temporary folder (names of sockets have at most 107 bytes). It
    ends, too, when this process is killed.

    Raises
    ------
    InputError
        No GPU, or no `nvidia-cuda-mps-control`.
    ServerError
        The daemon does not start.
    """
    program = _program()
    logs = Path(log_folder).absolute() / "mps"
    try:
        logs.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {logs}: {error.strerror or error}") from None
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as pipes:
        mps = Mps(program, Path(pipes), logs)
        log = logs / "daemon.log"
        daemon = None
        try:
            with Interrupts():  # Ctrl-C waits until it is known what there is to end
                daemon = Guarded([program, "-f"], log=log, env=os.environ | mps.env)
            _wait_until_it_answers(mps, daemon, log)
            yield mps
        finally:
            if daemon is not None:
                with suppress(ServerError):
                    mps.ask("quit")
                daemon.stop(GRACE_S)


def _program() -> str:
    """The control program, where there is a GPU.

    Raises
    ------
    InputError
        One of them is missing.
    """
    smi = shutil.which("nvidia-smi")
    listed = subprocess.run([smi, "-L"], capture_output=True, text=True).stdout if smi is not None else ""
    if "GPU" not in listed:
        raise InputError("MPS needs an NVIDIA GPU: nvidia-smi finds none" if smi else "MPS needs an NVIDIA GPU")
    program = shutil.which(PROGRAM)
    if program is None:
        raise InputError(f"MPS needs {PROGRAM} on PATH; it comes with NVIDIA's driver")
    return program


def _wait_until_it_answers(mps: Mps, daemon: Guarded, log: Path) -> None:
    end = time.monotonic() + START_TIMEOUT_S
    while True:
        if daemon.poll() is not None:
            raise ServerError(f"the MPS daemon ended with exit code {daemon.poll()}: {telling_lines(log)} (log: {log})")
        try:
            mps.ask("get_server_list")
            return
        except ServerError:
            if time.monotonic() > end:
                raise
        time.sleep(0.1)


def _ids(text: str) -> list[int]:
    return [int(word) for word in text.split() if word.isdigit()]


def _listed(pids: Iterable[int]) -> str:
    return ", ".join(map(str, sorted(pids))) or "none"
