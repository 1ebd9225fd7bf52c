"""Which runs tell a server's coefficients apart: the shortest set for a budget of minutes, the most telling first.

All runs are closed loops (so many requests always in flight), which need no guess of how fast the server is. Between
them vary, each apart from the others: requests in a batch, distinct adapters in it, slots, `max_lora_rank`, prompt
length, context, and adapters that come and go. Slots and rank belong to a server's start, so that there are several.
Where the budget allows it each server's runs are measured in several passes: a machine is faster at one minute than at
another, and a run measured once cannot be told from its minute.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, ValidationError

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import InputError
from loratwin.records.config import ranks_that_hold
from loratwin.refusals import one_line
from loratwin.workload import Adapters, Workload
from loratwin.workload.strict import Strict

START_S = 30.0
"""What a start is taken to last, as long as none was seen; of a large LLM it is minutes."""

OVERHEAD_S = 5.5
"""Seconds that a run takes beyond its window: load client, warm-up, reference loads, step log read."""

LEAST_WINDOW_S, MOST_WINDOW_S = 4.0, 60.0
LEAST_RUNS = 3
"""Of a server: fewer tell nothing that is worth its start, so that they are measured whatever they take."""

MOST_PASSES = 3
PASS_WINDOW_S = 4.5
"""Windows that another pass must leave to be worth its overhead."""

MOST_CONTEXT = 4096
"""Tokens of the longest request: a batch of prompts of 65,000 tokens fits no KV cache, and none ends in time."""

_ROWS = 256
"""Requests of a run; the closed loop goes through them again when they are used up."""


FORMAT = 1


class RunDesign(Strict):
    """One run of a server: a closed loop."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    in_flight: PositiveInt
    adapters: NonNegativeInt  # adapters that are asked for, in equal shares; 0: the LLM itself
    prompt_tokens: tuple[PositiveInt, PositiveInt]  # least and most, all equally likely
    output_tokens: tuple[PositiveInt, PositiveInt]
    window_s: PositiveFloat
    tells: str  # what it is there for

    def workload(self, adapters: Adapters, seed: int) -> Workload:
        """Its requests; that they are due at once does not matter in a closed loop.

        Raises
        ------
        InputError
            The server has fewer adapters.
        """
        if self.adapters > len(adapters):
            raise InputError(f"run {self.name}: needs {self.adapters} adapters, and the server has {len(adapters)}")
        rng = np.random.default_rng((seed, *self.name.encode()))
        num = max(_ROWS, 4 * self.in_flight)
        turn = rng.permutation(np.arange(num) % self.adapters) if self.adapters else np.zeros(num, dtype=np.int64)
        who = _ranks_in_turn(adapters)[turn] if self.adapters else np.full(num, -1)
        return Workload(
            arrival_s=np.zeros(num),
            adapter=who.astype(np.int32),
            prompt_tokens=rng.integers(*self.prompt_tokens, num, dtype=np.int32, endpoint=True),
            output_tokens=rng.integers(*self.output_tokens, num, dtype=np.int32, endpoint=True),
            adapters=adapters,
            window_s=self.window_s,
            seed=seed,
        )


def _ranks_in_turn(adapters: Adapters) -> NDArray[np.int64]:
    """Indices of the adapters, one of each rank after the other: the first few of them have all ranks among them."""
    seen: Counter[int] = Counter()
    turns = []
    for rank in adapters.rank.tolist():
        turns.append((seen[rank], rank))
        seen[rank] += 1
    return np.array(sorted(range(len(adapters)), key=lambda i: turns[i]), dtype=np.int64)


class ServerDesign(Strict):
    """One start of the server, and the runs on it."""

    name: str = Field(pattern=r"^[a-z0-9-]+$")
    max_loras: PositiveInt
    max_cpu_loras: PositiveInt
    max_lora_rank: PositiveInt
    runs: tuple[RunDesign, ...]

    def arguments(self, engine: str = DEFAULT) -> ServerArguments:
        """What a server of this engine is started with for it."""
        return ServerArguments(find_engine(engine)).put(
            enable_lora=True,
            max_loras=self.max_loras,
            max_cpu_loras=self.max_cpu_loras,
            max_lora_rank=self.max_lora_rank,
        )


