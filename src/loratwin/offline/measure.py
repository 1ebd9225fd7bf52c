"""Run batches in phases, each a record with its engine steps; what is there already stays."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import DataError, InputError
from loratwin.interrupts import Interrupts
from loratwin.offline.batches import Batch
from loratwin.offline.record import offline_run
from loratwin.probe import read_notes, server_arguments
from loratwin.records import Run, load_run, save_run
from loratwin.records.config import ranks_that_hold
from loratwin.synthetic import MadeAdapter, read_adapters

Progress = Callable[[str, int, int], None]

MODULE = "loratwin_vllm_probe.offline"
POLL_S = 0.2


@dataclass(frozen=True)
class OfflineResult:
    """What came of the batches.

    Parameters
    ----------
    runs
        By name of the record, those that were there before included.
    refused
        By name: why a batch could not run.
    ranges
        File of all ranges (JSON lines); None: nothing was left to be measured.
    """

    runs: dict[str, Run]
    refused: dict[str, str]
    ranges: Path | None


def measure_offline(
    batches: Sequence[Batch],
    server_args: str | Sequence[str],
    folder: str | Path,
    *,
    python: str | Path = sys.executable,
    lora_folder: str | Path | None = None,
    nvtx: bool = False,
    torch_profile: str | Path | None = None,
    progress: Progress = lambda what, done, of: None,
) -> OfflineResult:
    """Run each batch in phases on vLLM: all prompts, then all decode; a record with its steps for each.

    Parameters
    ----------
    batches
        As `batch_grid` makes them.
    server_args
        vLLM's arguments, with the LLM; slots and rank are set for the adapters unless they are given.
    folder
        For the records, made where it is not there; batches whose record is there are not run again.
    python
        A Python with vLLM.
    lora_folder
        Adapters of `make_adapters`.
    nvtx
        NVTX ranges for phases and steps, for Nsight Systems and Compute; needs the package nvtx beside vLLM.
    torch_profile
        File (.json, .json.gz) for a trace of torch.profiler over all batches.
    progress
        Called with (what, done, of).

    Returns
    -------
    OfflineResult
        Records, and why batches could not run.

    Raises
    ------
    InputError
        No such Python, an LLM that is not named, or fewer adapters than asked for.
    DataError
        vLLM ended early: its last words, and where the rest of them is.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {target}: {error.strerror or error}") from None
    there = {batch.name: load_run(_record(target, batch)) for batch in batches if _record(target, batch).exists()}
    left = [batch for batch in batches if batch.name not in there]
    if not left:
        return OfflineResult(there, {}, None)
    adapters = read_adapters(lora_folder) if lora_folder is not None else []
    arguments = _arguments(server_args, left, adapters)
    with _plan(target, arguments, left, adapters, nvtx, torch_profile) as (plan, log):
        lines = _follow(plan, str(python), log, len(left), progress)
        runs, refused = _records(lines, log, arguments, left, adapters, target)
    return OfflineResult({**there, **runs}, refused, Path(plan["ranges"]))


def _record(folder: Path, batch: Batch) -> Path:
    return folder / f"{batch.name}.json"


def _arguments(
    given: str | Sequence[str], batches: Sequence[Batch], adapters: Sequence[MadeAdapter]
) -> ServerArguments:
    """With the slots and the rank that the adapters need, where they are not given."""
    arguments = ServerArguments(find_engine(DEFAULT), given)
    arguments.check()
    model, engine = arguments.model, arguments.engine
    slots = max(batch.adapters for batch in batches)
    words = list(arguments.words) if "model" in arguments else [*_without(arguments.words, model), "--model", model]
    if slots and not engine.lora_is_on(arguments):
        if not adapters:
            raise InputError("batches with adapters need --lora-folder (loratwin adapters make)")
        rank = ranks_that_hold(max(adapter.rank for adapter in adapters))[0]
        values = {
            "enable_lora": True,
            "max_loras": slots,
            "max_cpu_loras": max(len(adapters), slots),
            "max_lora_rank": rank,
        }
        words += [word for name, value in values.items() for word in engine.options[name].written(value)]
    return ServerArguments(engine, words)


def _without(words: Sequence[str], model: str) -> list[str]:
    """The arguments less the LLM that stands without an option: the parser here knows it by option only."""
    left = list(words)
    left.remove(model)
    return left


