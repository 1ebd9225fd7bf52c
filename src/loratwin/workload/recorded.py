"""The workload of a recorded run: the same requests once more, as they were meant or as the server was given them."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import InputError
from loratwin.records import Run, Sharing, load_run
from loratwin.records.columns import FloatArray
from loratwin.traces import Trace, TraceFacts
from loratwin.workload.arrays import Adapters, Workload, arrival_order


def recorded_workload(run: Run) -> Workload:
    """The requests of a run, when they were meant to be sent (else: when they arrived), as long as was asked for."""
    table = run.requests
    arrival = table.arrival_s if table.scheduled_s is None else table.scheduled_s
    inside = np.flatnonzero((arrival >= 0) & (arrival < run.window_s))
    order = inside[np.argsort(arrival[inside], kind="stable")]
    order = order[arrival_order(arrival[order], table.adapter[order])]
    asked = table.output_tokens if table.asked_tokens is None else table.asked_tokens
    adapters = Adapters(
        run.adapters.name,
        run.adapters.rank,
        np.nan_to_num(run.adapters.rate_per_s),
        np.zeros(len(run.adapters), dtype=np.int32),
    )
    base = float((table.adapter[order] < 0).sum()) / run.window_s
    return Workload(
        arrival_s=arrival[order],
        adapter=table.adapter[order],
        prompt_tokens=table.prompt_tokens[order],
        output_tokens=asked[order],
        adapters=adapters,
        window_s=run.window_s,
        seed=run.provenance.seed or 0,
        base_rate_per_s=base,
        sharing=run.sharing and run.sharing.take(order),
    )


def sent_s(run: Run) -> FloatArray:
    """When each request left the client (NaN: never); of a run without a client: when it arrived."""
    table = run.requests
    return table.arrival_s if table.sent_s is None else table.sent_s


def served_rows(run: Run) -> NDArray[np.int64]:
    """Rows of the requests that the server worked for, in the order of their sending.

    One that failed without any token is left out: nobody knows whether the server ever computed it.
    """
    table, start_s = run.requests, sent_s(run)
    given = (start_s < run.window_s) & ~table.refused & (~_failed(run) | (_received(run) > 0))  # False where never sent
    rows = np.flatnonzero(given)
    return rows[np.lexsort((table.adapter[rows], start_s[rows]))]


def served_workload(run: Run) -> Workload:
    """The requests of `served_rows`: they arrive when they were sent, and are as long as they were.

    They share what they shared; a turn of a conversation comes when it was sent, whatever the twin's answer takes. An
    unfinished one is as long as was asked for, a failed one as what it brought. An unknown rank (below 1) is taken
    for the largest that fits, and all adapters are of one group: a run does not say which they belong to.
    """
    table, rows = run.requests, served_rows(run)
    output = np.where(_failed(run), _received(run), table.output_tokens)[rows]
    rank = np.where(run.adapters.rank < 1, run.config.max_lora_rank, run.adapters.rank).astype(np.int32)
    group = np.zeros(len(run.adapters), dtype=np.int32)
    return Workload(
        arrival_s=np.maximum(sent_s(run)[rows], 0.0),
        adapter=table.adapter[rows],
        prompt_tokens=np.maximum(table.prompt_tokens[rows], 1).astype(np.int32),
        output_tokens=np.maximum(output, 1).astype(np.int32),
        adapters=Adapters(run.adapters.name, rank, run.adapters.rate_per_s.copy(), group),
        window_s=run.window_s,
        seed=run.provenance.seed or 0,
        sharing=run.sharing and run.sharing.take(rows).without_waiting(),
    )


def _failed(run: Run) -> NDArray[np.bool_]:
    failure = run.requests.failure
    return np.zeros(len(run.requests), dtype=bool) if failure is None else failure >= 0


def _received(run: Run) -> NDArray[np.int32]:
    received = run.requests.received_tokens
    return np.zeros(len(run.requests), dtype=np.int32) if received is None else received


def record_trace(path: Path) -> Trace:
    """The requests of a record as a trace, read once for each state of the file.

    Raises
    ------
    InputError, DataError
        As `load_run`.
    """
    state = path.stat()
    return _trace(path, state.st_mtime_ns, state.st_size)


def record_sharing(path: Path) -> Sharing | None:
    """What the requests of a record share, in the order of `record_trace`; None: nothing.

    Raises
    ------
    InputError, DataError
        As `load_run`.
    """
    state = path.stat()
    return _requests(path, state.st_mtime_ns, state.st_size).sharing


@lru_cache(maxsize=2)
def _requests(path: Path, mtime_ns: int, size: int) -> Workload:
    return recorded_workload(load_run(path))


@lru_cache(maxsize=2)
def _trace(path: Path, mtime_ns: int, size: int) -> Trace:
    requests = _requests(path, mtime_ns, size)
    if not requests.num_requests:
        raise InputError(f"{path}: has no requests")
    prompt, output = (
        np.maximum(tokens, 1).astype(np.int32) for tokens in (requests.prompt_tokens, requests.output_tokens)
    )
    names = requests.adapters.name
    counts = np.bincount(requests.adapter + 1, minlength=len(names) + 1).tolist()
    sums = int(prompt.sum(dtype=np.int64)), int(output.sum(dtype=np.int64))
    first, last = float(requests.arrival_s[0]), float(requests.arrival_s[-1])
    facts = TraceFacts(
        str(path), "record", requests.num_requests, requests.num_requests, *sums, *sums, first, last, last, None,
        adapters={name: count for name, count in zip(("", *names), counts, strict=True) if count},
    )  # fmt: skip
    return Trace(requests.arrival_s, prompt, output, requests.adapter, names, None, facts)


def record_as_spec(path: Path) -> dict[str, Any]:
    """A workload file's data that replays a record; an unknown rank is taken for the largest that fits.

    Raises
    ------
    InputError, DataError
        As `load_run`.
    """
    run = load_run(path)
    replay = {"kind": "replay", "path": str(path.resolve())}
    if not len(run.adapters):
        return {"window_s": run.window_s, "base": {"arrivals": replay}}
    ranks = np.where(run.adapters.rank < 1, run.config.max_lora_rank, run.adapters.rank).tolist()
    group = {
        "name": "adapters",
        "names": list(run.adapters.name),
        "ranks": {"by_name": dict(zip(run.adapters.name, ranks, strict=True))},
        "arrivals": replay,
    }
    return {"window_s": run.window_s, "groups": [group]}
