"""Files of other load clients, found out by what is in them; a folder is read file by file."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from loratwin.calibrate.results.forms import FORMS, GUESSED_STARTS, move
from loratwin.calibrate.results.table import BenchmarkResult, as_run, settle_models
from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.engine import UNKNOWN_GPU, ServerGpu
from loratwin.engines.facts import ServerFacts
from loratwin.engines.registry import engine_of
from loratwin.engines.versions import engine_version as version_of
from loratwin.errors import DataError, InputError
from loratwin.perf import find_gpu
from loratwin.records import EngineConfig, Provenance, Run, load_runs, save_run
from loratwin.records.files import is_run_file
from loratwin.traces.rows import UNREADABLE, open_table

KNOWN = "vllm bench serve, SGLang's bench_serving, GuideLLM, AIPerf, GenAI-Perf, inference-perf or LLMPerf"

_LIMITS = ("max_num_seqs", "max_num_batched_tokens", "gpu_memory_utilization")


class NoResultError(DataError):
    """A file is no result of a load client that is known."""


def read_result(
    path: str | Path,
    server_args: Sequence[str] | str | ServerArguments = "",
    engine_version: str = "",
    adapters: Sequence[str] = (),
    ranks: Sequence[int] = (),
    gpu: str = "",
) -> Run:
    """The record of a file that holds one result.

    Parameters
    ----------
    path, server_args, engine_version, adapters, ranks, gpu
        As of `read_results`.

    Raises
    ------
    InputError
        It holds several, or as `read_results`.
    DataError
        As `read_results`.
    """
    runs = read_results(path, server_args, engine_version, adapters, ranks, gpu)
    if len(runs) > 1:
        raise InputError(f"{path} holds {len(runs)} results ({', '.join(list(runs)[:4])}); give a folder for them")
    return next(iter(runs.values()))


def read_results(
    path: str | Path,
    server_args: Sequence[str] | str | ServerArguments = "",
    engine_version: str = "",
    adapters: Sequence[str] = (),
    ranks: Sequence[int] = (),
    gpu: str = "",
) -> dict[str, Run]:
    """The records of a file, or of all files in a folder.

    Parameters
    ----------
    path
        Result of vllm bench serve, SGLang's bench_serving, GuideLLM, AIPerf, GenAI-Perf, inference-perf or LLMPerf.
    server_args
        What the server ran with, in a list or in one string: the files do not tell it. Kept without secrets.
    engine_version
        As "vllm-0.32.0"; "" where it is not known.
    adapters
        Assigned round-robin, in order, where the file does not name them; empty: those that it names, if any.
    ranks
        Of each adapter, in turn.
    gpu
        The server's, as "h100-sxm", or "cpu": what the engine takes by default depends on it. "": not known.

    Returns
    -------
    dict of Run
        By name, in the order of the file.

    Raises
    ------
    InputError
        A file cannot be read, there is no such version or GPU, or adapters are not those of such a server.
    DataError
        It is no such result, or tells no single requests.
    """
    given = ServerArguments.of(engine_of(engine_version), server_args)
    device = _gpu(gpu)
    config = engine_config(given, ServerFacts(version=_number_of(engine_version)), device)
    check_adapters(adapters, ranks, config)
    results = _results(Path(path))
    runs: dict[str, Run] = {}
    for name, where, result in results:
        settle_models(result, given.text("model") or "")
        notes = [*_notes(given, config, engine_version, gpu), *result.notes, *_adapter_notes(result, adapters, config)]
        provenance = Provenance(
            created_by=result.tool,
            engine_version=engine_version,
            llm=result.llm,
            gpu=gpu or result.gpu,
            server_args=given.shown,
            notes=tuple(notes),
        )
        runs[_free(name, runs)] = as_run(result, config, provenance, adapters, ranks, where)
    return runs


def import_results(
    path: str | Path,
    output: str | Path,
    server_args: Sequence[str] | str | ServerArguments = "",
    engine_version: str = "",
    adapters: Sequence[str] = (),
    ranks: Sequence[int] = (),
    gpu: str = "",
) -> dict[Path, Run]:
    """Results of other load clients as records, written; what `loratwin calibrate import` does.

    Parameters
    ----------
    path, server_args, engine_version, adapters, ranks, gpu
        As of `read_results`.
    output
        The record, .json or .parquet; without a suffix the folder of several, each named by its result.

    Returns
    -------
    dict of Run
        By the file that each was written to.

    Raises
    ------
    InputError, DataError
        There are several results and one file for them; or as `read_results` and `save_run`.
    """
    runs, to = read_results(path, server_args, engine_version, adapters, ranks, gpu), Path(output)
    if len(runs) > 1 and to.suffix:
        raise InputError(f"{path} holds {len(runs)} results: give a folder for them, not {to}")
    return {save_run(run, to if to.suffix else to / f"{name}.json"): run for name, run in runs.items()}


def load_runs_or_results(paths: Sequence[str | Path], engine_version: str = "", gpu: str = "") -> dict[str, Run]:
    """Records, and results of other load clients as records, by name; what `loratwin report` shows.

    Parameters
    ----------
    engine_version, gpu
        Of the server of such results, as of `read_results`; records tell their own.

    Raises
    ------
    InputError, DataError
        As `records.load_runs`, or as `read_results` of a file that is such a result.
    """
    runs: dict[str, Run] = {}
    record_files = [path for path in paths if Path(path).is_file() and is_run_file(path)]
    if len(record_files) == len(paths):
        return load_runs(paths)
    for path in paths:
        file_runs = load_runs([path]) if path in record_files else _foreign(path, engine_version, gpu)
        runs |= {_free(name, runs): run for name, run in file_runs.items()}
    return runs


def _foreign(path: str | Path, engine_version: str, gpu: str) -> dict[str, Run]:
    if not Path(path).exists():
        return load_runs([path])
    try:
        return read_results(path, engine_version=engine_version, gpu=gpu)
    except NoResultError:
        return load_runs([path])  # says what is wrong with it as a record


def _gpu(name: str) -> ServerGpu:
    if not name:
        return UNKNOWN_GPU
    if name.lower() == "cpu":
        return ServerGpu("", 0.0)
    device = find_gpu(name)
    return ServerGpu(device.name, device.memory_gib)


def _number_of(version: str) -> str | None:
    """The version without its engine's name."""
    if not version:
        return None
    kind = engine_of(version)
    if kind.generations and kind.name != version:
        version_of(version)
    if kind.name == version:
        raise InputError(f"engine {version!r}: a version is expected, as {version}-1.2.3")
    return version.removeprefix(f"{kind.name}-")


