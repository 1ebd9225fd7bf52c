"""Which records of runs are evidence for one profile, and what of each: the rest is refused, with the reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from loratwin.errors import DataError
from loratwin.records import Run, load_run

LEAST_STEPS = 16

_CLIENT_ONLY = ("the client fell behind", "were never sent", "requests/s were sent")
"""In reasons that make a client's figures invalid; the engine's own log is as good as ever."""


@dataclass(frozen=True)
class Evidence:
    """Runs of one engine version, GPU and LLM.

    Parameters
    ----------
    runs
        By name: runs with steps.
    clients
        Names of those whose client's figures count too.
    refused
        By name: why a run is no evidence.
    notes
        What was left out of runs that are.
    """

    runs: Mapping[str, Run]
    clients: frozenset[str] = frozenset()
    refused: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def first(self) -> Run:
        """Any run: engine, GPU and LLM are those of all."""
        return next(iter(self.runs.values()))

    @property
    def on_cpu(self) -> bool:
        """Whether the engine ran without GPU."""
        return self.first.provenance.gpu in ("", "cpu")


def gather(runs: Mapping[str, Run], allow_simulated: bool = False) -> Evidence:
    """Sort out what is evidence. Of several engine versions, GPUs or LLMs, the one with the most steps is kept.

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
    for kind, of in _KINDS.items():
        common = _most_common(left, of)
        for name, run in list(left.items()):
            if of(run) != common:
                refused[name] = f"its {kind} is {of(run)!r}, that of most steps {common!r}"
                del left[name]
    if not left:
        why = "; ".join(f"{name}: {reason}" for name, reason in list(refused.items())[:3])
        raise DataError(f"none of {len(runs)} records is evidence for a step time{f' ({why})' if why else ''}")
    late = [name for name, run in left.items() if run.invalid]
    notes = (f"{len(late)} runs whose client was late count for steps only: {', '.join(late)}",) if late else ()
    return Evidence(left, frozenset(left) - frozenset(late), refused, notes)


def _refusal(run: Run, allow_simulated: bool) -> str:
    """Why a run is no evidence by itself; empty if it is."""
    if run.kind == "simulated" and not allow_simulated:
        return "simulated, not measured"
    if run.steps is None:
        return "the engine's steps were not logged (a server that loratwin starts logs them)"
    if len(run.steps) < LEAST_STEPS:
        return f"{len(run.steps)} steps, fewer than {LEAST_STEPS}"
    if run.steps.decode_context is None or run.steps.prefill_context is None:
        return "its steps lack the context"
    worse = [reason for reason in run.invalid if not any(words in reason for words in _CLIENT_ONLY)]
    return f"invalid: {worse[0]}" if worse else ""


_KINDS: dict[str, Callable[[Run], str]] = {
    "engine version": lambda run: run.provenance.engine_version,
    "GPU": lambda run: run.provenance.gpu,
    "LLM": lambda run: run.provenance.llm,
}


def _most_common(runs: Mapping[str, Run], of: Callable[[Run], str]) -> str:
    counts: Counter[str] = Counter()
    for run in runs.values():
        counts[of(run)] += len(run.steps or ())
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
