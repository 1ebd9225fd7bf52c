"""A benchmark from its start to its record: journal, load client, scrapes, and what goes wrong in between."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from math import ceil
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any

import numpy as np

from loratwin.bench.job import HEADERS_VARIABLE, Job, Phase
from loratwin.bench.journal import Journal, Shape, bins_per_octave
from loratwin.bench.recovery import load_surroundings, save_surroundings
from loratwin.bench.requests import Api
from loratwin.bench.result import Surroundings, run_from_journal, window_start_s
from loratwin.bench.target import Target
from loratwin.errors import DataError, InputError
from loratwin.records import AdapterTable, Provenance, Run, Samples
from loratwin.workload import Workload

if TYPE_CHECKING:
    from loratwin.telemetry import GpuSampler, Scrape

WATCH_S = 0.5
DEAD_SERVER_S = 30.0
"""A server that answers nothing for so long, while requests fail, ends the run."""

_GRACE_S = 10.0
_PRELOAD_IN_FLIGHT = 4
_WARM_UP_IN_FLIGHT = 8


@dataclass(frozen=True)
class Options:
    """How a workload is sent.

    Parameters
    ----------
    in_flight
        Requests in flight (closed loop); 0: open loop, at the workload's own times.
    warm_up
        Requests before the window.
    preload
        Bring every adapter in before the window, with a request of one token.
    headers
        HTTP headers, as an API key; never written to a file.
    """

    api: Api = "completions"
    in_flight: int = 0
    prompts: str = "random"
    prompt_seed: int = 0
    warm_up: int = 16
    preload: bool = True
    scrape_every_s: float = 1.0
    phase_timeout_s: float = 600.0
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Progress:
    """What is going on, for whoever watches."""

    phase: str
    elapsed_s: float
    of_s: float
    sent: int = 0
    finished: int = 0
    failed: int = 0
    in_flight: int = 0
    tokens: int = 0


Watch = Callable[[Progress], None]


def measure(workload: Workload, target: Target, options: Options, folder: Path, watch: Watch = lambda _: None) -> Run:
    """Send a workload to servers and measure.

    Everything measured is in `folder` at any moment; the caller removes it when the record is written. Ctrl-C ends the
    window early: the record is then of what was measured until then.

    Raises
    ------
    InputError
        A server or an adapter does not answer as it should before the window opens; the disk is full.
    """
    prepare(workload, target, options, folder)
    with _telemetry(target, options, folder) as telemetry, _Worker(folder, options.headers) as worker:
        trouble = _follow(worker, folder, watch, workload.window_s)
        ended_s = None if trouble is None else _end_s(folder)
        samples = telemetry.take(window_start_s(folder), workload.window_s if ended_s is None else ended_s)
    around = surroundings(workload, target, options, samples)
    return with_notes(run_from_journal(folder, around, ended_s, [trouble] if trouble else []), telemetry.notes())


def with_notes(run: Run, notes: Sequence[str]) -> Run:
    """The run with more to say of where it comes from."""
    return replace(run, provenance=replace(run.provenance, notes=(*run.provenance.notes, *notes)))


def prepare(workload: Workload, target: Target, options: Options, folder: Path) -> None:
    """Make the journal with all requests in it, before anything starts.

    Raises
    ------
    InputError
        The disk is full, the folder is there already, or there is nothing to send.
    """
    if not workload.num_requests:
        raise InputError("the workload has no requests in the window: nothing to measure")
    try:
        folder.mkdir(parents=False)
    except FileExistsError:
        raise InputError(
            f"{folder} holds an unfinished benchmark: loratwin bench --recover {folder} makes a record of it; "
            "or remove the folder"
        ) from None
    except OSError as error:
        raise InputError(f"cannot write {folder}: {error.strerror or error}") from None
    try:
        _fill(workload, target, options, folder)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _fill(workload: Workload, target: Target, options: Options, folder: Path) -> None:
    num_adapters = len(workload.adapters)
    parts = max(1, ceil(workload.window_s))
    journal = Journal.create(folder, Shape(workload.num_requests, num_adapters, parts, bins_per_octave(num_adapters)))
    if not options.in_flight:
        journal.fill("scheduled_s", workload.arrival_s)
    journal.fill("adapter", workload.adapter)
    journal.fill("prompt_tokens", workload.prompt_tokens)
    journal.fill("output_tokens", workload.output_tokens)
    journal.counters[0] = workload.num_requests
    _job(workload, target, options).save(folder)
    save_surroundings(folder, surroundings(workload, target, options, ()))


def _job(workload: Workload, target: Target, options: Options) -> Job:
    return Job(
        urls=target.urls,
        names=target.names,
        window_s=workload.window_s,
        api=options.api,
        in_flight=options.in_flight,
        prompts=options.prompts,
        prompt_seed=options.prompt_seed,
        phases=tuple(_phases(workload, len(target.urls), options)),
        phase_timeout_s=options.phase_timeout_s,
    )


def _phases(workload: Workload, num_servers: int, options: Options) -> Iterator[Phase]:
    """Each server sees each adapter once, in order, so that those in the slots afterwards are the last ones."""
    if options.preload and len(workload.adapters):
        adapters = tuple(np.repeat(np.arange(len(workload.adapters)), num_servers).tolist())
        num = len(adapters)
        yield Phase("adapters", adapters, (8,) * num, (1,) * num, _PRELOAD_IN_FLIGHT)
    if num := min(options.warm_up, workload.num_requests):
        first = (column[:num].tolist() for column in (workload.adapter, workload.prompt_tokens, workload.output_tokens))
        adapter, prompt, output = map(tuple, first)
        yield Phase("warm-up", adapter, prompt, output, _WARM_UP_IN_FLIGHT)


def surroundings(workload: Workload, target: Target, options: Options, samples: tuple[Samples, ...]) -> Surroundings:
    """What the record says beside what is measured."""
    adapters = AdapterTable(workload.adapters.name, workload.adapters.rank, workload.adapters.rate_per_s)
    return Surroundings(adapters, target.config, target.kv_tokens, _provenance(workload, target, options), samples)


def _provenance(workload: Workload, target: Target, options: Options) -> Provenance:
    import loratwin

    loop = f"closed loop, {options.in_flight} in flight" if options.in_flight else "open loop"
    return Provenance(
        created_by="loratwin bench",
        loratwin_version=loratwin.__version__,
        engine_version=target.engine_version,
        llm=target.llm,
        gpu=target.gpu,
        server_args=target.server_args,
        workload_hash=workload.digest,
        seed=workload.seed,
        notes=(f"{options.api}, {loop}, prompts: {options.prompts} (seed {options.prompt_seed})", *target.notes),
    )


# --- telemetry


class _Telemetry:
    """All that is sampled while the load runs."""

    def __init__(self, sources: Sequence[Scrape | GpuSampler]) -> None:
        self._sources = sources

    def take(self, start_s: float, window_s: float) -> tuple[Samples, ...]:
        """What was sampled in the window."""
        found = [source.samples(start_s, start_s, start_s + window_s) for source in self._sources]
        return name_servers([samples for samples in found if samples is not None])

    def notes(self) -> list[str]:
        """Why samples are missing, each reason once."""
        return list(dict.fromkeys(note for source in self._sources for note in source.notes))


@contextmanager
def _telemetry(target: Target, options: Options, folder: Path) -> Iterator[_Telemetry]:
    from loratwin.telemetry import GpuSampler, Scrape  # not at the top: the load client imports this package too

    every_s, headers = options.scrape_every_s, options.headers
    with ExitStack() as stack:
        servers = [
            stack.enter_context(Scrape(url, every_s, folder / f"server-{i}.scrapes", headers=headers))
            for i, url in enumerate(target.urls)
        ]
        yield _Telemetry([*servers, stack.enter_context(GpuSampler(every_s, folder / "gpu.samples"))])


def name_servers(sources: Sequence[Samples]) -> tuple[Samples, ...]:
    """Where there are several servers, they are called server-0, server-1, ..."""
    servers = [source for source in sources if source.source == "server"]
    if len(servers) < 2:
        return tuple(sources)
    named = {id(source): replace(source, source=f"server-{i}") for i, source in enumerate(servers)}
    return tuple(named.get(id(source), source) for source in sources)


# --- the load client


class _Worker:
    """The load client's process. Its stdin closes when we die, and then it stops too."""

    def __init__(self, folder: Path, headers: Mapping[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "loratwin.bench.worker", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, HEADERS_VARIABLE: json.dumps(dict(headers))},
        )
        self.lines: queue.Queue[dict[str, Any]] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> _Worker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        try:
            self._process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def stop(self) -> None:
        """Ask it to end; what is on its way is cut off."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()

    def exit_code(self) -> int:
        """Its exit status, once it has ended."""
        return self._process.wait(_GRACE_S)

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            with suppress(ValueError):
                self.lines.put(json.loads(line))
        self.lines.put({"ended": True})


def _follow(worker: _Worker, folder: Path, watch: Watch, window_s: float) -> str | None:
    """Follow the load client to its end; why it ended early, or None.

    Raises
    ------
    InputError
        What goes wrong before the window opens.
    """
    following = _Following(folder, watch, window_s)
    try:
        while not following.ended:
            following.take(worker)
        return following.reason(worker)
    except KeyboardInterrupt:
        worker.stop()
        if following.start_s is None:
            raise
        return "interrupted by the user"


class _Following:
    """Where the load client is."""

    def __init__(self, folder: Path, watch: Watch, window_s: float) -> None:
        self._folder, self._watch, self._window_s = folder, watch, window_s
        self._journal = Journal.open(folder)
        self._phase, self._since_s, self._of = "starting", monotonic(), 0
        self.start_s: float | None = None
        self.done = self.ended = False
        self._dead: str | None = None
        self._answered = 0
        self._answered_at_s = monotonic()

    def take(self, worker: _Worker) -> None:
        """Wait for the next line, or for some time, and look."""
        with suppress(queue.Empty):
            self._line(worker.lines.get(timeout=WATCH_S))
        if self.start_s is not None and not self.done:
            self._window(worker)
        else:
            self._watch(Progress(self._phase, monotonic() - self._since_s, float(self._of)))

    def reason(self, worker: _Worker) -> str | None:
        """Why it ended early."""
        if self._dead is not None:
            return self._dead
        if self.done and self.start_s is not None:
            return None
        if self.start_s is None:
            raise InputError(f"the load client ended (exit status {worker.exit_code()}) before the window opened")
        return f"the load client was killed (exit status {worker.exit_code()})"

    def _line(self, line: dict[str, Any]) -> None:
        if "error" in line:
            raise InputError(line["error"])
        if line.get("ended"):
            self.ended = True
        elif line.get("phase") == "done":
            self.done = True
        elif "phase_done" in line:
            _check_phase(line)
        elif "phase" in line:
            self._phase, self._since_s, self._of = line["phase"], monotonic(), line.get("of", 0)
            self.start_s = line.get("start_s")
            self._answered_at_s = monotonic()

    def _window(self, worker: _Worker) -> None:
        assert self.start_s is not None
        count = self._journal.count
        failed, finished, tokens = count("failed"), count("finished"), count("tokens")
        elapsed = monotonic() - self.start_s
        self._watch(
            Progress("window", elapsed, self._window_s, count("sent"), finished, failed, count("in_flight"), tokens)
        )
        if tokens + finished > self._answered or not failed:
            self._answered, self._answered_at_s = tokens + finished, monotonic()
        elif self._dead is None and monotonic() - self._answered_at_s > DEAD_SERVER_S:
            self._dead = f"the server answered nothing for {DEAD_SERVER_S:.0f} s while requests failed: ended early"
            worker.stop()


def _check_phase(line: dict[str, Any]) -> None:
    """Before the window opens, every request must be answered: a fault is then a fault of the set-up."""
    failed, details = line["failed"], line["details"]
    if failed:
        name, kind = next(iter(failed.items()))
        more = f" (and {len(failed) - 1} more)" if len(failed) > 1 else ""
        raise InputError(f"{line['phase_done']}: {name!r}{more}: {kind} {details.get(kind, '')}".rstrip())
    if line["unanswered"]:
        raise InputError(f"{line['phase_done']}: {line['unanswered']} requests not answered in {line['took_s']:.0f} s")


def _end_s(folder: Path) -> float:
    """How far a window came that was cut short: the last thing that happened in it."""
    journal, start = Journal.open(folder), window_start_s(folder)
    times = [journal.array(name) for name in ("sent_s", "first_token_s", "last_token_s", "finish_s")]
    last = np.nanmax(np.concatenate([*times, [start]])) - start
    if not last > 0:
        raise DataError(f"{folder}: ended before the first request was sent, there is nothing measured in it")
    return float(last)


def recover(folder: Path) -> Run:
    """The record of a benchmark whose processes were killed.

    Raises
    ------
    DataError
        There is nothing measured in the folder, or it is damaged.
    """
    from loratwin.telemetry import read_journal

    around, start, ended_s = load_surroundings(folder), window_start_s(folder), _end_s(folder)
    files = [*sorted(folder.glob("server-*.scrapes")), *folder.glob("gpu.samples")]
    found = [read_journal(path, start, start, start + ended_s) for path in files]
    samples = name_servers([each for each in found if each is not None])
    return run_from_journal(
        folder, replace(around, samples=samples), ended_s, ["the benchmark was killed; this is what it had measured"]
    )