class Design(Strict):
    """All servers, in the order in which they are measured; to stop early costs the least important coefficients.

    Parameters
    ----------
    format
        Version of the file format.
    num_adapters, max_num_seqs
        What it was made for: adapters of the server, and its limit of requests in a batch.
    passes
        Times that the runs of a server are gone through, one pass after the other.
    servers
        With the runs of each.
    """

    format: int = Field(default=FORMAT, le=FORMAT)
    num_adapters: PositiveInt
    max_num_seqs: PositiveInt
    passes: PositiveInt = 1
    servers: tuple[ServerDesign, ...]

    @property
    def num_runs(self) -> int:
        """Of all servers and passes."""
        return self.passes * sum(len(server.runs) for server in self.servers)

    def seconds(self, start_s: float = START_S) -> float:
        """What it takes, roughly."""
        windows = sum(run.window_s + OVERHEAD_S for server in self.servers for run in server.runs)
        return self.passes * windows + start_s * len(self.servers)


def make_design(
    num_adapters: int,
    ranks: Sequence[int],
    max_num_seqs: int,
    max_model_len: int,
    budget_s: float,
    start_s: float = START_S,
) -> Design:
    """The runs that fit into a budget: windows and passes are what it allows; what does not fit is left out at the end.

    Parameters
    ----------
    num_adapters
        That the server will have.
    ranks
        Of the adapters.
    max_num_seqs, max_model_len
        Of the server.
    budget_s
        Of measuring, starts included.
    start_s
        What a start of the server lasts.

    Raises
    ------
    InputError
        The budget does not hold one start and three runs, or the sizes are impossible.
    """
    if num_adapters < 1 or not ranks:
        raise InputError("a calibration of LoRA needs adapters (loratwin adapters make)")
    if max_model_len < 64:
        raise InputError(f"max_model_len = {max_model_len}, but a calibration needs 64 tokens or more")
    if np.isnan(budget_s):
        raise InputError("the minutes of a calibration must be a number")
    servers = _servers(num_adapters, max(ranks), max_num_seqs, min(max_model_len, MOST_CONTEXT))
    while (window := _window_s(servers, budget_s, start_s)) < LEAST_WINDOW_S:
        if len(servers) == 1 and len(servers[0].runs) == LEAST_RUNS:
            least = start_s + LEAST_RUNS * (LEAST_WINDOW_S + OVERHEAD_S)
            raise InputError(f"{budget_s / 60:.3g} minutes hold no calibration: at least {least / 60:.2g} are needed")
        servers = _without_last(servers)
    passes = _passes(servers, budget_s, start_s)
    window = _window_s(servers, budget_s, start_s, passes)
    timed = [
        server.model_copy(update={"runs": tuple(run.model_copy(update={"window_s": window}) for run in server.runs)})
        for server in servers
    ]
    return Design(num_adapters=num_adapters, max_num_seqs=max_num_seqs, passes=passes, servers=tuple(timed))


def _passes(servers: Sequence[ServerDesign], budget_s: float, start_s: float) -> int:
    """As many as leave windows of PASS_WINDOW_S."""
    fit = [n for n in range(2, MOST_PASSES + 1) if _window_s(servers, budget_s, start_s, n) >= PASS_WINDOW_S]
    return max(fit, default=1)


def _window_s(servers: Sequence[ServerDesign], budget_s: float, start_s: float, passes: int = 1) -> float:
    num = passes * sum(len(server.runs) for server in servers)
    left = (budget_s - start_s * len(servers)) / num - OVERHEAD_S
    return min(MOST_WINDOW_S, float(np.floor(left * 2) / 2))


def _without_last(servers: list[ServerDesign]) -> list[ServerDesign]:
    """Without the last run; a server of one run is not worth its start."""
    *rest, last = servers
    if len(last.runs) <= 2 and rest:
        return rest
    return [*rest, last.model_copy(update={"runs": last.runs[:-1]})]


