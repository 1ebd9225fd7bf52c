"""Experiments at scale: grids of measured runs, on one machine, on Slurm, on a Dask cluster.

from loratwin.experiments import Experiments, load_grid, local_executor, plan_runs

grid = load_grid("grid.yaml")
experiments = Experiments("slots")
names = experiments.prepare(grid, plan_runs(grid, Path()))
experiments.make(names, local_executor())
"""

from loratwin.experiments.collect import RunTable, collect
from loratwin.experiments.containers import Container, definition
from loratwin.experiments.executors import (
    SlurmOptions,
    beside_here,
    cluster_executor,
    dask_executor,
    executor_at,
    local_executor,
)
from loratwin.experiments.experiments import Experiments, Planned, plan_runs
from loratwin.experiments.grid import Grid, expand, load_grid, parse_grid
from loratwin.experiments.published import published_grid, read_dictionary, write_published
from loratwin.experiments.runner import RunState, make_run, read_state

__all__ = [
    "Container",
    "Experiments",
    "Grid",
    "Planned",
    "RunState",
    "RunTable",
    "SlurmOptions",
    "beside_here",
    "cluster_executor",
    "collect",
    "dask_executor",
    "definition",
    "executor_at",
    "expand",
    "load_grid",
    "local_executor",
    "make_run",
    "parse_grid",
    "plan_runs",
    "published_grid",
    "read_dictionary",
    "read_state",
    "write_published",
]
