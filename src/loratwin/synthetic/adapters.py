"""LoRA adapters with random weights, in the layout of PEFT: as many as a benchmark needs, of any rank."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import DataError, InputError, UnknownNameError
from loratwin.lists import numbers_in_turn
from loratwin.llms import LlmShapes
from loratwin.records import write_atomically
from loratwin.synthetic import folders
from loratwin.synthetic.peft import peft_rank
from loratwin.synthetic.shapes import LINEAR_MODULES, modules
from loratwin.synthetic.tensors import DTYPE_BYTES, Dtype, Tensor, safetensors_file
from loratwin.workload import AdapterGroup, WorkloadSpec, load_spec
from loratwin.workload.adapter_folder import adapter_folders
from loratwin.workload.popularity import MAX_RANK
from loratwin.workload.streams import stream

INDEX = "adapters.json"
"""Says that a folder is ours, and lists its adapters."""

MODULES_FILE = "lora-modules.txt"
"""One line for each adapter as `--lora-modules` takes it: `mapfile -t modules < lora-modules.txt`."""

STRENGTH = 0.25
"""Size of what an adapter adds to a layer's output, as part of that output: enough to change what is generated."""

_GROUP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_SAFE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


class NewAdapter(NamedTuple):
    """An adapter to be made."""

    name: str
    rank: int


class MadeAdapter(NamedTuple):
    """An adapter in a folder."""

    name: str
    path: Path
    """Absolute."""
    rank: int


def numbered(name: str, count: int, ranks: Sequence[int]) -> list[NewAdapter]:
    """name-0, name-1, ... with the ranks in turn: the names that a workload file gives to a group.

    Raises
    ------
    InputError
        A name that no workload file could give, no or too many adapters, or a rank that is not from 1 to 512.
    """
    if name == "base" or not _GROUP_NAME.fullmatch(name):
        raise InputError(f"--name {name!r}: letters, digits, '.', '_' and '-', a letter or digit first, and not 'base'")
    if count < 1:
        raise InputError(f"--count {count}: must be at least 1")
    _check_ranks(ranks)
    return from_workload(WorkloadSpec(groups=(AdapterGroup(name=name, count=count, ranks=tuple(ranks), rate=0.0),)))


def from_workload(spec: WorkloadSpec) -> list[NewAdapter]:
    """The adapters of a workload, with its names and ranks."""
    return [
        NewAdapter(name, int(rank))
        for group in spec.groups
        for name, rank in zip(group.adapter_names(), group.rank_of_each(), strict=True)
    ]


def wanted_adapters(
    count: int | None = None, ranks: str | None = None, name: str | None = None, workload: str | Path | None = None
) -> list[NewAdapter]:
    """Either those of a workload, or so many with a common name; what `loratwin adapters make` makes.

    Parameters
    ----------
    count
        How many.
    ranks
        Theirs, in turn, as "8,16"; None: 8.
    name
        They are called name-0, name-1, ...; None: adapter.
    workload
        Workload file or example:NAME that says all this instead.

    Raises
    ------
    InputError
        Neither is said, or both are; or as `numbered` and `load_spec`.
    """
    if workload is None:
        if count is None:
            raise InputError("say how many adapters (--count 300), or which (--workload FILE)")
        return numbered(name or "adapter", count, numbers_in_turn("--ranks", ranks or "8"))
    if (count, ranks, name) != (None, None, None):
        raise InputError("--workload gives number, ranks and names; leave out --count, --ranks and --name")
    return from_workload(load_spec(workload))


