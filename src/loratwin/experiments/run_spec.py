"""One run of a grid as its folder holds it: everything that it needs, so that any machine can make it."""

from __future__ import annotations

import hashlib
import json
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from loratwin.engines.option_names import check_options
from loratwin.engines.registry import find_engine
from loratwin.errors import DataError, InputError
from loratwin.experiments.grid import Combination, Grid
from loratwin.experiments.profilers import profiled
from loratwin.workload import WorkloadSpec, load_spec, parse_spec

SPEC, WORKLOAD, RECORD, STATE, COMMAND, LOCK = (
    "run.json", "workload.yaml", "record.json", "state.json", "command.sh", "lock"
)  # fmt: skip
"""Files of a run's folder: what it is, its workload, what was measured, how it went, the command, who makes it now."""


_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # libyaml's, where PyYAML has it: ten times as fast


@dataclass(frozen=True)
class RunSpec:
    """What one run is.

    Parameters
    ----------
    name
        Of its folder.
    values
        Of the grid, by full name.
    engine, command, server_args, environment, start_timeout_s, steps, lora_folder
        How its server is started; see `bench.LaunchedServers`.
    profiler, profiler_args
        What watches it; see `profilers`.
    workload
        The workload's file as plain data, with its changes made; paths in it are absolute.
    window_s
        Seconds to measure.
    seed, in_flight, warm_up, preload, api, prompts
        How the workload is sent; see `bench.Options`.
    """

    name: str
    values: Mapping[str, Any]
    engine: str
    command: str | None
    server_args: str
    environment: Mapping[str, str]
    start_timeout_s: float
    steps: bool
    lora_folder: str | None
    profiler: str | None
    profiler_args: str | None
    workload: Mapping[str, Any]
    window_s: float
    seed: int
    in_flight: int
    warm_up: int
    preload: bool
    api: str
    prompts: str

    @property
    def digest(self) -> str:
        """Says whether two runs are the same, 16 hexadecimal digits."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()[:16]

    def shell_command(self) -> str:
        """What a user would type in the run's folder to make it by hand."""
        words = ["loratwin", "bench", WORKLOAD, "--launch", self.engine, "--server-args", self.server_args]
        words += ["--window", f"{self.window_s:g}", "--seed", str(self.seed), "--warm-up", str(self.warm_up)]
        words += ["--start-timeout", f"{self.start_timeout_s:g}", "--api", self.api, "--prompts", self.prompts]
        words += ["--server-command", command] if (command := self.server_command(Path())) else []
        words += ["--in-flight", str(self.in_flight)] if self.in_flight else []
        words += [] if self.preload else ["--no-preload"]
        words += ["--steps"] if self.steps else []
        words += ["--lora-folder", self.lora_folder] if self.lora_folder else []
        settings = [f"{name}={shlex.quote(value)}" for name, value in self.environment.items()]
        return " ".join([*settings, shlex.join([*words, "-o", RECORD])])

    def server_command(self, folder: Path) -> str | None:
        """What the server's arguments are appended to, in a run's folder; None: the engine's own command."""
        if self.profiler is None:
            return self.command
        return profiled(
            self.command or find_engine(self.engine).plain_command, self.profiler, self.profiler_args, folder
        )

    def write(self, folder: Path) -> None:
        """Make the folder, with all that the run needs; nothing that was measured is touched."""
        from loratwin.records import write_atomically

        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / WORKLOAD, yaml.dump(dict(self.workload), Dumper=_DUMPER, sort_keys=False))
        write_atomically(folder / COMMAND, f"#!/bin/sh\ncd {shlex.quote(str(folder))} && {self.shell_command()}\n")
        write_atomically(folder / SPEC, json.dumps(asdict(self), indent=1) + "\n")


