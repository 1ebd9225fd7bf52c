"""A grid of experiments: values for server, workload and load client, as a file says, and the runs that they make.

A list of values is an axis. Axes that are linked move together; conditions leave runs out; everything else is the same
in all runs. Nothing is started here.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, NamedTuple

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loratwin.engines.registry import DEFAULT
from loratwin.errors import InputError
from loratwin.experiments.conditions import Condition, parse_condition
from loratwin.refusals import did_you_mean, one_line
from loratwin.workload.strict import Strict

LONGEST_NAME = 100
"""Characters of a run's name; longer ones end in a hash."""

MOST_RUNS = 100_000
"""Of one grid; more are surely a slip in a list."""

REPETITION = "repetition"
"""The axis of `repeat`."""


class ServerGrid(Strict):
    """What servers are started with."""

    engine: str = Field(DEFAULT, description="The engine, as `loratwin bench --launch` takes it.")
    command: str | None = Field(None, description="What the arguments are appended to (default: the engine's own).")
    args: dict[str, Any] = Field(default_factory=dict, description="Options without dashes; a list is an axis.")
    lora_folder: Path | None = Field(None, description="Adapters of `loratwin adapters make` to serve.")
    environment: dict[str, str] = Field(default_factory=dict, description="Environment variables of the servers.")
    start_timeout_s: float = Field(600.0, gt=0, description="Seconds that a server may take to start.")
    steps: bool = Field(False, description="Log every engine step (vLLM).")
    profiler: Literal["nsys", "ncu"] | None = Field(None, description="Nsight Systems or Compute around the server.")
    profiler_args: str | None = Field(None, description="The profiler's arguments (default: CUDA and NVTX).")


class WorkloadGrid(Strict):
    """What is sent."""

    file: Any = Field(description="Workload file, relative to the grid's; a list is an axis.")
    changes: dict[str, Any] = Field(
        default_factory=dict, description="Values in the file by dotted key, as groups.0.count; a list is an axis."
    )


class BenchGrid(BaseModel):
    """How it is sent and measured; a list is an axis. Values are checked run by run (`run_spec`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    window_s: Any = Field(default=None, description="Seconds to measure (default: the workload's).")
    seed: Any = Field(default=0, description="Seed of the workload.")
    in_flight: Any = Field(
        default=0, description="Closed loop: so many requests always in flight; 0: the workload's times."
    )
    warm_up: Any = Field(default=16, description="Requests before the window.")
    preload: Any = Field(default=True, description="Ask for each adapter once before the window.")
    api: Any = Field(default="completions", description="completions or chat.")
    prompts: Any = Field(default="random", description="random, or a file of prompts.")


class Grid(Strict):
    """Experiments: everything that can differ between their runs."""

    name: str = Field("grid", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100, description="Of the grid.")
    server: ServerGrid = Field(description="What servers are started with.")
    workload: WorkloadGrid = Field(description="What is sent.")
    bench: BenchGrid = Field(default_factory=lambda: BenchGrid(), description="How it is sent and measured.")
    links: tuple[tuple[str, ...], ...] = Field((), description="Axes that move together, each a list of names.")
    where: tuple[str, ...] = Field((), description="Conditions on values, as max-loras <= workload.groups.0.count.")
    repeat: int = Field(1, ge=1, le=1000, description="How often each run is made.")

    @cached_property
    def values(self) -> dict[str, tuple[Any, ...]]:
        """Values by full name, in order; of one that is no axis a single one."""
        named: dict[str, Any] = {f"server.{_option(key)}": value for key, value in self.server.args.items()}
        named["workload.file"] = self.workload.file
        named |= {f"workload.{key}": value for key, value in self.workload.changes.items()}
        named |= {f"bench.{key}": getattr(self.bench, key) for key in BenchGrid.model_fields}
        named[REPETITION] = list(range(1, self.repeat + 1))
        return {name: tuple(value) if isinstance(value, list) else (value,) for name, value in named.items()}

    @cached_property
    def axes(self) -> tuple[str, ...]:
        """Full names of what differs."""
        return tuple(name for name, values in self.values.items() if len(values) > 1)

    @cached_property
    def short_names(self) -> dict[str, str]:
        """Full name by every name that may be used for it: the full one, and its end where only one has that."""
        ends = Counter(name.split(".", 1)[-1] for name in self.values)
        short = {name.split(".", 1)[-1]: name for name in self.values if ends[name.split(".", 1)[-1]] == 1}
        return short | {name: name for name in self.values}

    def conditions(self) -> list[Condition]:
        """What `where` says.

        Raises
        ------
        InputError
            A condition cannot be read.
        """
        return [parse_condition(text, self.short_names) for text in self.where]

    def with_profilers(self, nsys: bool, ncu: bool, arguments: str | None) -> Grid:
        """The same grid with all servers under Nsight Systems or Compute; as it is where neither is asked for.

        Raises
        ------
        InputError
            Both.
        """
        if nsys and ncu:
            raise InputError("--with-nsys and --with-ncu: one of them at a time")
        if not (nsys or ncu):
            return self
        server = self.server.model_copy(update={"profiler": "nsys" if nsys else "ncu", "profiler_args": arguments})
        return self.model_copy(update={"server": server})

    @property
    def digest(self) -> str:
        """Says whether two grids are the same, 16 hexadecimal digits."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:16]


