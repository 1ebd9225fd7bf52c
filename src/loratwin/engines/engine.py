"""What there is to know of an engine: the form of a row in the table of engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from loratwin.engines.options import Option
from loratwin.http import Connection

if TYPE_CHECKING:
    from loratwin.engines.arguments import ServerArguments
    from loratwin.engines.versions import Generation


class ServerGpu(NamedTuple):
    """A server's GPU, on which its engine's defaults depend; "" and 0: it runs on a CPU."""

    name: str
    memory_gib: float


UNKNOWN_GPU = ServerGpu("unknown", 0.0)
"""Of a server of which nobody says where it runs: defaults are those of the smallest GPUs."""


@dataclass(frozen=True)
class Metric:
    """A series of `/metrics`, of all its labels or of some."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)


class AdapterInfo(NamedTuple):
    """A series that names adapters in its labels, one for each combination that ever was, the time as its value."""

    series: str
    running: str
    """Label with the adapters of running requests, commas between them."""
    waiting: str
    most: str
    """Label with the slots."""


class Loading(NamedTuple):
    """How adapters are registered while the server runs."""

    path: str
    """POST of `lora_name` and `lora_path`."""
    how_allowed: str
    """What a server that does not know the path must be started with."""


class Deployment(NamedTuple):
    """A version, or versions, that a plan gives the command for."""

    key: str
    """As `serve_command` takes it."""
    title: str
    environment: Mapping[str, str]
    remarks: tuple[str, ...]
    """What to know before it is run."""


@dataclass(frozen=True, eq=False)
class Engine:
    """One engine. Options and metrics go by the names that all engines share.

    Parameters
    ----------
    name
        As records have it before the version: "vllm-0.8.5".
    title
        As people write it.
    module
        What `python -m` starts.
    program
        What stands on PATH, with its first arguments.
    options
        Those of `EngineConfig` under the names of its fields.
    lora_is_on
        Whether a server with these arguments serves adapters.
    defaults
        Fields of `EngineConfig` that nobody tells, beside those that are known, by version ("": unknown) and the GPU
        of this machine.
    memory_default
        Part of the memory that it fills unless told, of the version that fills least.
    memory_share
        What replica `i` (last) of several is told, by version, part of the memory for all, and their number.
    tells
        What a running server says of itself, by field of `ServerFacts`, from a connection and the page `/metrics`;
        None: it is another engine.
    logged
        Fields of `ServerFacts` that its log tells, too: a regular expression for each.
    metrics
        By shared name, the first that a server shows being taken.
    finished
        Series of finished requests, and its label with the reason; None: it tells none.
    adapter_info
        None: there is no such series.
    default_lora_rank
        Of slots unless told; None: as its adapters need it.
    rank_labels, part_labels
        Of series that show the same on every rank, and of series that are parts of a total beside them.
    key_variable
        Environment variable for an API key; None: it takes one as an argument only, and logs it.
    loading
        How adapters are registered.
    adapter_word
        One value of its option `lora_modules`, from an adapter's name and folder.
    logs_steps
        Whether `loratwin.probe` has a plugin for it.
    generations
        Versions that the twin knows, oldest first; empty: none.
    image
        Its image in a container registry, with {version}, and environment variables of servers in it.
    option_names
        All options of all versions, without dashes, to find slips before a server is started; empty: not known.
    deployments
        What a plan gives commands for, by the version of its profile and the size of a CPU's KV cache (GiB) or None.
    variables
        Environment variables that say how it computes: regular expressions of whole names.
    ttft_bounds_s
        Upper bounds of the classes of its histogram `ttft_s`, seconds; empty: not known.
    """

    name: str
    title: str
    module: str
    program: tuple[str, ...]
    options: Mapping[str, Option]
    lora_is_on: Callable[[ServerArguments], bool]
    defaults: Callable[[Mapping[str, Any], str, ServerGpu], dict[str, Any]]
    memory_default: float
    memory_share: Callable[[str, float, int, int], float]
    tells: Callable[[Connection, str], dict[str, Any] | None]
    logged: Mapping[str, str]
    metrics: Mapping[str, tuple[Metric, ...]]
    finished: tuple[Metric, str] | None
    adapter_info: AdapterInfo | None
    key_variable: str | None
    loading: Loading
    adapter_word: Callable[[str, str], str]
    logs_steps: bool
    generations: tuple[Generation, ...]
    deployments: Callable[[str, float | None], tuple[Deployment, ...]]
    image: tuple[str, Mapping[str, str]]
    option_names: Callable[[], frozenset[str]]
    variables: tuple[str, ...] = ()
    default_lora_rank: int | None = None
    rank_labels: tuple[str, ...] = ()
    part_labels: tuple[str, ...] = ()
    ttft_bounds_s: tuple[float, ...] = ()

    def __repr__(self) -> str:
        return f"<Engine {self.name}>"

    @property
    def plain_command(self) -> str:
        """What starts it where it is installed, as on another machine or in a container."""
        return " ".join(self.program) or f"python3 -m {self.module}"


def metrics(**names: str | tuple[str, ...]) -> dict[str, tuple[Metric, ...]]:
    """Rows of `Engine.metrics`, of all labels."""
    return {
        shared: tuple(Metric(name) for name in ((series,) if isinstance(series, str) else series))
        for shared, series in names.items()
    }