def _servers(num_adapters: int, rank: int, seqs: int, longest: int) -> list[ServerDesign]:
    """Few slots, many slots, and a higher rank with a small host cache."""
    fit = ranks_that_hold(rank)
    few, many = min(2, num_adapters), min(8, num_adapters)
    between = min(4, num_adapters)
    few_cache = max(between, num_adapters // 2)
    return [
        _server("few", few, num_adapters, fit[0], _first_runs(few, num_adapters, seqs, longest)),
        _server("many", many, num_adapters, fit[0], _slot_runs(many, num_adapters, seqs, longest)),
        _server("rank", between, few_cache, fit[:2][-1], _rank_runs(between, num_adapters, seqs, longest)),
    ]


def _server(name: str, slots: int, cache: int, rank: int, runs: list[RunDesign]) -> ServerDesign:
    return ServerDesign(name=name, max_loras=slots, max_cpu_loras=cache, max_lora_rank=rank, runs=tuple(runs))


def _first_runs(slots: int, adapters: int, seqs: int, longest: int) -> list[RunDesign]:
    short, long = _lengths(longest)
    half = max(1, seqs // 2)
    few, some, lasting = (4, 16), (8, 40), (longest // 16, longest // 8)
    return [
        _run("single", 1, 1, short, some, "one request: weights, front end"),
        _run("full", seqs, slots, short, some, "the largest batch, all slots"),
        _run("changing", 2 * seqs, adapters, short, some, "swap-ins, requests passed over"),
        _run("prompts", min(4, seqs), slots, long, few, "prompt tokens and their context"),
        _run("one-adapter", seqs, 1, short, some, "the largest batch, one adapter"),
        _run("context", half, slots, long, lasting, "context of decode requests"),
        _run("half", half, slots, short, some, "half the batch"),
        _run("base", half, 0, short, some, "the LLM without adapters"),
    ]


def _slot_runs(slots: int, adapters: int, seqs: int, longest: int) -> list[RunDesign]:
    short, _ = _lengths(longest)
    some = (8, 40)
    return [
        _run("full", seqs, slots, short, some, "more slots and distinct adapters"),
        _run("changing", 2 * seqs, adapters, short, some, "swap-ins among many slots"),
        _run("half", max(1, seqs // 2), min(4, slots), short, some, "slots apart from distinct adapters"),
        _run("single", 1, 1, short, some, "slots alone"),
        _run("quarter", max(2, seqs // 4), adapters, short, some, "a small batch of many adapters"),
    ]


def _rank_runs(slots: int, adapters: int, seqs: int, longest: int) -> list[RunDesign]:
    short, _ = _lengths(longest)
    some = (8, 40)
    return [
        _run("full", seqs, slots, short, some, "the rank of the slots"),
        _run("disk", 2 * seqs, adapters, short, some, "loads from disk: a small host cache"),
        _run("half", max(1, seqs // 2), slots, short, some, "the rank in half a batch"),
    ]


def _run(
    name: str, in_flight: int, adapters: int, prompt: tuple[int, int], output: tuple[int, int], tells: str
) -> RunDesign:
    return RunDesign(
        name=name, in_flight=in_flight, adapters=adapters, prompt_tokens=prompt, output_tokens=output,
        window_s=LEAST_WINDOW_S, tells=tells,
    )  # fmt: skip


def _lengths(longest: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Short and long prompts for a longest context."""
    return (8, min(128, longest // 4)), (longest // 4, longest // 4 * 3)


def load_design(path: str | Path) -> Design:
    """Read a design's file.

    Raises
    ------
    InputError
        It cannot be read, is no design, or is newer than understood.
    """
    try:
        data = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if isinstance(data, dict) and isinstance(made := data.get("format"), int) and made > FORMAT:
            raise InputError(f"design {path}: format {made}; this version understands format {FORMAT}")
        return Design.model_validate(data)
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"design {path}: cannot be read ({error})") from None
    except yaml.YAMLError as error:
        raise InputError(f"design {path}: not YAML ({str(error).splitlines()[0]})") from None
    except ValidationError as error:
        raise InputError(one_line(error, data, f"design {path}")) from None


def dump_design(design: Design) -> str:
    """The design as YAML."""
    return yaml.safe_dump(design.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=110)