class Combination(NamedTuple):
    """One run of a grid, or one that a condition leaves out."""

    name: str
    values: dict[str, Any]  # by full name
    left_out: str  # the condition that does; empty: it is to be made


def load_grid(path: str | Path) -> Grid:
    """Read a grid's file.

    Raises
    ------
    InputError
        It cannot be read, or says something impossible; one line with file, key, value and what is valid.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is no YAML ({' '.join(str(error).split())})") from None
    return parse_grid(data, str(path))


def parse_grid(data: Any, source: str = "grid") -> Grid:
    """A grid of plain data.

    Raises
    ------
    InputError
        As `load_grid`.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: must be a mapping with the keys {', '.join(Grid.model_fields)}")
    try:
        grid = Grid.model_validate(data)
    except ValidationError as error:
        raise InputError(one_line(error, data, source)) from None
    for name, values in grid.values.items():
        if not values:
            raise InputError(f"{source}: {name} is an empty list")
    _links(grid)
    grid.conditions()
    return grid


def expand(grid: Grid) -> list[Combination]:
    """All runs in order, the last axis fastest, those that a condition leaves out with the condition.

    Raises
    ------
    InputError
        A link names no axis, or axes of different lengths; more than `MOST_RUNS`; two runs of one name.
    """
    conditions = grid.conditions()
    groups = _links(grid)
    number = 1
    for group in groups:
        number *= len(grid.values[group[0]])
    if number > MOST_RUNS:
        raise InputError(f"the grid has {number:,} runs; at most {MOST_RUNS:,} can be made")
    combinations = [_combination(grid, values, conditions) for values in _products(grid, groups)]
    twice, times = Counter(run.name for run in combinations).most_common(1)[0]
    if times > 1:
        raise InputError(f"{times} runs would be called {twice!r}: a value is listed twice")
    return combinations


def _links(grid: Grid) -> list[tuple[str, ...]]:
    """Axes in order, those that are linked together."""
    linked: dict[str, tuple[str, ...]] = {}
    for link in grid.links:
        full = tuple(_axis(grid, name) for name in link)
        lengths = {name: len(grid.values[name]) for name in full}
        if len(set(lengths.values())) > 1:
            listed = ", ".join(f"{name} has {length}" for name, length in lengths.items())
            raise InputError(f"links: axes that move together must have equally many values; {listed}")
        for name in full:
            if name in linked:
                raise InputError(f"links: {name} is in two of them")
            linked[name] = full
    return list(dict.fromkeys(linked.get(name, (name,)) for name in grid.values))


def _axis(grid: Grid, name: str) -> str:
    if name not in grid.short_names:
        raise InputError(f"links: the grid has no {name!r}{did_you_mean(name, grid.short_names)}")
    return grid.short_names[name]


def _products(grid: Grid, groups: Sequence[tuple[str, ...]]) -> Iterator[dict[str, Any]]:
    choices = [range(len(grid.values[group[0]])) for group in groups]
    for chosen in itertools.product(*choices):
        values = {name: grid.values[name][i] for group, i in zip(groups, chosen, strict=True) for name in group}
        yield {name: values[name] for name in grid.values}


def _combination(grid: Grid, values: dict[str, Any], conditions: Sequence[Condition]) -> Combination:
    left_out = next((condition.text for condition in conditions if not condition.holds(values)), "")
    return Combination(_name(grid, values), values, left_out)


def _name(grid: Grid, values: Mapping[str, Any]) -> str:
    """Of the axes' values, as a folder may be called."""
    short = {full: name for name, full in grid.short_names.items()} | {
        full: name for name, full in grid.short_names.items() if name != full
    }
    parts = [f"{short[axis]}={_word(values[axis])}" for axis in grid.axes]
    name = re.sub(r"[^A-Za-z0-9._=+-]+", "-", "_".join(parts)) or "run"
    if len(name) <= LONGEST_NAME:
        return name
    full = json.dumps(parts).encode()
    return f"{name[: LONGEST_NAME - 9]}-{hashlib.sha256(full).hexdigest()[:8]}"


def _word(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "+".join(map(str, value))
    return Path(value).stem if isinstance(value, str) and "/" in value else str(value)


def _option(key: str) -> str:
    """An option's name without dashes before it, and with hyphens in it."""
    return key.lstrip("-").replace("_", "-")
