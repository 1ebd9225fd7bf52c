"""Traffic that is known to the request, as logs and metrics of the servers that it was sent to."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from loratwin.workload import Workload, draw, parse_spec

START_S = 1_700_000_000.0
HOUR_S = 3600.0
BUCKETS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)
SPEC = {
    "window_s": 3 * HOUR_S,
    "groups": [
        {
            "name": "busy",
            "count": 3,
            "rates": [0.9, 0.4, 0.2],
            "arrivals": {"kind": "diurnal", "relative_rates": [1, 2, 1.5]},
            "lengths": {"prompt": {"kind": "lognormal", "mean": 300, "std": 200, "max": 1900}, "output": 40},
        },
        {
            "name": "bursty",
            "count": 1,
            "rate": 0.5,
            "arrivals": {"kind": "gamma", "cv": 3},
            "lengths": {
                "prompt": {"kind": "uniform", "min": 50, "max": 150},
                "output": {"kind": "uniform", "min": 10, "max": 30},
            },
        },
    ],
}  # fmt: skip


def sent(spec: object = SPEC, seed: int = 1) -> Workload:
    """The requests."""
    return draw(parse_spec(spec), seed)


def within(workload: Workload, first_s: float, length_s: float = HOUR_S) -> dict[str, tuple[float, float, float]]:
    """Requests per second, mean prompt and mean output of each adapter in a part of the window."""
    inside = (workload.arrival_s >= first_s) & (workload.arrival_s < first_s + length_s)
    found = {}
    for i, name in enumerate(workload.adapters.name):
        rows = inside & (workload.adapter == i)
        found[name] = (
            rows.sum() / length_s,
            float(workload.prompt_tokens[rows].mean()),
            float(workload.output_tokens[rows].mean()),
        )
    return found


def as_log(workload: Workload, path: Path) -> Path:
    """A gateway's log, a JSON line for each request."""
    rows = zip(workload.arrival_s, workload.adapter, workload.prompt_tokens, workload.output_tokens, strict=True)
    path.write_text(
        "".join(
            json.dumps(
                {
                    "time": START_S + float(at),
                    "model": workload.adapters.name[who],
                    "usage": {"prompt_tokens": int(prompt), "completion_tokens": int(output)},
                    "status": 200,
                }
            )
            + "\n"
            for at, who, prompt, output in rows
        )
    )
    return path


def counted(workload: Workload, at_s: float, from_s: float = 0.0) -> Iterator[tuple[str, str, float]]:
    """What a server that was started at `from_s` has counted by a time: name, labels and value of each series."""
    since = (workload.arrival_s >= from_s) & (workload.arrival_s < at_s)
    for i, name in enumerate(workload.adapters.name):
        rows = since & (workload.adapter == i)
        who = f'model_name="{name}",engine="0"'
        yield "vllm:request_success_total", f'{who},finished_reason="length"', float(rows.sum())
        yield "vllm:request_success_total", f'{who},finished_reason="stop"', 0.0
        for series, tokens in (("prompt", workload.prompt_tokens), ("generation", workload.output_tokens)):
            yield f"vllm:{series}_tokens_total", who, float(tokens[rows].sum())
            histogram = f"vllm:request_{series}_tokens"
            for upper in BUCKETS:
                yield f"{histogram}_bucket", f'{who},le="{upper}.0"', float((tokens[rows] <= upper).sum())
            yield f"{histogram}_bucket", f'{who},le="+Inf"', float(rows.sum())
            yield f"{histogram}_sum", who, float(tokens[rows].sum())
            yield f"{histogram}_count", who, float(rows.sum())


def page(workload: Workload, at_s: float) -> str:
    """`/metrics` at a time."""
    return "".join(f"{name}{{{labels}}} {value}\n" for name, labels, value in counted(workload, at_s))


KINDS = {
    "vllm:request_success": "counter",
    "vllm:prompt_tokens": "counter",
    "vllm:generation_tokens": "counter",
    "vllm:request_prompt_tokens": "histogram",
    "vllm:request_generation_tokens": "histogram",
}


def open_metrics(pods: dict[str, Workload], every_s: float, restarts: dict[str, float]) -> str:
    """All scrapes of some pods as OpenMetrics with times, for Prometheus to take as its own past.

    Parameters
    ----------
    restarts
        When pods are started again, and count from zero.
    """
    lines: dict[str, list[str]] = {}
    for pod, workload in pods.items():
        for at_s in np.arange(0, workload.window_s + every_s, every_s):
            again_s = restarts.get(pod, np.inf)
            for name, labels, value in counted(workload, float(at_s), again_s if at_s > again_s else 0.0):
                family = name.removesuffix("_total").removesuffix("_bucket").removesuffix("_sum").removesuffix("_count")
                series = f'{name}{{{labels},pod="{pod}",instance="{pod}:8000",job="vllm"}}'
                lines.setdefault(family, []).append(f"{series} {value} {START_S + at_s:.3f}")
    text = []
    for family, kind in KINDS.items():
        text += [f"# TYPE {family} {kind}", *sorted(lines[family], key=lambda line: line.rsplit(" ", 2)[0])]
    return "\n".join([*text, "# EOF"]) + "\n"
