"""What LLMs are called: popular ones by name (tables/llms.yaml), any other by its folder."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

from loratwin.errors import UnknownNameError
from loratwin.llms.config import REPOSITORY, shapes_from, shapes_from_config
from loratwin.llms.shapes import LlmShapes
from loratwin.tables import read_yaml_table


def llm_names() -> list[str]:
    """Names of the LLMs in the table."""
    return sorted(_table())


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return read_yaml_table("loratwin.llms.tables", "llms.yaml")


def find_llm(name: str, engine: str = "vllm-0.8.5") -> LlmShapes:
    """Shapes of an LLM by its name in the table, by its repository, or by a local `config.json` (or its folder).

    Raises
    ------
    UnknownNameError
        Neither a name of the table nor a path.
    InputError
        As `shapes_from_config`.
    """
    wanted = name.lower()
    for known, row in _table().items():
        if wanted in (known, row["repository"].lower()):
            return shapes_from(f"LLM {known}", known, row["repository"], row, engine)
    if not name or not Path(name).exists():  # of a repository that is not there, the LLM's name may be close to one
        raise UnknownNameError("LLM", wanted.split("/")[-1] if REPOSITORY.fullmatch(name) else wanted, llm_names())
    return shapes_from_config(name, engine)


def names_llm(name: str, llm: LlmShapes) -> bool | None:
    """Whether what a server calls its LLM is this one, by the last part of the path, whatever case; None: unknown.

    A name of the table is this LLM if the sizes are the same, as of one trained further. Any other name is not where
    `llm` has a published name itself; but a local folder may be called anything.
    """
    last, own = _last_part(name), {_last_part(llm.name), _last_part(llm.repository or llm.name)}
    for known, row in _table().items():
        if last in (known, _last_part(row["repository"])):
            return _sizes_of(find_llm(known)) == _sizes_of(llm)
    if any(each in last for each in own):
        return True
    local = "/" in name and not REPOSITORY.fullmatch(name)
    return None if not last or local or llm.repository is None else False


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()


def _sizes_of(llm: LlmShapes) -> tuple[int, ...]:
    heads = (llm.num_heads, llm.num_kv_heads, llm.head_dim)
    return (llm.hidden_size, llm.intermediate_size, llm.num_layers, llm.vocab_size, *heads)
