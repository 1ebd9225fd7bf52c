"""A real Slurm on this machine for slow tests: one node, no accounting, installed (Debian's packages) and started here.

LORATWIN_REAL=1 python -m pytest tests/experiments
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

PARTITION = "tests"


@dataclass
class Slurm:
    """A cluster of one node."""

    folder: Path
    controller: subprocess.Popen[bytes]

    def restart_controller(self) -> None:
        """As after an update: jobs go on meanwhile."""
        self.controller.terminate()
        self.controller.wait(30)
        self.controller = _start(["slurmctld", "-D"], self.folder)
        _until_it_answers()


@contextmanager
def slurm(folder: Path) -> Iterator[Slurm]:
    """Start munge, the controller and the node's daemon; they are gone when the `with` ends.

    Skips the test, with the reason, where that cannot be done.
    """
    _installed()
    _munge()
    Path("/etc/slurm").mkdir(exist_ok=True)
    Path("/etc/slurm/slurm.conf").write_text(_configuration(folder))
    controller = _start(["slurmctld", "-D", "-c"], folder)
    node = _start(["slurmd", "-D", "-c"], folder)
    running = Slurm(folder, controller)
    try:
        _until_it_answers()
        yield running
    finally:
        subprocess.run(["scancel", "--partition", PARTITION], capture_output=True)
        time.sleep(1)
        for process in (node, running.controller):
            process.terminate()
        for process in (node, running.controller):
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()


def _installed() -> None:
    if os.geteuid() != 0:
        pytest.skip("starting Slurm needs root")
    if shutil.which("slurmctld") and shutil.which("munged"):
        return
    if shutil.which("apt-get") is None:
        pytest.skip("no Slurm here, and no apt-get to install it")
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive"}
    subprocess.run(["apt-get", "update", "-qq"], capture_output=True, env=environment)
    done = subprocess.run(
        ["apt-get", "install", "-y", "-qq", "slurm-wlm", "munge"], capture_output=True, text=True, env=environment
    )
    if done.returncode:
        pytest.skip(f"Slurm cannot be installed: {done.stderr.strip().splitlines()[-1:]}")


def _munge() -> None:
    if subprocess.run(["pgrep", "-x", "munged"], capture_output=True).returncode == 0:
        return
    for place in ("/run/munge", "/var/log/munge", "/var/lib/munge", "/etc/munge"):
        Path(place).mkdir(parents=True, exist_ok=True)
        shutil.chown(place, "munge", "munge")
    Path("/run/munge").chmod(0o755)
    if not Path("/etc/munge/munge.key").exists():
        subprocess.run(["mungekey", "--create"], check=False)
        shutil.chown("/etc/munge/munge.key", "munge", "munge")
    done = subprocess.run(["runuser", "-u", "munge", "--", "munged"], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"munge does not start: {done.stderr.strip()}")


def _configuration(folder: Path) -> str:
    host = socket.gethostname().split(".")[0]
    spool, state = folder / "spool", folder / "state"
    for place in (spool, state):
        place.mkdir(parents=True, exist_ok=True)
    return "\n".join(
        [
            "ClusterName=tests",
            f"SlurmctldHost={host}",
            "AuthType=auth/munge",
            "ProctrackType=proctrack/linuxproc",
            "TaskPlugin=task/none",
            "SelectType=select/cons_tres",
            "SelectTypeParameters=CR_CPU",
            "SlurmUser=root",
            f"StateSaveLocation={state}",
            f"SlurmdSpoolDir={spool}",
            f"SlurmctldPidFile={folder}/slurmctld.pid",
            f"SlurmdPidFile={folder}/slurmd.pid",
            f"SlurmctldLogFile={folder}/slurmctld.log",
            f"SlurmdLogFile={folder}/slurmd.log",
            "ReturnToService=2",
            "MpiDefault=none",
            "JobAcctGatherType=jobacct_gather/none",
            "KillWait=5",
            f"NodeName={host} CPUs={os.cpu_count()} State=UNKNOWN",
            f"PartitionName={PARTITION} Nodes={host} Default=YES MaxTime=INFINITE State=UP",
            "",
        ]
    )


def _start(words: list[str], folder: Path) -> subprocess.Popen[bytes]:
    with open(folder / f"{words[0]}.out", "ab") as log:
        return subprocess.Popen(words, stdout=log, stderr=log)


def _until_it_answers() -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        done = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
        if done.returncode == 0 and set(done.stdout.split()) & {"idle", "mixed", "allocated"}:
            return
        time.sleep(0.5)
    pytest.skip(f"Slurm does not come up: {done.stdout} {done.stderr}")