def check_adapters(names: Sequence[str], ranks: Sequence[int], config: EngineConfig) -> None:
    """Refuse adapters that a server with this configuration cannot have had."""
    if names and not ranks:
        raise InputError("adapters and their ranks are given together")
    if names and not config.max_loras:
        raise InputError("adapters are given, but the server's arguments lack --enable-lora")
    if len(set(names)) < len(names):
        raise InputError(f"adapters {','.join(names)}: each is named once")
    if wrong := [rank for rank in ranks if not 1 <= rank <= config.max_lora_rank]:
        raise InputError(f"rank {wrong[0]}: must be from 1 to the server's max_lora_rank = {config.max_lora_rank}")


def _notes(given: ServerArguments, config: EngineConfig, version: str, gpu: str) -> list[str]:
    notes = ["imported; the server's configuration is as told, and its steps are not known"]
    untold = [name for name in _LIMITS if name not in given]
    if untold:
        of = f"{version or given.engine.title} on {gpu or 'a GPU below 70 GiB'}"
        hint = "" if gpu and version else " (--gpu and --engine say which)"
        notes.append(f"{', '.join(f'{name} {getattr(config, name):g}' for name in untold)}: defaults of {of}{hint}")
    return notes


def _adapter_notes(result: BenchmarkResult, adapters: Sequence[str], config: EngineConfig) -> list[str]:
    named = any(one.adapter and one.adapter != result.llm for one in result.requests)
    if named or not config.max_loras:
        return []
    if adapters:
        return ["the file does not name the adapter of a request: taken to be assigned round-robin, as --adapters says"]
    return ["the file does not name the adapter of a request (they may be random): all count as the LLM's own"]


def _free(name: str, taken: dict[str, Run]) -> str:
    names = (name, *(f"{name}-{i}" for i in range(2, len(taken) + 2)))
    return next(candidate for candidate in names if candidate not in taken)


def _results(path: Path) -> list[tuple[str, str, BenchmarkResult]]:
    """Name, place and result."""
    if path.is_dir():
        return _in_folder(path)
    documents = _documents(path)
    results: list[tuple[str, str, BenchmarkResult]] = []
    for i, data in enumerate(documents):
        where = str(path) if len(documents) == 1 else f"{path}: result {i + 1}"
        for result in _read(data, where):
            _with_neighbours(result, path)
            name = _plain(path).stem if not result.name else f"{_plain(path).stem}-{result.name}"
            results.append((name if len(documents) == 1 else f"{name}-{i + 1}", where, result))
    return results