def read_run_spec(folder: Path) -> RunSpec:
    """What a run's folder says that it is.

    Raises
    ------
    DataError
        The file is not there or damaged.
    """
    try:
        return RunSpec(**json.loads((folder / SPEC).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{folder / SPEC}: cannot be read as a run of a grid ({error})") from None


def run_spec(grid: Grid, combination: Combination, base: Path) -> RunSpec:
    """One run of a grid, checked: its options, its workload and how it is sent.

    Parameters
    ----------
    base
        Folder of the grid's file, which paths in it are relative to.

    Raises
    ------
    InputError
        An option that the engine does not know, a workload that cannot be read, or a key that it does not have.
    """
    values, server = combination.values, grid.server
    options = {name.removeprefix("server."): value for name, value in values.items() if name.startswith("server.")}
    check_options(find_engine(server.engine), options)
    data, spec = _workload(values, base)
    bench = {name.removeprefix("bench."): value for name, value in values.items() if name.startswith("bench.")}
    window_s = bench.pop("window_s")
    prompts = str(bench.pop("prompts"))
    return RunSpec(
        name=combination.name,
        values=dict(values),
        engine=server.engine,
        command=server.command,
        server_args=shlex.join(server_words(options)),
        environment=dict(server.environment),
        start_timeout_s=server.start_timeout_s,
        steps=server.steps,
        lora_folder=None if server.lora_folder is None else str((base / server.lora_folder).resolve()),
        profiler=server.profiler,
        profiler_args=server.profiler_args,
        workload=data,
        window_s=_seconds(spec.window_s if window_s is None else window_s),
        prompts=prompts if prompts == "random" else str((base / prompts).resolve()),
        **_typed(bench),
    )


def server_words(options: Mapping[str, Any]) -> list[str]:
    """A server's command line: switches that are on without a value, off not at all, several values one by one."""
    words: list[str] = []
    for name, value in options.items():
        if value is False or value is None:
            continue
        words.append(f"--{name}")
        if isinstance(value, (list, tuple)):
            words += map(str, value)
        elif isinstance(value, dict):
            words.append(json.dumps(value))
        elif value is not True:
            words.append(str(value))
    return words


_KINDS: Mapping[str, type] = {"seed": int, "in_flight": int, "warm_up": int, "preload": bool, "api": str}


def _typed(bench: Mapping[str, Any]) -> dict[str, Any]:
    for name, kind in _KINDS.items():
        value = bench[name]
        right = type(value) is kind and not (isinstance(value, int) and value < 0)
        if not right or (name == "api" and value not in ("completions", "chat")):
            valid = {int: "a whole number, 0 or more", bool: "true or false", str: "completions or chat"}[kind]
            raise InputError(f"bench.{name} = {value!r}, but it must be {valid}")
    return dict(bench)


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < float("inf"):
        raise InputError(f"bench.window_s = {value!r}, but it must be a positive number of seconds")
    return float(value)


def _workload(values: Mapping[str, Any], base: Path) -> tuple[dict[str, Any], WorkloadSpec]:
    """The workload's file as plain data, with its changes made, and what it means."""
    file = values["workload.file"]
    if not isinstance(file, str):
        raise InputError(f"workload.file = {file!r}, but it must be a file")
    path = file if file.startswith("example:") else str(base / file)
    spec = load_spec(path)
    data = spec.model_dump(mode="json", exclude_unset=True)
    for name, value in values.items():
        if name.startswith("workload.") and name != "workload.file":
            _change(data, name.removeprefix("workload."), value)
    return data, parse_spec(data, source=file)


def _change(data: Any, key: str, value: Any) -> None:
    """Set one value by dotted key, as groups.0.count; the parts before the last must be there."""
    *way, last = key.split(".")
    place = data
    for step in way:
        place = _inside(place, step, key)
    if isinstance(place, list):
        _inside(place, last, key)
        place[int(last)] = value
    elif isinstance(place, dict):
        place[last] = value
    else:
        raise InputError(f"workload.{key}: the workload has no such place")


def _inside(place: Any, step: str, key: str) -> Any:
    try:
        return place[int(step)] if isinstance(place, list) else place[step]
    except (KeyError, IndexError, ValueError, TypeError):
        raise InputError(f"workload.{key}: the workload has no {step!r}") from None