def _names(batch: Batch, adapters: Sequence[MadeAdapter]) -> list[str]:
    """The adapters of a batch."""
    fitting = [adapter.name for adapter in adapters if not batch.rank or adapter.rank == batch.rank]
    if len(fitting) < batch.adapters:
        of = f" of rank {batch.rank}" if batch.rank else ""
        raise InputError(f"{batch.name} needs {batch.adapters} adapters{of}, and the folder has {len(fitting)}")
    return fitting[: batch.adapters]


@contextmanager
def _plan(
    folder: Path, arguments: ServerArguments, batches: Sequence[Batch], adapters: Sequence[MadeAdapter], nvtx: bool,
    torch_profile: str | Path | None,
) -> Iterator[tuple[dict[str, Any], Path]]:  # fmt: skip
    """What the program inside vLLM's Python is told, and the folder of its step log, its own for each call."""
    log = folder / "logs" / f"{time.monotonic_ns()}"
    log.mkdir(parents=True)
    plan = {
        "arguments": list(arguments.words),
        "adapters": {adapter.name: str(adapter.path) for adapter in adapters},
        "batches": [
            {"name": b.name, "batch": b.requests, "prompt_tokens": b.prompt_tokens, "output_tokens": b.output_tokens,
             "adapters": _names(b, adapters)}
            for b in batches
        ],
        "nvtx": nvtx,
        "torch_profile": str(Path(torch_profile).absolute()) if torch_profile is not None else None,
        "ranges": str(log / "ranges.jsonl"),
        "result": str(log / "result.jsonl"),
    }  # fmt: skip
    (log / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    yield plan, log


def _follow(plan: dict[str, Any], python: str, log: Path, of: int, progress: Progress) -> list[dict[str, Any]]:
    """Run it to its end; what it told. It is gone, whatever happens here."""
    _, environment = server_arguments(log)
    command = [*shlex.split(python), "-m", MODULE, str(log / "plan.json")]
    child = None
    try:
        with Interrupts(), open(log / "engine.log", "wb") as out:  # Ctrl-C waits until it is known what there is to end
            child = subprocess.Popen(
                command, env=os.environ | environment, stdin=subprocess.DEVNULL, stdout=out, stderr=subprocess.STDOUT,
                start_new_session=True,
            )  # fmt: skip
        while child.poll() is None:
            time.sleep(POLL_S)
            progress("batches", max(0, len(_told(plan)) - 1), of)
    except OSError as error:
        if child is not None:
            raise
        raise InputError(f"{python}: {error.strerror or error}; a Python with vLLM is needed (--python)") from None
    finally:
        if child is not None:
            _end(child)
    if child.returncode:
        raise DataError(f"vLLM ended early ({_last_words(log / 'engine.log')}); more in {log / 'engine.log'}")
    progress("batches", of, of)
    return _told(plan)


def _told(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Lines that are whole."""
    path = Path(plan["result"])
    text = path.read_text(encoding="utf-8") if path.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


def _end(child: subprocess.Popen[bytes]) -> None:
    """The program and what it started."""
    if child.poll() is None:
        os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _last_words(path: Path) -> str:
    lines = [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    said = next((line for line in reversed(lines) if "Error" in line), lines[-1] if lines else "it said nothing")
    return said.strip()[:200]


def _records(
    lines: Sequence[dict[str, Any]], log: Path, arguments: ServerArguments, batches: Sequence[Batch],
    adapters: Sequence[MadeAdapter], folder: Path,
) -> tuple[dict[str, Run], dict[str, str]]:  # fmt: skip
    by_name = {batch.name: batch for batch in batches}
    runs, refused = {}, {}
    for line in lines[1:]:
        batch = by_name[line["name"]]
        if "refused" in line:
            refused[batch.name] = line["refused"]
            continue
        runs[batch.name] = offline_run(lines[0]["server"], line, batch, log, arguments, adapters, read_notes(log))
        save_run(runs[batch.name], _record(folder, batch))
    return runs, refused


def offline_text(result: OfflineResult) -> list[str]:
    """A line for each batch: steps and their times by phase."""
    lines = []
    for name, run in result.runs.items():
        steps = run.steps
        assert steps is not None
        prompts = steps.prefill_tokens > 0
        parts = [
            f"{np.count_nonzero(chosen)} {what} steps of {1e3 * float(np.mean(steps.duration_s[chosen])):.2f} ms"
            for what, chosen in (("prefill", prompts), ("decode", ~prompts))
            if chosen.any()
        ]
        lines.append(f"{name}: {', '.join(parts)}")
    return [*lines, *(f"{name}: not run: {why}" for name, why in result.refused.items())]
