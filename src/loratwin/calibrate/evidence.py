"""Which records of runs are evidence for one profile, and what of each: the rest is refused, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loratwin.errors import DataError
from loratwin.launch.arguments import option, whole_number
from loratwin.metrics.latency import finished
from loratwin.records import Run, StepSeries, load_run

LEAST_STEPS = 16
LEAST_REQUESTS = 4
"""Finished requests of two tokens or more, below which a client tells no time between tokens."""

_MOST_OF_WINDOW = 10.0
"""Time of all steps by the run's: steps may overlap a little; milliseconds for seconds are another matter."""

_COUNTS = ("decode_requests", "prefill_tokens", "distinct_adapters", "decode_context", "prefill_context", "skipped",
           "swap_ins", "disk_loads")  # fmt: skip

_CLIENT_ONLY = ("the client fell behind", "were never sent", "requests/s were sent")
"""In reasons that make a client's figures invalid; the engine's own log is as good as ever, and the time between tokens
is too: both ends of a request are late alike."""


@dataclass(frozen=True)
class Evidence:
    """Runs of one engine version, GPU and LLM, run in one way (GPUs that share it, types of numbers).

    Parameters
    ----------
    runs
        By name: runs with steps.
    plain
        By name: runs without, of which a client's figures are all there is.
    clients
        Names of those, of both kinds, whose client was in time: their TTFTs count.
    refused
        By name: why a run is no evidence.
    notes
        What was left out of runs that are.
    """

    runs: Mapping[str, Run]
    plain: Mapping[str, Run] = field(default_factory=dict)
    clients: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Run:
        """Any run, one with steps if there are: engine, GPU and LLM are those of all that know them."""
        return next(iter(self.all.values()))

    @property
    def all(self) -> dict[str, Run]:
        """Both kinds, those with steps first."""
        return {**self.runs, **self.plain}

    @property
    def gpu(self) -> str:
        """As the first record that knows tells it; "" where none does."""
        return next((run.provenance.gpu for run in self.all.values() if run.provenance.gpu), "")

    @property
    def engine_version(self) -> str:
        """As the first record that knows tells it; "" where none does."""
        return next((run.provenance.engine_version for run in self.all.values() if run.provenance.engine_version), "")

    @property
    def tensor_parallel(self) -> int:
        """GPUs that share the LLM, as the first record that knows its server's arguments tells it."""
        args = next((run.provenance.server_args for run in self.all.values() if run.provenance.server_args), ())
        told = option(args, *_TENSOR_PARALLEL)
        return whole_number(told, _TENSOR_PARALLEL[0]) if told else 1

    @property
    def on_cpu(self) -> bool:
        """Whether the engine ran without GPU; one that we started and that names none did."""
        return self.gpu == "cpu" or (not self.gpu and bool(self.runs))


def gather(runs: Mapping[str, Run], allow_simulated: bool = False) -> Evidence:
    """Sort out what is evidence. Of several engine versions, GPUs, LLMs or ways of running, the one with most is kept.

    Parameters
    ----------
    allow_simulated
        Take the twin's own runs, as tests of the fit do.

    Raises
    ------
    DataError
        Nothing is left.
    """
    refused = {name: reason for name, run in runs.items() if (reason := _refusal(run, allow_simulated))}
    left = {name: run for name, run in runs.items() if name not in refused}
    notes = []
    for kind, of in _KINDS.items():
        common = _most_common(left, of)
        unknown = [name for name, run in left.items() if not of(run)]
        if common and unknown:
            notes.append(f"{kind} taken to be {common!r}, which the record does not tell: {', '.join(unknown)}")
        for name, run in list(left.items()):
            if of(run) not in ("", common):
                refused[name] = f"its {kind} is {of(run)!r}, that of most evidence {common!r}"
                del left[name]
    if not left:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3])
        raise DataError(f"none of {len(runs)} records is evidence for a step time{f' ({why})' if why else ''}")
    if other := _other_bytes(next((run for run in left.values() if run.provenance.server_args), None)):
        notes.append(
            f"the server ran with {other}: the twin takes weights and KV cache to be of 16 bits and on the GPUs of one "
            "stage, so that its memory with other slots is not predicted well"
        )
    late = [name for name, run in left.items() if run.invalid]
    if late:
        notes.append(f"the client was late, and its TTFTs do not count, in {len(late)} runs: {', '.join(late)}")
    return Evidence(
        runs={name: run for name, run in left.items() if run.steps is not None},
        plain={name: run for name, run in left.items() if run.steps is None},
        clients=frozenset(left) - frozenset(late),
        refused=refused,
        notes=tuple(notes),
    )


