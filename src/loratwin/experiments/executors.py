"""Where tasks run: one interface, that of `concurrent.futures.Executor`, and three that ship. Any other works as well.

- `local`: processes of this machine, so many at a time.
- `slurm`: jobs of a Slurm cluster through submitit; many tasks together are one array.
- `dask://HOST:PORT`: workers of a Dask cluster through distributed.
"""

from __future__ import annotations

import math
import multiprocessing
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, InputError, UnknownNameError
from loratwin.extras import required

POLL_S = 2.0
"""Between two looks at the jobs of a cluster."""


CLUSTERS = ("slurm", "dask://HOST:PORT")


@dataclass(frozen=True)
class SlurmOptions:
    """What a job asks Slurm for.

    Parameters
    ----------
    partition, account, gpus, cpus
        None: Slurm's own defaults.
    minutes
        Time limit of each job; None: long enough for the run.
    at_once
        Jobs of an array that run at the same time, at most.
    setup
        Shell lines before each job, as `module load cuda` or `export HF_HOME=...`.
    more
        Further parameters of sbatch by name, as {"qos": "acc"}.
    """

    partition: str | None = None
    account: str | None = None
    minutes: int | None = None
    gpus: int | None = None
    cpus: int | None = None
    at_once: int = 256
    setup: tuple[str, ...] = ()
    more: dict[str, str] = field(default_factory=dict)


def local_executor(jobs: int = 1) -> Executor:
    """Processes of this machine, each new for its task, so that nothing is left of one when the next begins."""
    if jobs < 1:
        raise InputError(f"{jobs} at a time: at least one is needed")
    fresh: dict[str, Any] = {"max_tasks_per_child": 1} if sys.version_info >= (3, 11) else {}
    return ProcessPoolExecutor(jobs, mp_context=multiprocessing.get_context("spawn"), **fresh)


def executor_at(place: str, folder: Path, jobs: int = 1) -> Executor:
    """Where a grid's runs are made: on this machine, or on the cluster that the name says.

    Parameters
    ----------
    place
        `local`, or as of `cluster_executor`.
    folder
        As of `cluster_executor`.
    jobs
        `local`: so many runs at a time.

    Raises
    ------
    InputError
        As `cluster_executor`.
    """
    return local_executor(jobs) if place == "local" else cluster_executor(place, folder, SlurmOptions(), "")


def beside_here(
    place: str, output: Path, name: str, partition: str | None = None, minutes: int = 60
) -> AbstractContextManager[Executor | None]:
    """Where simulations run: a cluster's executor, or None, as the processes that a simulation starts itself are meant.

    Parameters
    ----------
    place
        `local`, or as of `cluster_executor`.
    output
        Folder of the results; what submitit writes lies beside it.
    name
        Of the jobs.
    partition, minutes
        slurm: as of `SlurmOptions`.

    Raises
    ------
    InputError
        As `cluster_executor`.
    """
    if place == "local":
        return nullcontext()
    folder = output.with_name(f"{output.name}-slurm")
    return cluster_executor(place, folder, SlurmOptions(partition, minutes=minutes), name)


def cluster_executor(place: str, folder: Path, options: SlurmOptions, name: str) -> Executor:
    """The cluster that a name says: `slurm`, or `dask://HOST:PORT`.

    Parameters
    ----------
    folder
        As of `SlurmExecutor`.
    name
        Of the jobs.

    Raises
    ------
    UnknownNameError
        Neither of them.
    InputError
        It is not there.
    """
    if place == "slurm":
        return SlurmExecutor(folder, options, name, options.minutes or 60)
    if place.startswith("dask://"):
        return dask_executor(place)
    raise UnknownNameError("place to run", place, ["local", *CLUSTERS])


def dask_executor(address: str) -> Executor:
    """Workers of a Dask cluster.

    Parameters
    ----------
    address
        Of its scheduler, as dask://10.0.0.1:8786.

    Raises
    ------
    InputError
        Nothing answers there, or `distributed` is not installed.
    """
    required("distributed", "a Dask cluster", "dask")
    from distributed import Client

    target = address.replace("dask://", "tcp://", 1)
    try:
        client: Any = Client(target, timeout=10)  # type: ignore[no-untyped-call]
    except (OSError, TimeoutError, ValueError) as error:
        raise InputError(f"{address}: no Dask scheduler answers there ({error or 'no answer in 10 s'})") from None
    executor: Executor = client.get_executor(pure=False, retries=3)
    _close_after(executor, client)
    return executor


def _close_after(executor: Executor, client: Any) -> None:
    """Close a client with its executor, which would leave it waiting for a scheduler that may go away."""
    shutdown = executor.shutdown

    def both(wait: bool = True, *, cancel_futures: bool = False) -> None:
        shutdown(wait and not cancel_futures)  # which cancels where it does not wait
        client.close()

    executor.shutdown = both  # type: ignore[method-assign]


