"""The runs of a calibration on real servers: started, measured one run after the other, kept as records."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from loratwin.bench import Options, measure, parse_url
from loratwin.bench.result import window_start_s
from loratwin.bench.session import with_notes
from loratwin.cli.measuring.progress import watching
from loratwin.cli.measuring.servers import Launch, Running, given_servers, launched_servers
from loratwin.errors import DataError, InputError
from loratwin.launch.arguments import as_arguments, option, whole_number, without
from loratwin.probe import read_notes, read_steps
from loratwin.records import Run, load_run, save_run
from loratwin.synthetic import read_adapters
from loratwin.telemetry import ServerFacts, server_facts
from loratwin.workload import Adapters, Workload

_FLUSH_S = 0.7
"""The probe writes its rows every half second."""

_BUSY = 0.7
"""Load of a core above which it is not ours; the calibration's own last server still counts in it."""

_CHOSEN = ("--enable-lora", "--max-loras", "--max-cpu-loras", "--max-lora-rank", "--lora-modules")
"""Options that the design sets, whatever the user's arguments say."""


@dataclass(frozen=True)
class Job:
    """A run to be measured, and where its record goes."""

    path: Path
    workload: Workload
    in_flight: int = 0  # 0: open loop
    preload: bool = True
    about: str = ""


@dataclass(frozen=True)
class Source:
    """Where servers come from: started by us with a command and arguments, or one that answers already.

    Parameters
    ----------
    lora_folder
        Adapters of `loratwin adapters make`.
    url
        Of a server that runs already; None: servers are started.
    step_log
        Of such a server, if it was started with the probe: the folder of its step log.
    """

    lora_folder: Path
    args: str = ""
    command: str | None = None
    url: str | None = None
    step_log: Path | None = None
    timeout_s: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict)

    def adapters(self) -> Adapters:
        """The adapters in the folder.

        Raises
        ------
        InputError, DataError
            There is none, or it is damaged.
        """
        made = read_adapters(self.lora_folder)
        if not made:
            raise InputError(f"{self.lora_folder} has no adapters: loratwin adapters make")
        num = len(made)
        ranks = np.array([each.rank for each in made], dtype=np.int32)
        return Adapters(tuple(each.name for each in made), ranks, np.full(num, np.nan), np.zeros(num, dtype=np.int32))

    def all_arguments(self, arguments: Sequence[str], facts: ServerFacts | None = None) -> list[str]:
        """What a server at the URL runs with: as the user says, else as it tells, else as the design has it."""
        own = as_arguments(self.args)
        told = {"--block-size": facts and facts.block_size, "--max-model-len": facts and facts.max_model_len}
        more = [(name, str(value)) for name, value in told.items() if value and option(own, name) is None]
        said = [name for name in _CHOSEN if option(own, name) is not None]
        return [*own, *(word for pair in more for word in pair), *without(list(arguments), *said)]

    def slots_and_rank(self) -> tuple[int | None, int | None]:
        """Slots and rank of the server at the URL, as the user says, else as the server does; None: nobody tells.

        Raises
        ------
        InputError
            The server does not answer.
        """
        own = as_arguments(self.args)
        slots, rank = (_number(own, name) for name in ("--max-loras", "--max-lora-rank"))
        return self._facts().max_loras if slots is None else slots, rank

    def _facts(self) -> ServerFacts:
        assert self.url is not None
        try:
            return server_facts(parse_url(self.url).url, self.headers)
        except DataError as error:
            raise InputError(f"no usable server at {self.url}: {error}") from None

    @contextmanager
    def server(self, arguments: Sequence[str], names: Sequence[str], logs: Path) -> Iterator[Running]:
        """A server with these arguments of the design; gone afterwards, unless it was there before.

        Raises
        ------
        InputError, ServerError
            It does not start, does not answer, or lacks an adapter.
        """
        if self.url is not None:
            args = _joined(self.all_arguments(arguments, self._facts()))
            running = given_servers(
                [self.url], names, (), self.headers, "vllm", args, None, lora_folder=self.lora_folder
            )
            yield replace(running, step_logs=() if self.step_log is None else (self.step_log,))
            return
        given = [*without(as_arguments(self.args), *_CHOSEN), *arguments]
        launch = Launch("vllm", _joined(given), self.command, steps=True, timeout_s=self.timeout_s,
                        lora_folder=self.lora_folder)  # fmt: skip
        print(f"starting vllm {' '.join(arguments)}", file=sys.stderr)
        with launched_servers(launch, names, (), self.headers, logs) as running:
            yield running


def _number(arguments: Sequence[str], name: str) -> int | None:
    value = option(arguments, name)
    return None if value is None else whole_number(value, name)


def _joined(arguments: Sequence[str]) -> str:
    import shlex

    return shlex.join(arguments)


Seen = Callable[[Path, Run], None]
"""Told of each record, new or there before."""


def measure_jobs(
    source: Source, arguments: Sequence[str], jobs: Sequence[Job], logs: Path, seen: Seen = lambda path, run: None
) -> None:
    """Measure the jobs of one server; those whose record is there are not measured again.

    Raises
    ------
    InputError, ServerError
        As `Source.server` and `measure`.
    """
    missing = [job for job in jobs if not job.path.exists()]
    for job in jobs:
        if job not in missing:
            seen(job.path, load_run(job.path))
    if not missing:
        return
    if note := busy_note(os.getloadavg()[0], os.cpu_count() or 1):
        print(note, file=sys.stderr)
    with source.server(arguments, source.adapters().name, logs) as running:
        for job in missing:
            print(f"{job.path.stem}: {job.about}", file=sys.stderr)
            seen(job.path, _measured(job, running, source))


def busy_note(load: float, cores: int) -> str:
    """A warning where others use the machine already; empty where it is quiet.

    Parameters
    ----------
    load
        Processes that ran or waited in the last minute, on average.
    """
    if load < _BUSY * cores:
        return ""
    return (
        f"others use this machine (load {load:.1f} on {cores} cores): steps take up to twice as long while they do, "
        "and neither the fit nor the check can be better than that"
    )


def _measured(job: Job, running: Running, source: Source) -> Run:
    partial = job.path.with_name(job.path.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # a calibration's run is short: begun again, not recovered
    options = Options(
        in_flight=job.in_flight, preload=job.preload, warm_up=2 * job.in_flight or 16, headers=source.headers
    )
    try:
        with watching() as watch:
            run = measure(job.workload, running.target, options, partial, watch)
        if any("interrupted" in reason for reason in run.invalid):
            raise KeyboardInterrupt
        run = _with_steps(run, running, window_start_s(partial))
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    save_run(run, job.path)
    return run


def _with_steps(run: Run, running: Running, start_s: float) -> Run:
    """The run with the steps of its window, where the server logs them."""
    if not running.step_logs:
        return run
    time.sleep(_FLUSH_S)
    log = running.step_logs[0]
    try:
        return replace(run, steps=read_steps(log, start_s, start_s, start_s + run.window_s))
    except DataError as error:
        return with_notes(run, [str(error), *read_notes(log)])
