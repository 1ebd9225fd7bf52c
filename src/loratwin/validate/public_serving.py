"""Serving runs that others published: what a profile assumed for GPU, LLM and engine says of one, with intervals."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.engines.registry import ENGINES
from loratwin.errors import CapacityError, DataError
from loratwin.perf import Profile, find_gpu
from loratwin.records import EngineConfig
from loratwin.simulate import forecast
from loratwin.simulate.outcome import try_config
from loratwin.traces import read_trace
from loratwin.validate.cells import number, required, text
from loratwin.validate.public_rows import assumed_profile, row_config
from loratwin.workload import Adapters, ArrivalPattern, Sharing, Workload, draw, parse_spec
from loratwin.workload.sharing import ALONE

FIGURES = ("total_throughput", "output_throughput", "ttft_mean_ms", "ttft_median_ms", "tpot_mean_ms")

LONGEST_S = 86_400.0
"""A run is over when all are answered; longer than a day nobody measured."""

STAGE_S = 600.0
"""Seconds of an open loop of which nothing more is told: long enough for its beginning not to count."""

REPEATED = 45
"""Prompts that the load generator of such runs (inference-perf's `shared_prefix`) has: it sends them again and again,
so that nearly all of each comes from the prefix cache."""

_LEAST = 1e-9
"""Of what must be above 0."""

PLAUSIBLE = 8
"""Plausible profiles that an interval comes from."""


def predict_serving(row: Mapping[str, str], folder: Path) -> dict[str, float]:
    """Predict one row of `serving.csv` from its configuration columns, and arrivals and lengths of its requests.

    Parameters
    ----------
    row
        `gpu`, `engine`, `engine_version`, `llm`, `tp`, `max_num_seqs`, `max_num_batched_tokens`, `max_model_len`,
        `gpu_memory_utilization`, `load`, `concurrency`, `request_rate`, `num_requests`, `prompt_tokens_mean`,
        `output_tokens_mean`, `lengths`, `lora`, `max_loras`, `adapters`, `max_lora_rank`, `requests_file`; an empty one
        is the engine's default. Other columns are not looked at.
    folder
        Where `requests_file` lies; of its columns `arrival_s`, `prompt_tokens` and `output_tokens` are read.

    Returns
    -------
    dict
        `FIGURES`, each also as NAME_low and NAME_high: where it lies in 90 % of such runs. Of an open loop whose rate
        is not told, latencies alone, within all that a server which keeps up can have.

    Raises
    ------
    DataError
        A column is missing, or says what the twin cannot simulate (another engine).
    InputError
        A GPU, an LLM or an engine that is not known.
    CapacityError
        The server would not start.
    """
    arrivals_known = row.get("requests_file") or number(row, "request_rate") is not None
    if not arrivals_known and text(row, "load").startswith("open"):
        return _at_any_rate(row, folder)
    profile, workload = _profile(row), _workload(row, folder)
    config = _config(row, profile)
    taken_in_s = _taken_in_s(workload, profile)
    workload = replace(workload, arrival_s=workload.arrival_s + taken_in_s)
    outcome = try_config(workload, profile, config)
    if outcome.summary is None and config.max_model_len is None and outcome.kv_tokens:
        config = config.replace(max_model_len=outcome.kv_tokens)  # it did run: its owner allowed less than the LLM does
        outcome = try_config(workload, profile, config)
    if outcome.summary is None:
        raise CapacityError(f"the server does not start: {outcome.reason}")
    intervals = forecast(workload, profile, config, range(PLAUSIBLE)).intervals
    figures: dict[str, float] = {}
    for name in FIGURES:
        value = float(getattr(outcome.summary, name)) + (1e3 * taken_in_s if name.startswith("ttft") else 0.0)
        figures[name] = value
        if name in intervals:
            figures[f"{name}_low"] = value * intervals[name].low / intervals[name].middle
            figures[f"{name}_high"] = value * intervals[name].high / intervals[name].middle
    return figures


def _at_any_rate(row: Mapping[str, str], folder: Path) -> dict[str, float]:
    """Between a server with one request at a time and one with half of its seats taken: the middle, and all between."""
    seats = _config(row, _profile(row)).max_num_seqs
    few, many = (_in_flight(row, folder, in_flight) for in_flight in (1, max(2, seats // 2)))
    figures: dict[str, float] = {}
    for name in FIGURES[2:]:
        figures[name] = float(np.sqrt(few[name] * many[name]))
        figures[f"{name}_low"] = min(few[f"{name}_low"], many[f"{name}_low"])
        figures[f"{name}_high"] = max(few[f"{name}_high"], many[f"{name}_high"])
    return figures


def _in_flight(row: Mapping[str, str], folder: Path, requests: int) -> dict[str, float]:
    """The same with so many requests in flight, long enough for the first of each prompt not to count."""
    sent = max(20 * requests, 10 * REPEATED)
    return predict_serving({**row, "load": "closed", "concurrency": str(requests), "num_requests": str(sent)}, folder)


def _taken_in_s(workload: Workload, profile: Profile) -> float:
    """Seconds until a burst's requests have reached the engine; of any other load 0.

    What a request takes between client and engine is work of event loops, the client's and the API server's, and these
    take turns among all requests: of a burst none is far ahead of the others, and no answer is read before.
    """
    burst = workload.pattern.until_answered and not workload.pattern.in_flight and not workload.arrival_s.any()
    return profile.frontend.overhead_s * workload.num_requests if burst else 0.0


def _profile(row: Mapping[str, str]) -> Profile:
    engine, version = text(row, "engine").lower(), text(row, "engine_version").split()[0]
    known = {name: kind for name, kind in ENGINES.items() if kind.generations}
    if engine not in known:
        titles = " and ".join(kind.title for kind in known.values())
        raise DataError(f"engine = {engine!r}: runs of {titles} can be predicted")
    return assumed_profile(text(row, "gpu"), text(row, "llm"), f"{engine}-{version}", int(number(row, "tp") or 1))


def _config(row: Mapping[str, str], profile: Profile) -> EngineConfig:
    """A server with adapters has one slot unless its row says more; without them none."""
    slots = row.get("max_loras") or "1" if _uses_lora(row) else "0"
    return row_config({**row, "max_loras": slots}, profile.engine, find_gpu(text(row, "gpu")))


def _uses_lora(row: Mapping[str, str]) -> bool:
    return row.get("lora", "").strip().lower() in ("yes", "1", "true")


def _workload(row: Mapping[str, str], folder: Path) -> Workload:
    if row.get("requests_file"):
        return _recorded(folder / row["requests_file"])
    group: dict[str, Any] = {"arrivals": _arrivals(row)}
    if group["arrivals"] in ("poisson", "deterministic"):
        group["rate"] = required(row, "request_rate", _LEAST)
    spec: dict[str, Any] = {"window_s": _window_s(row), "lengths": _lengths(row)}
    if not _uses_lora(row):
        workload = _with_means(draw(parse_spec(spec | {"base": group})), row)
        return _repeated(workload) if "shared prefix" in row.get("lengths", "") else workload
    count, rank = int(required(row, "adapters", _LEAST)), int(number(row, "max_lora_rank") or 16)
    if "rate" in group:
        group["total_rate"] = group.pop("rate")
    groups = [group | {"name": "adapter", "count": count, "ranks": rank}]
    return _with_means(draw(parse_spec(spec | {"groups": groups})), row)


def _repeated(workload: Workload) -> Workload:
    """The same requests as `REPEATED` prompts that are sent again and again, in turn."""
    texts = np.arange(workload.num_requests, dtype=np.int32) % REPEATED
    mean = round(float(workload.prompt_tokens.mean()))
    nobody = np.full(workload.num_requests, ALONE, np.int32)
    sharing = Sharing(
        text=texts,
        follows=nobody,
        think_s=np.zeros(workload.num_requests),
        parent=np.full(REPEATED, ALONE, np.int32),
        end_tokens=np.full(REPEATED, mean, np.int32),
        own=np.zeros(REPEATED, np.bool_),
    )
    return replace(workload, prompt_tokens=np.full_like(workload.prompt_tokens, mean), sharing=sharing)


def _with_means(workload: Workload, row: Mapping[str, str]) -> Workload:
    """The mean lengths that were told are those of the very requests that were sent, not of a population."""
    return replace(
        workload,
        prompt_tokens=_scaled(workload.prompt_tokens, required(row, "prompt_tokens_mean", _LEAST)),
        output_tokens=_scaled(workload.output_tokens, required(row, "output_tokens_mean", _LEAST)),
    )


def _scaled(tokens: NDArray[np.int32], mean: float) -> NDArray[np.int32]:
    return np.maximum(1, np.rint(tokens * (mean / tokens.mean()))).astype(np.int32) if len(tokens) else tokens


def _arrivals(row: Mapping[str, str]) -> str | dict[str, Any]:
    load = text(row, "load")
    if load.startswith("closed"):
        requests = {"requests": int(required(row, "num_requests", _LEAST))}
        return {"kind": "closed", "concurrency": int(required(row, "concurrency", _LEAST)), **requests}
    if load.startswith("all at"):
        return {"kind": "at_once", "requests": int(required(row, "num_requests", _LEAST))}
    if load.startswith("open"):
        return "deterministic" if "constant" in load else "poisson"
    raise DataError(f"load = {load!r}, but it must begin with open, closed or all at t=0")


def _window_s(row: Mapping[str, str]) -> float:
    """Of an open loop, so long that as many requests come as were sent; else until all are answered."""
    if not text(row, "load").startswith("open"):
        return LONGEST_S
    number_sent = number(row, "num_requests")
    return STAGE_S if number_sent is None else number_sent / required(row, "request_rate", _LEAST)


def _lengths(row: Mapping[str, str]) -> dict[str, Any]:
    prompt, output = required(row, "prompt_tokens_mean", _LEAST), required(row, "output_tokens_mean", _LEAST)
    if "sharegpt" in row.get("lengths", ""):
        return {"kind": "sharegpt", "prompt_mean": prompt, "output_mean": output}
    fixed = {
        name: {"kind": "fixed", "tokens": max(1, round(mean))}
        for name, mean in (("prompt", prompt), ("output", output))
    }
    return dict(fixed)


def _recorded(path: Path) -> Workload:
    """The requests of a run, sent again at their times; over when all are answered."""
    trace = read_trace(path)
    if trace.arrival_s is None or trace.prompt_tokens is None or trace.output_tokens is None:
        raise DataError(f"{path}: arrival_s, prompt_tokens and output_tokens are needed")
    nobody = Adapters((), np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int32))
    base = np.full(len(trace.arrival_s), -1, dtype=np.int32)
    return Workload(
        trace.arrival_s, base, trace.prompt_tokens, trace.output_tokens, nobody, LONGEST_S, 0,
        pattern=ArrivalPattern(until_answered=True),
    )  # fmt: skip
