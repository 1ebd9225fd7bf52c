"""Runs as plain data: every figure, and how far it is from the reference."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from loratwin.metrics import (
    ClientAdapterFigures,
    Comparison,
    Slo,
    client_per_adapter,
    compare,
    config_differences,
    failures_by_kind,
    run_figures,
    starvation,
    workload_differences,
)
from loratwin.records import Run
from loratwin.records.plain import as_plain
from loratwin.version import __version__


def runs_as_json(runs: Mapping[str, Run], slo: Slo | None = None, adapters: bool = False) -> dict[str, Any]:
    """The figures of runs as plain data, as JSON takes them; what is undefined is None.

    Parameters
    ----------
    runs, slo, adapters
        As for `print_runs`.

    Returns
    -------
    dict
        `runs`, a list with the `figures` of each; `differences` by run and figure, relative to the reference; what
        differs between workloads and configurations.
    """
    return {
        "loratwin": __version__,
        "runs": [_run_json(name, run, slo, adapters) for name, run in runs.items()],
        "differences": _differences_json(compare(runs, slo)) if len(runs) > 1 else {},
        "workloads_differ": list(workload_differences(runs)),
        "configs_differ": list(config_differences(runs)),
    }


def _run_json(name: str, run: Run, slo: Slo | None, adapters: bool) -> dict[str, Any]:
    verdict = starvation(run)
    return {
        "name": name,
        "kind": run.kind,
        "valid": not run.invalid,
        "invalid": list(run.invalid),
        "window_s": run.window_s,
        "config": run.config.model_dump(),
        "kv_tokens": run.kv_tokens,
        "provenance": run.provenance.as_plain(),
        "figures": as_plain(run_figures(run, slo)),
        "starved": verdict.starved,
        "starved_reason": verdict.reason,
        "failures": dict(failures_by_kind(run)),
        **({"adapters": _adapters_json(client_per_adapter(run, slo))} if adapters else {}),
    }


def _differences_json(comparison: Comparison) -> dict[str, dict[str, float | None]]:
    """By run, by figure: relative to the reference."""
    others = [i for i in range(len(comparison.names)) if i != comparison.reference]
    return {
        comparison.names[i]: {
            row.figure.key: as_plain(row.difference(i, comparison.reference)) for row in comparison.rows
        }
        for i in others
    }


def _adapters_json(figures: ClientAdapterFigures) -> list[dict[str, Any]]:
    columns = {name: as_plain(column) for name, column in vars(figures).items() if name != "adapter"}
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