def make_adapters(
    folder: str | Path,
    llm: LlmShapes,
    adapters: Iterable[NewAdapter],
    *,
    target_modules: Sequence[str] = LINEAR_MODULES,
    dtype: Dtype = "bfloat16",
    seed: int = 0,
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> list[MadeAdapter]:
    """Write each adapter to a folder of its name: `adapter_config.json` and `adapter_model.safetensors`.

    Also written: `adapters.json` (name, path, rank) and `lora-modules.txt`. An adapter depends on the seed and its name
    alone. When interrupted and called again with the same arguments, it goes on with those that are missing.

    Raises
    ------
    InputError
        A name that is no safe name of a folder or is given twice, a rank that is not from 1 to 512, a folder with
        something else in it, no room on the disk.
    UnknownNameError
        An unknown target module or dtype.
    """
    new, target = list(adapters), Path(folder)
    chosen = _check(new, target_modules, dtype)
    size = sum(_num_bytes(llm, adapter.rank, chosen, dtype) for adapter in new)
    content = {
        "llm": llm.model_dump(exclude={"name", "repository"}),
        "target_modules": list(chosen),
        "dtype": dtype,
        "seed": seed,
        "adapters": [{"name": name, "path": name, "rank": rank} for name, rank in new],
    }
    if not (target / INDEX).is_file():  # what is there already needs no more room
        folders.check_room(target, size)
    folders.claim(target, INDEX, content)
    for done, adapter in enumerate(new):
        progress(done, len(new))
        _make_adapter(target / adapter.name, llm, adapter, chosen, dtype, seed)
    progress(len(new), len(new))
    made = read_adapters(target)
    word = find_engine(DEFAULT).adapter_word
    write_atomically(target / MODULES_FILE, "".join(f"{word(name, str(path))}\n" for name, path, _ in made))
    return made


def _check(new: Sequence[NewAdapter], target_modules: Sequence[str], dtype: str) -> tuple[str, ...]:
    """The target modules in the order of the layers."""
    if not new:
        raise InputError("there is no adapter to make")
    if dtype not in DTYPE_BYTES:
        raise UnknownNameError("dtype", dtype, DTYPE_BYTES)
    for module in target_modules:
        if module not in LINEAR_MODULES:
            raise UnknownNameError("target module", module, LINEAR_MODULES)
    if not target_modules:
        raise InputError(f"no target module: give some of {', '.join(LINEAR_MODULES)}")
    _check_ranks([adapter.rank for adapter in new])
    _check_names([adapter.name for adapter in new])
    return tuple(name for name in LINEAR_MODULES if name in target_modules)


def _check_ranks(ranks: Sequence[int]) -> None:
    if not ranks:
        raise InputError("no rank is given")
    for rank in ranks:
        if not 1 <= rank <= MAX_RANK:
            raise InputError(f"rank {rank}: must be from 1 to {MAX_RANK}")


def _check_names(names: Sequence[str]) -> None:
    """Names become folders, so one from outside must not reach beyond ours."""
    seen: set[str] = set()
    for name in names:
        if not _SAFE_NAME.fullmatch(name):
            raise InputError(
                f"adapter name {name!r} cannot be the name of a folder: only letters, digits, '.', '_' and '-', "
                "at most 200, and a letter or digit first"
            )
        if name in seen or name in (INDEX, MODULES_FILE):
            raise InputError(f"adapter name {name!r} is " + ("given twice" if name in seen else "that of our own file"))
        seen.add(name)


def _make_adapter(
    folder: Path, llm: LlmShapes, adapter: NewAdapter, target_modules: Sequence[str], dtype: Dtype, seed: int
) -> None:
    """Config first, weights last: an adapter with weights is whole."""
    weights = folder / "adapter_model.safetensors"
    if weights.is_file() and (folder / "adapter_config.json").is_file():
        return
    folders.make(folder)
    config = json.dumps(_config(llm, adapter, target_modules), indent=1)
    write_atomically(folder / "adapter_config.json", config + "\n")
    tensors = dict(_tensors(llm, adapter.rank, target_modules))
    write_atomically(weights, safetensors_file(tensors, dtype, stream(seed, adapter.name, "weights")))


def _config(llm: LlmShapes, adapter: NewAdapter, target_modules: Sequence[str]) -> dict[str, Any]:
    """`LoraConfig` of PEFT; with lora_alpha = r the factor lora_alpha / r is 1."""
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": llm.repository or llm.name,
        "r": adapter.rank,
        "lora_alpha": adapter.rank,
        "target_modules": list(target_modules),
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "inference_mode": True,
        "modules_to_save": None,
        "use_dora": False,
        "use_rslora": False,
    }


def _tensors(llm: LlmShapes, rank: int, target_modules: Sequence[str]) -> Iterable[tuple[str, Tensor]]:
    """A keeps the scale of its input; B makes of `rank` such numbers `STRENGTH` of it."""
    for layer in range(llm.num_layers):
        for name, (part, inputs, outputs) in modules(llm).items():
            if name in target_modules:
                start = f"base_model.model.model.layers.{layer}.{part}.{name}"
                yield f"{start}.lora_A.weight", Tensor((rank, inputs), inputs**-0.5)
                yield f"{start}.lora_B.weight", Tensor((outputs, rank), STRENGTH * rank**-0.5)


def _num_bytes(llm: LlmShapes, rank: int, target_modules: Sequence[str], dtype: Dtype) -> int:
    return DTYPE_BYTES[dtype] * sum(math.prod(tensor.shape) for _, tensor in _tensors(llm, rank, target_modules))


def read_adapters(folder: str | Path) -> list[MadeAdapter]:
    """The adapters in a folder: those that `make_adapters` wrote, or any in PEFT's layout, one folder each.

    Raises
    ------
    InputError
        There are none, or vLLM refuses one.
    DataError
        The index or an adapter's config is damaged, or an adapter is missing (an interrupted run: call `make_adapters`
        again).
    """
    index = Path(folder).absolute() / INDEX
    if not index.exists() and (trained := adapter_folders(index.parent)):
        return [MadeAdapter(path.name, path, peft_rank(path)) for path in trained]
    try:
        rows = json.loads(index.read_text(encoding="utf-8"))["adapters"]
        made = [MadeAdapter(str(row["name"]), index.parent / row["path"], int(row["rank"])) for row in rows]
    except OSError as error:
        raise InputError(f"cannot read {index}: {error.strerror}; `loratwin adapters make` writes it") from None
    except (ValueError, TypeError, KeyError) as error:
        raise DataError(f"{index} is damaged: {error!r}") from None
    for adapter in made:
        _check_made(adapter)
    return made


def _check_made(adapter: MadeAdapter) -> None:
    """Before a server takes minutes to start and stumbles over it."""
    name, path, rank = adapter
    if not (path / "adapter_model.safetensors").is_file():
        raise DataError(f"{path}: the weights of adapter {name} are missing; make the adapters again to go on")
    config = path / "adapter_config.json"
    try:
        whole = json.loads(config.read_text(encoding="utf-8"))["r"] == rank
    except (OSError, ValueError, TypeError, KeyError):
        whole = False
    if not whole:
        raise DataError(
            f"{config} is damaged, or of another rank than {rank}; remove {path} and make the adapters again"
        )


def lora_modules_args(folder: str | Path, engine: str = DEFAULT) -> list[str]:
    """The arguments that serve all adapters in a folder, as `--lora-modules NAME=PATH ...`; paths are absolute.

    Parameters
    ----------
    engine
        Name of the engine that they are for.

    Raises
    ------
    InputError, DataError
        As `read_adapters`; or there is no such engine.
    """
    kind = find_engine(engine)
    words = [kind.adapter_word(name, str(path)) for name, path, _ in read_adapters(folder)]
    return [kind.options["lora_modules"].name, *words]
