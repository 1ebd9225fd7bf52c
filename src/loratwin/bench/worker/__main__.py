"""The process that sends the load: `python -m loratwin.bench.worker FOLDER`, with nothing else to do.

It says on stdout, in lines of JSON, which phase begins and when the window opens; what it measures goes to the journal.
It stops early when a line, or the end, comes on stdin: so also when the process that started it is killed.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import resource
import shutil
import signal
import ssl
import sys
from array import array
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np

from loratwin.bench.shared.failures import Failures
from loratwin.bench.shared.job import HEADERS_VARIABLE, REFERENCE, REFERENCE_FILE, Job, Phase, reference_phase
from loratwin.bench.shared.journal import RequestJournal, Shape
from loratwin.bench.shared.left_out import save_left_out
from loratwin.bench.shared.requests import FULL, Prompts, RequestForm, RequestMaker, parse_url
from loratwin.bench.shared.routing import Routing
from loratwin.bench.shared.sharing import load_sharing
from loratwin.bench.worker.chat_words import prompts_of_words, texts_of_words
from loratwin.bench.worker.feeds import ClosedLoop, Conversations, OpenLoop
from loratwin.bench.worker.form import find_form, is_refusal
from loratwin.bench.worker.load import Feed, Load, Window
from loratwin.bench.worker.prompts import GivenTexts, RandomIds, Words, load_texts
from loratwin.bench.worker.routers import Beforehand, InTurn, ServerChooser, router_of
from loratwin.bench.worker.shared_prompts import SharedPrompts
from loratwin.errors import InputError, LoratwinError
from loratwin.records import write_atomically

LEAD_S = 0.25
"""From the end of the phases to the opening of the window: time to collect garbage."""

_CONNECTIONS_AHEAD = 32

_SETTLE_S = 0.2
"""Before a reference load: what was cut off leaves the server."""


def say(**what: Any) -> None:
    """Tell the process that started this one; if it was killed, nobody hears it."""
    with suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), json.dumps(what).encode() + b"\n")


@dataclass
class LoadClient:
    """What all phases share."""

    folder: Path
    job: Job
    headers: dict[str, str]
    prompts: Prompts
    stopping: asyncio.Event
    form: RequestForm = FULL
    first_prompt: int = 0

    def load_before(self, journal: RequestJournal, router: ServerChooser) -> Load:
        """For requests before the window: prompts before its first, that neither it nor another phase sends."""
        self.first_prompt -= journal.shape.num_rows
        return self.load(journal, router, self.first_prompt)

    def load(self, journal: RequestJournal, router: ServerChooser, first_prompt: int = 0) -> Load:
        """A load generator that writes to this journal."""
        endpoints = [parse_url(url) for url in self.job.urls]
        maker = RequestMaker(
            endpoints, self.job.names, self.prompts, self.job.api, self.headers, self.form, first_prompt,
        )  # fmt: skip
        tls = ssl.create_default_context() if any(endpoint.tls for endpoint in endpoints) else None
        failures = Failures(journal.folder)
        return Load(asyncio.get_running_loop(), endpoints, maker, router, journal, failures, tls)


async def measure(folder: Path) -> None:
    """All phases, then the window."""
    job = Job.load(folder)
    journal = RequestJournal.open(folder)
    headers = json.loads(os.environ.get(HEADERS_VARIABLE, "{}"))
    prompts = await _prompts(folder, job, journal)
    os.environ.pop(HEADERS_VARIABLE, None)
    client = LoadClient(folder, job, headers, prompts, asyncio.Event())
    _watch_stdin(client.stopping)
    for phase in (_first_question(job), *job.phases):
        if not client.stopping.is_set():
            await _run_phase(client, phase)
    await _run_reference(client, "before_s")
    if not client.stopping.is_set():
        await _run_window(client, journal)
    await _run_reference(client, "after_s")
    say(phase="done")


async def _prompts(folder: Path, job: Job, journal: RequestJournal) -> Prompts:
    longest = _longest(job, journal)
    if job.prompts != "random":
        return GivenTexts(load_texts(Path(job.prompts)))
    alone: RandomIds | Words = RandomIds(job.prompt_seed, longest)
    if job.api == "chat":
        headers = json.loads(os.environ.get(HEADERS_VARIABLE, "{}"))
        alone = await asyncio.to_thread(prompts_of_words, job.urls[0], job.names[-1], headers, job.prompt_seed, longest)
    sharing = load_sharing(folder)
    return alone if sharing is None else SharedPrompts(alone, sharing, journal.array("prompt_tokens"))


def _longest(job: Job, journal: RequestJournal) -> int:
    """Tokens of the longest prompt, those before the window included."""
    before = (tokens for phase in (_first_question(job), *job.phases) for tokens in phase.prompt_tokens)
    return int(journal.array("prompt_tokens").max(initial=max(before)))


def _first_question(job: Job) -> Phase:
    """One request to the LLM itself, of each server: is it there, and does it count in every event?"""
    num = len(job.urls)
    return Phase("first question", (-1,) * num, (16,) * num, (2,) * num, 1)


async def _run_phase(client: LoadClient, phase: Phase) -> None:
    say(phase=phase.name, of=len(phase.adapter))
    counts, refused = await _phase_load(client, phase)
    if refused:
        await _find_form(client)
        counts, _ = await _phase_load(client, phase)
    say(phase_done=phase.name, **counts)


def _router_before(client: LoadClient, phase: Phase) -> ServerChooser:
    """Who chooses servers before the window."""
    return Beforehand(phase.server) if phase.server else InTurn(len(client.job.urls))


async def _find_form(client: LoadClient) -> None:
    """What the first server takes of our fields is all that is sent from now on; the record says what is left out."""
    job, folder = client.job, client.folder
    asked = (job.urls[0], job.names[-1], job.api, client.headers)
    client.form = await asyncio.to_thread(find_form, *asked)
    save_left_out(folder, client.form.left_out)
    say(left_out=client.form.left_out)
    if client.form.token_ids or job.prompts != "random":
        return
    journal = RequestJournal.open(folder)
    client.prompts = await _texts(folder, job, journal, client.headers)


async def _texts(folder: Path, job: Job, journal: RequestJournal, headers: dict[str, str]) -> Prompts:
    """Random prompts as texts, where the server takes no token ids."""
    sharing = load_sharing(folder)
    if sharing is not None and sharing.waits:
        raise InputError(
            "the server takes no token ids as prompts: a conversation (sessions) cannot be repeated token by token"
        )
    seed, longest = job.prompt_seed, _longest(job, journal)
    alone = await asyncio.to_thread(texts_of_words, job.urls[0], job.names[-1], headers, seed, longest)
    return alone if sharing is None else SharedPrompts(alone, sharing, journal.array("prompt_tokens"))


async def _phase_load(client: LoadClient, phase: Phase) -> tuple[dict[str, Any], bool]:
    journal, num = _phase_journal(client, phase), len(phase.adapter)
    load = client.load_before(journal, _router_before(client, phase))
    start = monotonic()
    await _until(client, load, ClosedLoop(phase.in_flight, start, journal), start, client.job.phase_timeout_s)
    load.close()
    kinds = load.failures.kinds
    failed = _failed_adapters(journal, list(kinds), client.job.names)
    unanswered = num - journal.count("finished") - journal.count("failed")
    counts = {"took_s": monotonic() - start, "failed": failed, "details": kinds, "unanswered": unanswered}
    journal.close()
    return counts, phase.name == "first question" and any(map(is_refusal, kinds))


def _phase_journal(client: LoadClient, phase: Phase) -> RequestJournal:
    """A journal with the requests of a phase, in place of an earlier one of its name."""
    folder = client.folder / phase.name.replace(" ", "-")
    shutil.rmtree(folder, ignore_errors=True)  # of the same phase, asked in another form
    folder.mkdir()
    num = len(phase.adapter)
    journal = RequestJournal.create(folder, Shape(num, len(client.job.names) - 1, 1))
    for name in ("adapter", "prompt_tokens", "output_tokens"):
        journal.fill(name, np.array(getattr(phase, name), dtype=np.int32))
    journal.counters[0] = num
    return journal


def _failed_adapters(journal: RequestJournal, kinds: list[str], names: tuple[str, ...]) -> dict[str, str]:
    """Kind of failure by name."""
    failure, adapter = journal.array("failure"), journal.array("adapter")
    return {names[adapter[row]]: kinds[failure[row]] for row in np.flatnonzero(failure >= 0)}


async def _run_reference(client: LoadClient, when: str) -> None:
    """The reference load, if one is asked for; how far tokens lie apart in it goes to its file."""
    lasts_s = client.job.reference_s
    if client.stopping.is_set() or not lasts_s:
        return
    phase = reference_phase(len(client.job.urls))
    say(phase=REFERENCE, of=0)
    await asyncio.sleep(_SETTLE_S)
    journal = _phase_journal(client, phase)
    load, start = client.load_before(journal, _router_before(client, phase)), monotonic()
    await _until(client, load, ClosedLoop(phase.in_flight, start, journal), start, lasts_s)
    load.close()
    first, last = journal.array("first_token_s"), journal.array("last_token_s")
    gaps = journal.array("received_tokens") - 1
    decoded = gaps > 0
    path = client.folder / REFERENCE_FILE
    known = json.loads(path.read_text()) if path.exists() else {}
    tpot_s = float((last - first)[decoded].sum() / gaps[decoded].sum()) if decoded.any() else None
    write_atomically(path, json.dumps({**known, when: tpot_s}))
    journal.close()


async def _run_window(client: LoadClient, journal: RequestJournal) -> None:
    load = client.load(journal, router_of(Routing.load(client.folder), len(client.job.urls)))
    await load.connect(_CONNECTIONS_AHEAD)
    gc.collect()
    gc.freeze()
    gc.disable()  # what a request leaves behind has no cycles but those of connections
    start = monotonic() + LEAD_S
    write_atomically(client.folder / "window.json", json.dumps({"start_s": start}))
    say(phase="window", start_s=start)
    await _until(client, load, _feed(client, load, journal, start), start, client.job.window_s)
    load.close()


def _feed(client: LoadClient, load: Load, journal: RequestJournal, start: float) -> Feed:
    if client.job.in_flight:
        return ClosedLoop(client.job.in_flight, start, journal, _repeat(load, journal))
    due = journal.array("scheduled_s") + start
    sharing = load_sharing(client.folder)
    if sharing is not None and sharing.waits:
        later = np.flatnonzero(sharing.follows >= 0)
        due[later] = np.nan
        journal.fill("scheduled_s", due)
        before, think_s = sharing.follows[later].tolist(), sharing.think_s[later].tolist()
        return Conversations(
            due.tolist(), dict(zip(before, zip(later.tolist(), think_s, strict=True), strict=True)), journal
        )
    journal.fill("scheduled_s", due)
    return OpenLoop(array("d", due.tobytes()))


def _repeat(load: Load, journal: RequestJournal) -> Callable[[], None]:
    """More requests for a closed loop: the same again (of the same lengths; prompts differ)."""
    num = journal.count("rows")

    def more() -> None:
        rows = journal.count("rows")
        if rows + num > journal.shape.num_rows:
            journal.grow()
            load.bind()
        for name in ("adapter", "prompt_tokens", "output_tokens"):
            column = journal.columns[name]
            column[rows : rows + num] = column[:num]
        journal.counters[0] = rows + num

    return more


async def _until(client: LoadClient, load: Load, feed: Feed, start: float, window_s: float) -> None:
    stopper = asyncio.get_running_loop().create_task(client.stopping.wait())
    stopper.add_done_callback(lambda task: None if task.cancelled() else load.stop())
    try:
        await load.run(feed, Window(start, start + window_s))
    finally:
        stopper.cancel()


def _watch_stdin(stopping: asyncio.Event) -> None:
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), stopping.set)


def _run(work: Coroutine[None, None, None]) -> None:
    """On uvloop where it is installed."""
    try:
        import uvloop
    except ImportError:  # Windows
        asyncio.run(work)
        return
    uvloop.run(work)


def _ask_for_priority() -> None:
    """A busy machine (as one that the server shares) must not make the client late; few may ask, so it is a wish."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, 0, -10)


def _raise_file_limit() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def main() -> None:
    """Entry point."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that started this one
    _raise_file_limit()
    _ask_for_priority()
    try:
        _run(measure(Path(sys.argv[1])))
    except LoratwinError as error:
        say(error=str(error))
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
