"""A real Dask scheduler with two workers, started here: shards byte-equal to local ones, a worker killed meanwhile."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loratwin.errors import InputError
from loratwin.experiments import dask_executor
from loratwin.learn.cases.design import design
from loratwin.learn.cases.generate import generate
from loratwin.plan.many import PlanQuestion, plan_many
from loratwin.simulate import sweep_many
from loratwin.workload import load_specs
from tests.processes import LIMIT_S
from tests.simulate.servers import PROFILE
from tests.simulate.test_many import QUESTION, workloads
from tests.simulate.test_many import contents as tree
from tests.slow import SLOW, slow

CASES = int(os.environ.get("LORATWIN_DASK_CASES", 40 if SLOW else 6))
"""Workloads; with 200 it takes a quarter of an hour on two cores."""


def free_port() -> int:
    with socket.socket() as chosen:
        chosen.bind(("127.0.0.1", 0))
        return int(chosen.getsockname()[1])


@contextmanager
def cluster(folder: Path, workers: int = 2) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """A scheduler and its workers, without nannies: a worker that is killed stays dead."""
    port = free_port()
    address = f"127.0.0.1:{port}"
    command = [sys.executable, "-m", "dask", "scheduler"]
    log = open(folder / "dask.log", "ab")  # noqa: SIM115  (closed below)
    common = {"stdout": log, "stderr": log, "cwd": folder}
    scheduler = subprocess.Popen(
        [*command, "--host", "127.0.0.1", "--port", str(port), "--no-dashboard", "--no-jupyter"],
        **common,  # type: ignore[call-overload]
    )
    started = [
        subprocess.Popen(
            [
                sys.executable,
                "-m",
                "dask",
                "worker",
                f"tcp://{address}",
                "--no-nanny",
                "--nthreads",
                "1",
                "--no-dashboard",
            ],
            **common,  # type: ignore[call-overload]
        )
        for _ in range(workers)
    ]
    try:
        yield f"dask://{address}", started
    finally:
        for process in (*started, scheduler):
            process.kill()
            process.wait(LIMIT_S)
        log.close()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir()) if path.is_file()}


@slow
def test_shards_are_byte_equal_whatever_made_them(tmp_path: Path) -> None:
    cases = design("published", CASES, 0)
    generate(cases, tmp_path / "local", processes=2)
    with cluster(tmp_path) as (address, workers), dask_executor(address) as executor:
        killer = threading.Thread(target=kill_in_the_middle, args=(tmp_path / "dask", workers[0]))
        killer.start()
        done = generate(cases, tmp_path / "dask", executor=executor)
        killer.join(LIMIT_S)
    assert workers[0].returncode == -signal.SIGKILL
    assert vars(executor)["_client"].status == "closed"  # else it goes on looking for the scheduler
    assert done.num_new == done.num_shards
    assert contents(tmp_path / "dask") == contents(tmp_path / "local")


@slow
def test_simulations_and_plans_are_byte_equal_whatever_made_them(tmp_path: Path) -> None:
    specs = load_specs([workloads(tmp_path / "w", *(0.1 * i for i in range(1, 7)))])
    plans = PlanQuestion(PROFILE, seeds=(0,), options={"slots": (2, 4), "max_num_seqs": (32,)})
    sweep_many(specs, QUESTION, tmp_path / "local" / "s", processes=2)
    plan_many(specs, plans, tmp_path / "local" / "p")
    with cluster(tmp_path) as (address, _), dask_executor(address) as executor:
        assert sweep_many(specs, QUESTION, tmp_path / "dask" / "s", executor=executor).num_new == len(specs)
        assert plan_many(specs, plans, tmp_path / "dask" / "p", executor=executor).num_new == len(specs)
    made = {place: tree(tmp_path / place) for place in ("local", "dask")}
    assert made["dask"] == made["local"] and len(made["local"]) == 2 * (2 + len(specs))


def kill_in_the_middle(folder: Path, worker: subprocess.Popen[bytes]) -> None:
    """When the first shard is there, or after a while."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and len(list(folder.glob("*"))) < 2:
        time.sleep(0.05)
    os.kill(worker.pid, signal.SIGKILL)


def test_where_no_scheduler_answers_it_is_said() -> None:
    with pytest.raises(InputError, match="no Dask scheduler answers there"):
        dask_executor(f"dask://127.0.0.1:{free_port()}")