def _in_folder(folder: Path) -> list[tuple[str, str, BenchmarkResult]]:
    """All results below it, as of a sweep; what is no result, or its summary, is passed over."""
    files = sorted(file for file in folder.rglob("*") if _plain(file).suffix in (".json", ".jsonl") and file.is_file())
    results: list[tuple[str, str, BenchmarkResult]] = []
    why_not = ""
    for file in files:
        if file.stem.startswith("summary") and len(files) > 1:
            continue
        try:
            inside = _results(file)
        except DataError as error:
            why_not = why_not or str(error)
            continue
        start = "-".join(re.sub(r"[^\w.=-]+", "_", part) for part in file.relative_to(folder).parent.parts)
        results += [(f"{start}-{name}" if start else name, where, result) for name, where, result in inside]
    if not results:
        raise DataError(why_not or f"{folder}: no result of {KNOWN} is in it")
    return results


def _documents(path: Path) -> list[Any]:
    """What a file holds: one document; of JSON lines that are no rows of requests each line is one."""
    try:
        with open_table(path) as opened:
            text = "" if isinstance(opened, Path) else opened.read()
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    if _plain(path).suffix in (".yaml", ".yml"):
        try:
            return [yaml.safe_load(text)]
        except (yaml.YAMLError, RecursionError) as error:
            raise NoResultError(f"{path}: not YAML ({' '.join(str(error).split())[:100]})") from None
    try:
        data = json.loads(text)
    except ValueError as error:
        return _lines(text, path, error)
    several = isinstance(data, list) and data and all(isinstance(one, dict) and "duration" in one for one in data)
    return data if several else [data]


def _lines(text: str, path: Path, error: ValueError) -> list[Any]:
    lines = [line for line in text.split("\n") if line.strip()]  # a text may hold what ends lines elsewhere
    if len(lines) < 2 and _plain(path).suffix != ".jsonl":
        raise NoResultError(f"{path}: not JSON ({error})") from None
    rows: list[Any] = []
    for i, line in enumerate(lines, 1):
        try:
            rows.append(json.loads(line))
        except ValueError as wrong:
            raise NoResultError(f"{path}: neither JSON nor JSON lines: line {i}: {wrong}") from None
    are_requests = all(isinstance(row, dict) and "duration" not in row for row in rows)
    return [rows] if are_requests else rows


def _read(data: Any, where: str) -> list[BenchmarkResult]:
    if isinstance(data, dict) and _is_line_of_requests(data):
        data = [data]
    for form in FORMS:
        results = form(data, where)
        if results is not None:
            return results
    raise NoResultError(f"{where}: not a result of {KNOWN}")


def _is_line_of_requests(data: dict[str, Any]) -> bool:
    """A file of JSON lines with one line looks like one document."""
    metadata = data.get("metadata")
    return isinstance(metadata, dict) and "request_start_ns" in metadata


def _with_neighbours(result: BenchmarkResult, path: Path) -> None:
    """What the tool writes into a file beside it: model and GPU of AIPerf, the concurrency of LLMPerf."""
    if result.tool == "AIPerf":
        stem = _plain(path).stem
        summary = _beside(path.with_name(f"{stem}_aiperf.json")) or _beside(path.with_name(f"{stem}.json"))
        names = (summary.get("input_config") or {}).get("endpoint", {}).get("model_names") or [""]
        result.llm = result.llm or str(names[0])
    if result.tool == "LLMPerf" and not any(one.start_s for one in result.requests):
        summary = _beside(path.with_name(_plain(path).name.replace("_individual_responses", "_summary")))
        result.llm = result.llm or str(summary.get("model") or "")
        at_once = summary.get("num_concurrent_requests")
        if not isinstance(at_once, int) or at_once < 1:
            raise DataError(
                f"{path}: LLMPerf writes no start times; the requests in flight are in ..._summary.json, which is not "
                "beside it"
            )
        move(result.requests, math.inf, at_once)
        result.notes.append(GUESSED_STARTS.format(how=f"{at_once} at a time, in the order of the file"))


def _plain(path: Path) -> Path:
    """The name that a file has when it is unpacked."""
    return path.with_suffix("") if path.suffix in (".gz", ".bz2", ".xz", ".zst", ".zip") else path


def _beside(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}
