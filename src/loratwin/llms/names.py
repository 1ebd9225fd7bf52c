"""What LLMs are called: popular ones by any of their names (tables/llms.yaml), any other by its folder."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from loratwin.engines.versions import UNTOLD
from loratwin.errors import InputError, UnknownNameError
from loratwin.llms.config import CACHED, REPOSITORY, shapes_from, shapes_from_config
from loratwin.llms.quantization import MARKS, METHODS
from loratwin.llms.shapes import LlmShapes
from loratwin.tables import read_yaml_table

_NOTE = re.compile(r"\s*\((?P<note>[^()]*)\)\s*$")
_VOCABULARY = re.compile(r"vocabulary (?P<words>\d[\d,]*)")


class _Known(NamedTuple):
    """A repository that the table has: the row, and the fields in which it differs from it."""

    row: str
    repository: str
    differs: Mapping[str, Any]


def llm_names() -> list[str]:
    """Names of the LLMs in the table."""
    return sorted(_table())


@lru_cache(maxsize=1)
def _table() -> dict[str, dict[str, Any]]:
    return read_yaml_table("loratwin.llms.tables", "llms.yaml")


def _repositories() -> Iterator[_Known]:
    for name, row in _table().items():
        yield _Known(name, row["repository"], {})
        for other in row.get("also", ()):
            (repository, differs), *_ = other.items() if isinstance(other, dict) else ((other, {}),)
            yield _Known(name, repository, differs)


@lru_cache(maxsize=1)
def _index() -> dict[str, _Known]:
    """By name of the table, repository, and last part of a repository, all in lower case; the first keeps a name."""
    index = {name: _Known(name, row["repository"], {}) for name, row in _table().items()}
    known = list(_repositories())
    for each in known:
        index.setdefault(each.repository.lower(), each)
    for each in known:
        index.setdefault(_last_part(each.repository), each)
    return index


def find_llm(name: str, engine: str = UNTOLD) -> LlmShapes:
    """An LLM by its name in the table, by any repository of its family's, or by a folder with its `config.json`.

    Names of copies are understood: another owner's (`unsloth/Llama-3.1-8B-Instruct`), and quantized ones
    (`...-bnb-4bit`, `...-AWQ`, `...-quantized.w4a16`), whose weights are then of fewer bits. A note in parentheses is
    left out, but for `(vocabulary 32000)`, which is taken.

    Raises
    ------
    UnknownNameError
        Neither a name that is known nor a path.
    InputError
        As `shapes_from_config`.
    """
    noted = _NOTE.search(name)
    asked, note = (name[: noted.start()], noted["note"]) if noted else (name, "")
    known = _index().get(asked.lower().strip())
    if known is None and asked and Path(asked).exists():
        return shapes_from_config(asked, engine)
    found = known or _copy_of(asked)
    if found is None:
        raise _unknown(asked)
    return _from_table(asked, found, engine, note)


def quantized_name(name: str, quantization: str) -> str:
    """What an LLM is called whose weights are quantized so.

    Parameters
    ----------
    quantization
        As `--quantization` of vLLM has it, or as names of such LLMs end.

    Raises
    ------
    InputError
        Neither.
    """
    mark = METHODS.get(quantization, quantization)
    if not MARKS.fullmatch(f"-{mark}"):
        raise InputError(f"quantization = {quantization!r}, but it must be one of {', '.join(METHODS)}")
    return f"{name}-{mark}"


def _copy_of(name: str) -> _Known | None:
    """The repository of which one of this name is a copy, perhaps with quantized weights."""
    cached = CACHED.search(name)
    last = _last_part(f"{cached['owner']}/{cached['name']}" if cached else name)
    if "/" in name and not cached and not REPOSITORY.fullmatch(name):
        return None  # a folder that is not there
    plain = MARKS.sub("", last)
    return next((found for each in (last, plain) if (found := _index().get(each))), None)


def _from_table(asked: str, found: _Known, engine: str, note: str) -> LlmShapes:
    row = {key: value for key, value in _table()[found.row].items() if key not in ("also", "billions", "repository")}
    own = asked.lower() in (found.row, _table()[found.row]["repository"].lower())
    cached = CACHED.search(asked)
    repository = f"{cached['owner']}/{cached['name']}" if cached else asked
    if not REPOSITORY.fullmatch(repository):  # a name, not a repository
        repository = found.repository
    if own:
        name, repository = found.row, _table()[found.row]["repository"]
    else:
        name = _last_part(cached["name"] if cached else asked)
    mark = MARKS.search(_last_part(asked) if not cached else cached["name"])
    quantized = {"quantization_config": None} if mark else {}  # of the copy, not of the original
    words = _VOCABULARY.search(note)
    vocabulary = {"vocab_size": int(words["words"].replace(",", ""))} if words else {}
    config = {**row, **found.differs, **quantized, **vocabulary}
    llm = shapes_from(f"LLM {asked}", name, repository, config, engine)
    return llm if own or not (cached or mark) else llm.model_copy(update={"given": asked})


def _unknown(asked: str) -> InputError:
    """Names of the same family are shown and suggested, none of another."""
    wanted = _last_part(asked) if REPOSITORY.fullmatch(asked) else asked.lower()
    family = _family(wanted)
    same = [name for name in llm_names() if _family(name) == family]
    if same:
        return UnknownNameError("LLM", wanted, same)
    families = ", ".join(sorted({_family(name) for name in llm_names()}))
    return InputError(
        f"unknown LLM {wanted!r}. Known are LLMs of these families: {families}; of any other give the folder with its "
        "config.json"
    )


def _family(name: str) -> str:
    """The letters that it begins with, those of the maker left out: llama of meta-llama-3-8b."""
    letters = re.match(r"(?:meta-|c4ai-|nvidia-)?(?P<family>[a-z]+)", name.lower())
    return letters["family"] if letters else ""


def names_llm(name: str, llm: LlmShapes) -> bool | None:
    """Whether what a server calls its LLM is this one, by the last part of the path, whatever case; None: unknown.

    A name of the table is this LLM if the sizes are the same, as of one trained further. Any other name is not where
    `llm` has a published name itself; but a local folder may be called anything.
    """
    last, own = _last_part(name), {_last_part(llm.name), _last_part(llm.repository or llm.name)}
    if known := _index().get(last):
        return _sizes_of(find_llm(known.row)) == _sizes_of(llm)
    if any(each in last for each in own):
        return True
    local = "/" in name and not REPOSITORY.fullmatch(name)
    return None if not last or local or llm.repository is None else False


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()


def _sizes_of(llm: LlmShapes) -> tuple[int, ...]:
    heads = (llm.num_heads, llm.num_kv_heads, llm.head_dim)
    return (llm.hidden_size, llm.intermediate_size, llm.num_layers, llm.vocab_size, *heads)
