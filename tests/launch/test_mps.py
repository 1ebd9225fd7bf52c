"""A private MPS daemon, with a stand-in for NVIDIA's programs that speaks the same commands."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from loratwin.errors import InputError
from loratwin.launch import Mps, ServerError, start_mps
from tests.launch.servers import alive, gone

CONTROL = f"""#!{sys.executable}
import os, pathlib, subprocess, sys, time
pipes = pathlib.Path(os.environ["CUDA_MPS_PIPE_DIRECTORY"])
if sys.argv[1:] == ["-f"]:
    if os.environ.get("BROKEN"):
        sys.exit("Error: cannot open the device")
    sleep = [sys.executable, "-I", "-S", "-c", "import time; time.sleep(600)"]
    server = subprocess.Popen(sleep, start_new_session=True)
    (pipes / "server").write_text(str(server.pid))
    (pipes / "control").write_text(str(os.getpid()))
    while not (pipes / "quit").exists():
        time.sleep(0.02)
    server.kill()
    sys.exit()
if not (pipes / "control").exists():
    sys.exit("Cannot find MPS control daemon process")
words = sys.stdin.read().split()
if words[0] == "get_server_list":
    print((pipes / "server").read_text())
elif words[0] == "get_client_list" and words[1] == (pipes / "server").read_text():
    print(os.environ.get("CLIENTS", "").replace(",", "\\n"))
elif words == ["quit"]:
    (pipes / "quit").touch()
"""


class Served(NamedTuple):
    url: str
    pids: list[int]

    def processes(self) -> list[int]:
        return self.pids


def install(folder: Path, **programs: str) -> None:
    for name, text in programs.items():
        path = folder / name.replace("_", "-")
        path.write_text(text)
        path.chmod(0o755)


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "bin"
    folder.mkdir()
    smi = "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-0)'\n"
    install(folder, nvidia_cuda_mps_control=CONTROL, nvidia_smi=smi)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def daemons(mps: Mps) -> list[int]:
    """The daemon and its server."""
    pipes = Path(mps.env["CUDA_MPS_PIPE_DIRECTORY"])
    return [int((pipes / name).read_text()) for name in ("control", "server")]


@pytest.mark.usefixtures("programs")
def test_the_daemon_is_private_and_ends_with_us(tmp_path: Path) -> None:
    with start_mps(tmp_path) as mps:
        pids = daemons(mps)
        assert len(alive(pids)) == 2
        pipes = Path(mps.env["CUDA_MPS_PIPE_DIRECTORY"])
        assert len(str(pipes / "control_privileged")) < 108
        assert pipes.stat().st_mode & 0o077 == 0
        assert mps.env["CUDA_MPS_LOG_DIRECTORY"] == str(tmp_path / "mps")
    assert (gone(pids), pipes.exists()) == (True, False)


@pytest.mark.usefixtures("programs")
def test_servers_that_run_without_it_are_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = Served("http://one", [11, 12]), Served("http://two", [21, 22])
    with start_mps(tmp_path) as mps:
        monkeypatch.setenv("CLIENTS", "12,21")
        assert mps.clients() == {12, 21}
        mps.check([one, two])
        monkeypatch.setenv("CLIENTS", "12,13")
        with pytest.raises(ServerError) as error:
            mps.check([one, two])
    assert str(error.value) == (
        "the server at http://two runs without MPS: none of its processes 21, 22 is among the daemon's clients (12, 13)"
    )


@pytest.mark.usefixtures("programs")
def test_two_daemons_do_not_touch_each_other(tmp_path: Path) -> None:
    with start_mps(tmp_path / "a") as first:
        with start_mps(tmp_path / "b") as second:
            assert set(daemons(first)).isdisjoint(daemons(second))
        assert len(alive(daemons(first))) == 2


@pytest.mark.usefixtures("programs")
def test_a_daemon_that_is_gone_is_said(tmp_path: Path) -> None:
    with start_mps(tmp_path) as mps:
        (Path(mps.env["CUDA_MPS_PIPE_DIRECTORY"]) / "control").unlink()
        with pytest.raises(ServerError, match="does not answer to 'get_server_list': Cannot find MPS control daemon"):
            mps.check([])


@pytest.mark.usefixtures("programs")
def test_a_daemon_that_does_not_start_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BROKEN", "1")
    with (
        pytest.raises(
            ServerError, match=r"ended with exit code 1: Error: cannot open the device \(log: .*daemon.log\)"
        ),
        start_mps(tmp_path),
    ):
        pytest.fail("must not get here")


@pytest.mark.usefixtures("programs")
def test_an_interrupt_while_it_starts_ends_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the fork, before anybody has the daemon."""
    guards = []

    class Interrupted(subprocess.Popen[Any]):
        def __init__(self, words: Any, *more: Any, **options: Any) -> None:
            super().__init__(words, *more, **options)
            if "-f" in words:
                guards.append(self.pid)
                signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt), start_mps(tmp_path):
        pytest.fail("must not get here")
    assert (len(guards), alive(guards)) == (1, [])


@pytest.mark.parametrize(
    ("missing", "message"),
    [
        ("nvidia-smi", "MPS needs an NVIDIA GPU"),
        ("GPU", "MPS needs an NVIDIA GPU: nvidia-smi finds none"),
        ("nvidia-cuda-mps-control", "MPS needs nvidia-cuda-mps-control on PATH; it comes with NVIDIA's driver"),
    ],
)
def test_without_a_gpu_or_the_program_it_is_refused(missing: str, message: str, programs: Path, tmp_path: Path) -> None:
    if missing == "GPU":
        install(programs, nvidia_smi="#!/bin/sh\necho 'No devices were found'\nexit 6\n")
    else:
        os.remove(programs / missing)
    with pytest.raises(InputError) as error, start_mps(tmp_path):
        pass
    assert str(error.value) == message
