"""Grids in the form of the published launcher: four dictionaries, of arguments that stay and of those that are tested.

Default and test arguments of the server and of the benchmark; a test argument has a list of values, and all are
combined. The benchmark's arguments are those of the client that came with arXiv 2508.08343 (total time, rates given to
the adapters in turn or together, loading of adapters beforehand); what has no counterpart here is refused, not dropped.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from loratwin.errors import InputError
from loratwin.experiments.grid import Grid, parse_grid
from loratwin.records import check_writable, write_atomically

_BENCH = {"total-time": "window_s", "seed": "seed"}
_RATES = ("adapter-rates", "aggregated-rate")
_SWITCHES = {"lora-pre-loading": "preload"}
_NOTHING = ("launch-server", "disable-log-stats", "server-init-time", "disable-log-requests", "endpoint", "backend")
"""What is done here in any case, or needs no telling."""


def read_dictionary(text: str, option: str) -> dict[str, Any]:
    """A dictionary as the launcher's commands have it, with single or double quotation marks.

    Raises
    ------
    InputError
        It is none.
    """
    value = _literal(text)
    if not isinstance(value, dict):
        raise InputError(f"{option} {text[:60]!r}: must be a dictionary, as {{'--max-loras': [8, 16]}}")
    return {str(key).lstrip("-").replace("_", "-"): item for key, item in value.items()}


def _literal(text: str) -> Any:
    """Python's form, or that of JSON; None: neither."""
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return None


def published_grid(
    default_server: Mapping[str, Any],
    test_server: Mapping[str, Any],
    default_benchmark: Mapping[str, Any],
    test_benchmark: Mapping[str, Any],
    workload: str,
    where: Sequence[str] = (),
    name: str = "grid",
) -> Grid:
    """A grid of the four dictionaries.

    `as_yaml` of it is a file that `loratwin experiments run` takes.

    Parameters
    ----------
    default_server, test_server, default_benchmark, test_benchmark
        Values by option (without dashes); of the test ones lists of values.
    workload
        File of what is sent; rates of the benchmark's arguments are changes of its first group.
    where
        Conditions, as max-loras <= max-cpu-loras.

    Raises
    ------
    InputError
        An argument of the benchmark that has no counterpart here, a test argument without a list, or as `parse_grid`.
    """
    for option, tested in (("--test-server-args", test_server), ("--test-benchmark-args", test_benchmark)):
        for key, value in tested.items():
            if not isinstance(value, (list, tuple)):
                raise InputError(f"{option}: {key} = {value!r}, but it must have a list of values")
    server = {**_fixed(default_server), **{key: list(value) for key, value in test_server.items()}}
    bench, changes = _bench({**_fixed(default_benchmark), **{k: list(v) for k, v in test_benchmark.items()}})
    data = {
        "name": name,
        "server": {"args": server},
        "workload": {"file": workload, "changes": changes},
        "bench": bench,
        "where": list(where),
    }
    return parse_grid(data)


def write_published(
    path: Path,
    workload: Path,
    default_server: str,
    test_server: str,
    default_benchmark: str,
    test_benchmark: str,
    where: Sequence[str] = (),
) -> Grid:
    """Write the file of `published_grid`, the dictionaries as they stand in a command.

    Raises
    ------
    InputError
        As `read_dictionary` and `published_grid`, or the file cannot be written.
    """
    check_writable(path)
    grid = published_grid(
        read_dictionary(default_server, "--default-server-args"),
        read_dictionary(test_server, "--test-server-args"),
        read_dictionary(default_benchmark, "--default-benchmark-args"),
        read_dictionary(test_benchmark, "--test-benchmark-args"),
        str(workload),
        where,
    )
    write_atomically(path, as_yaml(grid))
    return grid


def as_yaml(grid: Grid) -> str:
    """A grid's file: what differs from the defaults."""
    data = grid.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(data, sort_keys=False, default_flow_style=None, width=120)


def _fixed(values: Mapping[str, Any]) -> dict[str, Any]:
    """A default that is a list is one value; "" stands for a switch."""
    return {key: [list(v)] if isinstance(v, (list, tuple)) else True if v == "" else v for key, v in values.items()}


def _bench(arguments: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    bench: dict[str, Any] = {}
    changes: dict[str, Any] = {}
    for key, value in arguments.items():
        if key in _BENCH:
            bench[_BENCH[key]] = value
        elif key in _SWITCHES:
            bench[_SWITCHES[key]] = value
        elif key in _RATES:
            changes |= _rates(key, value)
        elif key not in _NOTHING:
            known = ", ".join([*_BENCH, *_SWITCHES, *_RATES])
            raise InputError(f"benchmark argument --{key} has no counterpart here; known: {known}")
    return bench, changes


def _rates(key: str, value: Any) -> dict[str, Any]:
    """Rates of single adapters, "r1 r2 ..." given to them in turn, or of all together."""
    if key == "aggregated-rate":
        return {"groups.0.rate": None, "groups.0.total_rate": value}
    values = value if isinstance(value, list) else [value]
    lists = [[float(rate) for rate in str(value).split()] for value in values]
    if any(len(rates) != 1 for rates in lists):
        raise InputError(
            "--adapter-rates: several rates in turn are a workload file's business (rates: {values, counts})"
        )
    return {"groups.0.rate": [rates[0] for rates in lists] if len(lists) > 1 else lists[0][0]}
