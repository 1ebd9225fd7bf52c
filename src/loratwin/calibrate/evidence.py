"""Which records of runs are evidence for one profile, and what of each: the rest is refused, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from loratwin.engines.registry import recorded_arguments
from loratwin.engines.versions import EngineVersion, generation_of
from loratwin.errors import DataError
from loratwin.metrics.latency import finished
from loratwin.records import EngineConfig, Run, StepSeries, load_run
from loratwin.records.columns import FloatArray

GRAPH_TOKENS = 512.0
"""The largest step that vLLM replays as a CUDA graph (engine.md 1.5)."""

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
class RecordedServer:
    """What the records tell of the server that they were measured on, "" where none does.

    Parameters
    ----------
    engine
        As the twin understands it; None: no record tells its version.
    tensor_parallel
        GPUs that share the LLM.
    on_cpu
        The engine ran without GPU; one that we started and that names none did.
    eager
        No step is replayed as a graph.
    """

    engine_version: str
    engine: EngineVersion | None
    gpu: str
    tensor_parallel: int
    on_cpu: bool
    eager: bool

    @property
    def graph_tokens(self) -> float:
        """The largest step that it replays as a graph."""
        return 0.0 if self.on_cpu or self.eager else GRAPH_TOKENS


def recorded_engine(version: str, on_cpu: bool) -> EngineVersion:
    """An engine version on a device.

    Without adapters in a step no LoRA kernels run on a CPU either (vLLM 0.32: the mapping says so to every layer).

    Raises
    ------
    InputError
        It is not known.
    """
    if not on_cpu:
        return generation_of(version)
    engine = generation_of(version, "cpu")
    return engine._replace(behaviour=engine.behaviour.model_copy(update={"base_graphs": True}))


@dataclass(frozen=True)
class Evidence:
    """Runs of one engine version, GPU and LLM, run in one way (GPUs that share it, types of numbers).

    Parameters
    ----------
    logged
        By name: runs whose engine steps were logged.
    unlogged
        By name: runs without, of which a client's figures are all there is.
    in_time
        Names of those, of both kinds, whose client was in time: their TTFTs count.
    server
        What all of them tell of it.
    refused
        By name: why a run is no evidence.
    notes
        What was left out of runs that are.
    """

    logged: Mapping[str, Run]
    unlogged: Mapping[str, Run]
    in_time: frozenset[str]
    server: RecordedServer
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def engine(self) -> EngineVersion:
        """As the twin understands it.

        Raises
        ------
        DataError
            No record tells its version.
        """
        if self.server.engine is None:
            raise DataError("no record tells the engine's version (as vllm-0.32.0)")
        return self.server.engine

    @property
    def kv_tokens(self) -> list[tuple[EngineConfig, int]]:
        """Each server that told the size of its KV cache in tokens, with its configuration."""
        return [(run.config, run.kv_tokens) for run in self.all.values() if run.kv_tokens and run.kv_tokens > 0]

    @property
    def without_adapters(self) -> list[str]:
        """Names of runs on a server with LoRA in which no request has an adapter."""
        return [
            name for name, run in self.all.items() if run.config.max_loras and not (run.requests.adapter >= 0).any()
        ]

    @property
    def all(self) -> dict[str, Run]:
        """Both kinds, those with steps first."""
        return {**self.logged, **self.unlogged}

    @property
    def first(self) -> Run:
        """Any run, one with steps if there are: engine, GPU and LLM are those of all that know them."""
        return next(iter(self.all.values()))


def gather(runs: Mapping[str, Run], allow_simulated: bool = False) -> Evidence:
    """Sort out what is evidence. Of several engine versions, GPUs, LLMs or ways of running, the one with most is kept.

    Parameters
    ----------
    runs
        By name, as `read_records` reads them.
    allow_simulated
        Take the twin's own runs, as tests of the fit do.

    Returns
    -------
    Evidence
        What counts, and by name why the rest does not.

    Raises
    ------
    DataError
        Nothing is left.
    InputError
        The engine's version is not known.
    """
    refused = {name: reason for name, run in runs.items() if (reason := _refusal(run, allow_simulated))}
    left = {name: run for name, run in runs.items() if name not in refused}
    others, notes = _of_other_kinds(left)
    refused |= others
    left = {name: run for name, run in left.items() if name not in others}
    if not left:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3])
        raise DataError(f"none of {len(runs)} records is evidence for a step time{f' ({why})' if why else ''}")
    late = [name for name, run in left.items() if run.invalid]
    logged = {name: run for name, run in left.items() if run.steps is not None}
    unlogged = {name: run for name, run in left.items() if run.steps is None}
    return Evidence(
        logged=logged,
        unlogged=unlogged,
        in_time=frozenset(left) - frozenset(late),
        server=_server([*logged.values(), *unlogged.values()], bool(logged)),
        refused=refused,
        notes=(*notes, *_limits_of(left, late)),
    )


def _of_other_kinds(runs: Mapping[str, Run]) -> tuple[dict[str, str], list[str]]:
    """By name: why a run is of another kind than most evidence; and notes of what records do not tell."""
    left, others, notes = dict(runs), dict[str, str](), []
    for kind, of in _KINDS.items():
        common = _most_common(left, of)
        unknown = [name for name, run in left.items() if not of(run)]
        if common and unknown:
            notes.append(f"{kind} taken to be {common!r}, which the record does not tell: {', '.join(unknown)}")
        for name, run in list(left.items()):
            if of(run) not in ("", common):
                others[name] = f"its {kind} is {of(run)!r}, that of most evidence {common!r}"
                del left[name]
    return others, notes


def _limits_of(runs: Mapping[str, Run], late: Sequence[str]) -> list[str]:
    """Notes of what these runs do not tell."""
    notes = []
    if other := _other_bytes(next((run for run in runs.values() if run.provenance.server_args), None)):
        notes.append(
            f"the server ran with {other}: the twin takes weights and KV cache to be of 16 bits and on the GPUs of one "
            "stage, so that its memory with other slots is not predicted well"
        )
    if late:
        notes.append(f"the client was late, and its TTFTs do not count, in {len(late)} runs: {', '.join(late)}")
    return notes


def _server(runs: Sequence[Run], logged: bool) -> RecordedServer:
    """As the first record that knows tells each; whether there are graphs, as the first one does."""
    facts = [run.provenance for run in runs]
    version = next((fact.engine_version for fact in facts if fact.engine_version), "")
    gpu = next((fact.gpu for fact in facts if fact.gpu), "")
    arguments = recorded_arguments(next((fact for fact in facts if fact.server_args), facts[0]))
    on_cpu = gpu == "cpu" or (not gpu and logged)
    return RecordedServer(
        engine_version=version,
        engine=recorded_engine(version, on_cpu) if version else None,
        gpu=gpu,
        tensor_parallel=arguments.whole("tensor_parallel") or 1,
        on_cpu=on_cpu,
        eager=recorded_arguments(facts[0]).is_on("enforce_eager"),
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
    if steps.load_s is not None and not ((steps.load_s >= 0) & (steps.load_s <= _holding_loads_s(taken))).all():
        return "its steps are damaged: loads are part of a step's time"
    if steps.load_s is not None and steps.load_s.sum() > window_s:  # of the first alone, nothing else tells
        return f"its steps are damaged: loads take {steps.load_s.sum():.4g} s, and the run {window_s:.4g} s"
    negative = [name for name in _COUNTS if (values := getattr(steps, name)) is not None and (values < 0).any()]
    if negative:
        return f"its steps are damaged: {negative[0]} is negative"
    return "its steps are damaged: more decode than run" if (steps.decode_requests > steps.running).any() else ""


def _holding_loads_s(taken: FloatArray) -> FloatArray:
    """Most seconds that the loads of each step can take; what came before the first is not told. Shape (num_steps,).

    Asynchronous scheduling hands a step to the worker, which loads adapters at once, before the step before has ended.
    """
    before: FloatArray = np.append(np.inf, taken[:-1])
    return taken + before


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


_BYTES = ("quantization", "kv_cache_dtype", "dtype", "pipeline_parallel")
_WAYS = (*_BYTES, "tensor_parallel", "data_parallel", "enforce_eager")
"""Options that make other steps of the same LLM on the same GPU."""

_PLAIN = {None, "1", "auto", "None", "bfloat16", "float16", "half"}
PLAIN_WAY = "as by default"


def _ways(run: Run, options: Sequence[str]) -> str:
    """Those of the options that are not at their default."""
    arguments = recorded_arguments(run.provenance)
    return " ".join(filter(None, (arguments.spelled(name) for name in options if arguments.text(name) not in _PLAIN)))


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
    """All records (.json, .parquet) in a folder.

    Returns
    -------
    dict
        By the name of the file, without its ending.

    Raises
    ------
    DataError
        There is none, or one is damaged.
    """
    paths = sorted(p for p in Path(folder).glob("*") if p.suffix in (".json", ".parquet") and "-steps-" not in p.name)
    if not paths:
        raise DataError(f"{folder}: no records of runs (.json or .parquet); loratwin calibrate run makes them")
    return {path.stem: load_run(path) for path in paths}