class SlurmExecutor(Executor):
    """Jobs of a Slurm cluster; `submit_all` makes one array of many.

    Parameters
    ----------
    folder
        For what submitit writes: scripts, pickled tasks, output. All nodes must see it.
    """

    def __init__(self, folder: Path, options: SlurmOptions, name: str, minutes: int) -> None:
        check_slurm(options)
        required("submitit", "Slurm", "slurm")
        import submitit

        self._executor = submitit.AutoExecutor(folder=folder, cluster="slurm")
        self._executor.update_parameters(
            name=name, timeout_min=options.minutes or minutes, slurm_array_parallelism=options.at_once,
            **_parameters(options),
        )  # fmt: skip
        self._watched: dict[Future[Any], Any] = {}
        self._watcher: threading.Thread | None = None

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        """One job."""
        return self._future(self._executor.submit(fn, *args, **kwargs))

    def submit_all(self, fn: Callable[..., Any], tasks: Sequence[Any]) -> list[str]:
        """One array with a job for each task; the jobs' names, as 17_3. Nobody waits for them."""
        return [str(job.job_id) for job in self._executor.map_array(fn, tasks)]

    def map(self, fn: Callable[..., Any], *iterables: Iterable[Any], **_: Any) -> Any:
        """All tasks as one array; results in order."""
        futures = [self._future(job) for job in self._executor.map_array(fn, *iterables)]
        return (future.result() for future in futures)

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Wait for the jobs, or cancel them."""
        for future, job in list(self._watched.items()):
            if cancel_futures and future.cancel():
                job.cancel()
        if wait and self._watcher is not None:
            self._watcher.join()

    def _future(self, job: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self._watched[future] = job
        if self._watcher is None or not self._watcher.is_alive():
            self._watcher = threading.Thread(target=self._watch, daemon=True)
            self._watcher.start()
        return future

    def _watch(self) -> None:
        gone: set[str] = set()
        while pending := {future: job for future, job in self._watched.items() if not future.done()}:
            before, gone = gone, _without_result(pending.values())
            for future, job in pending.items():
                _settle(future, job, str(job.job_id) in before & gone)
            time.sleep(POLL_S)


def _without_result(jobs: Iterable[Any]) -> set[str]:
    """Names of the jobs that left no result and that Slurm does not have; none where Slurm does not answer."""
    silent = {str(job.job_id) for job in jobs if not job.paths.result_pickle.exists()}
    try:
        return silent - queued_jobs() if silent else silent
    except InputError:
        return set()


def _settle(future: Future[Any], job: Any, gone: bool) -> None:
    """Hand over what a job left, or that it left nothing.

    Whether a job is over is read from its result and from the queue: accounting, which submitit asks, may be absent.

    Parameters
    ----------
    gone
        It was not in the queue at two looks, and left no result: cancelled, killed, or its node died.
    """
    left = job.paths.result_pickle.exists()
    if not (left or gone) or not future.set_running_or_notify_cancel():
        return
    if left:
        error = job.exception()
        if error is None:
            future.set_result(job.result())
        else:
            future.set_exception(error)
    else:
        future.set_exception(DataError(f"Slurm's job {job.job_id} ended without a result; see {job.paths.stderr}"))


def _parameters(options: SlurmOptions) -> dict[str, Any]:
    """As submitit calls them."""
    given = {
        "slurm_partition": options.partition,
        "slurm_account": options.account,
        "slurm_gpus_per_node": options.gpus,
        "slurm_cpus_per_task": options.cpus,
        "slurm_setup": list(options.setup) or None,
        "slurm_additional_parameters": dict(options.more) or None,
    }
    return {name: value for name, value in given.items() if value is not None}


def check_slurm(options: SlurmOptions) -> None:
    """Refuse before anything is submitted what Slurm would refuse, or would only do elsewhere.

    Raises
    ------
    InputError
        No Slurm here, or no such partition.
    """
    if shutil.which("sbatch") is None:
        raise InputError("no Slurm here: sbatch is not on PATH (run it on a login node, or --on local)")
    if options.partition is not None:
        known = _partitions()
        missing = [name for name in options.partition.split(",") if name not in known]
        if missing:
            raise InputError(f"--partition {missing[0]!r}: Slurm has none of that name; it has {', '.join(known)}")


def _partitions() -> list[str]:
    answer = ask_slurm("sinfo", "--noheader", "--format=%R")
    return sorted(set(answer.split()))


def ask_slurm(*words: str) -> str:
    """What a command of Slurm prints.

    Raises
    ------
    InputError
        It fails, or says nothing for a minute.
    """
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=True)
    except subprocess.CalledProcessError as error:
        raise InputError(f"{words[0]}: {' '.join(error.stderr.split()) or f'exit code {error.returncode}'}") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{words[0]}: {error}") from None
    return done.stdout


def queued_jobs() -> set[str]:
    """Names of the jobs that Slurm still has, as 17_3 of an array; of those that wait, too."""
    jobs: set[str] = set()
    for line in ask_slurm("squeue", "--noheader", "--array", "--format=%i").split():
        jobs.add(line)
    return jobs


def minutes_for(seconds: float) -> int:
    """A time limit with room for what is not known: a fifth, and five minutes."""
    return math.ceil((1.2 * seconds + 300) / 60)