def _refusal(run: Run, allow_simulated: bool) -> str:
    """Why a run is no evidence by itself; empty if it is."""
    if run.kind == "simulated" and not allow_simulated:
        return "simulated, not measured"
    if reason := _no_steps(run) if run.steps is not None else _no_client(run):
        return reason
    worse = [reason for reason in run.invalid if not any(words in reason for words in _CLIENT_ONLY)]
    return f"invalid: {worse[0]}" if worse else ""


def _no_steps(run: Run) -> str:
    """Why logged steps tell nothing."""
    assert run.steps is not None
    if len(run.steps) < LEAST_STEPS:
        return f"{len(run.steps)} steps, fewer than {LEAST_STEPS}"
    if run.steps.decode_context is None or run.steps.prefill_context is None:
        return "its steps lack the context"
    return _impossible(run.steps, run.window_s)


def _impossible(steps: StepSeries, window_s: float) -> str:
    """What cannot be in a log of steps: one such row would pull at all coefficients."""
    taken = steps.duration_s
    if not (np.isfinite(taken) & (taken > 0)).all():
        return "its steps are damaged: each must take a time above 0"
    if taken.sum() > _MOST_OF_WINDOW * window_s:
        return f"its steps are damaged: they take {taken.sum():.4g} s, and the run {window_s:.4g} s"
    if steps.load_s is not None and not ((steps.load_s >= 0) & (steps.load_s <= taken)).all():
        return "its steps are damaged: loads are part of a step's time"
    negative = [name for name in _COUNTS if (values := getattr(steps, name)) is not None and (values < 0).any()]
    if negative:
        return f"its steps are damaged: {negative[0]} is negative"
    return "its steps are damaged: more decode than run" if (steps.decode_requests > steps.running).any() else ""


def _no_client(run: Run) -> str:
    """Why a client's figures tell nothing of the steps."""
    table, done = run.requests, finished(run)
    if not done.any():
        return "its engine's steps were not logged, and no request finished"
    if table.replica is not None and len(np.unique(table.replica)) > 1:
        return "its engine's steps were not logged, and several servers answered"
    if (table.prompt_tokens[done] < 1).any() or (table.output_tokens[done] < 1).any():
        return "its engine's steps were not logged, and it does not tell how long prompts and outputs were"
    gaps = np.count_nonzero(table.output_tokens[done] > 1)
    if gaps < LEAST_REQUESTS:
        return (
            f"its engine's steps were not logged, and {gaps} finished requests of two tokens or more, fewer than "
            f"{LEAST_REQUESTS}, tell no time between tokens"
        )
    return ""


_TENSOR_PARALLEL = ("--tensor-parallel-size", "-tp")
_BYTES = (("--quantization", "-q"), ("--kv-cache-dtype",), ("--dtype",), ("--pipeline-parallel-size", "-pp"))
_WAYS = (*_BYTES, _TENSOR_PARALLEL, ("--data-parallel-size", "-dp"), ("--enforce-eager",))
"""Options, by their names, that make other steps of the same LLM on the same GPU."""

_PLAIN = {None, "1", "auto", "None", "bfloat16", "float16", "half"}
PLAIN_WAY = "as by default"


def _ways(run: Run, options: Sequence[tuple[str, ...]]) -> str:
    """Those of the options that are not at their default."""
    values = [(names[0], option(run.provenance.server_args, *names)) for names in options]
    return " ".join(f"{name} {value}".strip() for name, value in values if value not in _PLAIN)


def _way(run: Run) -> str:
    return (_ways(run, _WAYS) or PLAIN_WAY) if run.provenance.server_args else ""


def _other_bytes(run: Run | None) -> str:
    return "" if run is None else _ways(run, _BYTES)


_KINDS: dict[str, Callable[[Run], str]] = {
    "engine version": lambda run: run.provenance.engine_version,
    "GPU": lambda run: run.provenance.gpu,
    "LLM": lambda run: run.provenance.llm,
    "way of running": _way,
}


def _most_common(runs: Mapping[str, Run], of: Callable[[Run], str]) -> str:
    """What most evidence says: by logged steps, a run without them counting as one; "" where none tells."""
    counts: Counter[str] = Counter()
    for run in runs.values():
        counts[of(run)] += len(run.steps or (0,)) if of(run) else 0
    return counts.most_common(1)[0][0] if counts else ""


def read_records(folder: str | Path) -> dict[str, Run]:
    """All records (.json, .parquet) in a folder, by the name of the file.

    Raises
    ------
    DataError
        There is none, or one is damaged.
    """
    paths = sorted(p for p in Path(folder).glob("*") if p.suffix in (".json", ".parquet") and "-steps-" not in p.name)
    if not paths:
        raise DataError(f"{folder}: no records of runs (.json or .parquet); loratwin calibrate run makes them")
    return {path.stem: load_run(path) for path in paths}
