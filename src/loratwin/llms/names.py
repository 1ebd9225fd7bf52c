"""Shapes of LLMs: popular ones by name (tables/llms.yaml), any other from its `config.json`.

What vLLM makes of them was read in its model classes: which of them put LoRA buffers on the embedding and the head
(`embedding_modules`), which have a bias on q, k and v, and which keep qkv and gate_up in one layer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError

from loratwin.errors import InputError, UnknownNameError
from loratwin.llms.layers import MOST, MOST_LAYERS
from loratwin.llms.shapes import LlmShapes
from loratwin.records.config import Version, engine_version
from loratwin.refusals import one_line
from loratwin.tables import read_yaml_table


class Architecture(NamedTuple):
    """What a `model_type` says beyond its sizes."""

    lora_on_vocabulary: bool  # in vLLM 0.8.5
    lora_on_vocabulary_now: bool  # in vLLM 0.32
    attention_bias: bool = False
    fused_projections: bool = False
    tied_embeddings: bool = False  # where the file does not say: transformers leaves out its defaults


ARCHITECTURES = {
    "llama": Architecture(True, True),
    "mistral": Architecture(True, False),
    "qwen2": Architecture(False, False, attention_bias=True),
    "qwen3": Architecture(False, True),
    "gemma": Architecture(False, False, tied_embeddings=True),
    "phi3": Architecture(True, True, fused_projections=True),
}
"""Decoder-only transformers whose every layer attends to the whole context."""

_NOW: Version = (0, 32, 0)
_REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # owner/name; a path has more or fewer parts, or begins with a dot
_SIZES = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size")

_OPTIONAL_SIZES = ("num_key_value_heads", "head_dim", "max_position_embeddings")


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
            return _shapes(f"LLM {known}", known, row["repository"], row, engine)
    if not name or not Path(name).exists():  # of a repository that is not there, the LLM's name may be close to one
        raise UnknownNameError("LLM", wanted.split("/")[-1] if _REPOSITORY.fullmatch(name) else wanted, llm_names())
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
    local = "/" in name and not _REPOSITORY.fullmatch(name)
    return None if not last or local or llm.repository is None else False


def _last_part(name: str) -> str:
    return name.rstrip("/").split("/")[-1].lower()


def _sizes_of(llm: LlmShapes) -> tuple[int, ...]:
    heads = (llm.num_heads, llm.num_kv_heads, llm.head_dim)
    return (llm.hidden_size, llm.intermediate_size, llm.num_layers, llm.vocab_size, *heads)


def shapes_from_config(path: str | Path, engine: str = "vllm-0.8.5", windows: bool = False) -> LlmShapes:
    """Shapes of the LLM that a `config.json`, or the folder with it, describes.

    Parameters
    ----------
    engine
        Version of vLLM that shall serve it: which layers get LoRA buffers depends on it.
    windows
        Take LLMs whose attention slides or whose weights are quantized, too: their shapes are right, their memory is
        not.

    Raises
    ------
    InputError
        The file cannot be read, lacks a size, or describes an LLM whose memory or attention is of another kind.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as the config.json of an LLM ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{file}: cannot be read as the config.json of an LLM (an object is expected)")
    origin = str(config.get("_name_or_path") or "")
    name = (origin or file.absolute().parent.name).rstrip("/").split("/")[-1].lower()
    if windows:
        config = {**config, "sliding_window": None, "quantization_config": None}
    return _shapes(str(file), name, origin if _REPOSITORY.fullmatch(origin) else None, config, engine)


def _shapes(where: str, name: str, repository: str | None, config: Mapping[str, Any], engine: str) -> LlmShapes:
    kind = config.get("model_type")
    if not isinstance(kind, str) or kind not in ARCHITECTURES:
        raise InputError(f"{where}: model_type = {kind!r}, but it must be one of {', '.join(ARCHITECTURES)}")
    _check_sizes(where, config)
    _check_memory(where, config)
    return _checked(where, name, repository, config, ARCHITECTURES[kind], engine_version(engine) >= _NOW)


def _check_sizes(where: str, config: Mapping[str, Any]) -> None:
    for key in (*_SIZES, *(key for key in _OPTIONAL_SIZES if config.get(key) is not None)):
        if type(config.get(key)) is not int or config[key] < 1:
            raise InputError(f"{where}: {key} = {config.get(key)!r}, but it must be a whole number above 0")
        if config[key] > (most := MOST_LAYERS if key == "num_hidden_layers" else MOST):
            raise InputError(f"{where}: {key} = {config[key]}, but no LLM has more than {most:,}")
    hidden, heads = config["hidden_size"], config["num_attention_heads"]
    if config.get("head_dim") is None and hidden % heads:
        raise InputError(f"{where}: num_attention_heads = {heads}, but it must divide hidden_size = {hidden}")
    if heads % (kv_heads := config.get("num_key_value_heads") or heads):
        raise InputError(f"{where}: num_key_value_heads = {kv_heads}, but it must divide num_attention_heads = {heads}")


def _check_memory(where: str, config: Mapping[str, Any]) -> None:
    """Refuse LLMs whose KV cache or weights take other bytes than their shapes say."""
    window, longest = config.get("sliding_window"), config.get("max_position_embeddings") or 0
    if window and (type(window) is not int or window < longest) and config.get("use_sliding_window", True):
        raise InputError(f"{where}: sliding_window = {window!r}, but every layer must attend to the whole context")
    if quantized := config.get("quantization_config"):
        method = quantized.get("quant_method") if isinstance(quantized, dict) else quantized
        raise InputError(f"{where}: quantization_config = {method!r}, but the weights must be of 16 bits")


def _checked(
    where: str, name: str, repository: str | None, config: Mapping[str, Any], kind: Architecture, now: bool
) -> LlmShapes:
    heads = config["num_attention_heads"]
    try:
        return LlmShapes(
            name=name,
            repository=repository,
            hidden_size=config["hidden_size"],
            intermediate_size=config["intermediate_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=heads,
            num_kv_heads=config.get("num_key_value_heads") or heads,
            head_dim=config.get("head_dim") or config["hidden_size"] // heads,
            vocab_size=config["vocab_size"],
            max_model_len=config.get("max_position_embeddings") or 2048,
            lora_on_vocabulary=kind.lora_on_vocabulary_now if now else kind.lora_on_vocabulary,
            attention_bias=kind.attention_bias,
            tied_embeddings=bool(config.get("tie_word_embeddings", kind.tied_embeddings)),
            fused_projections=kind.fused_projections,
        )
    except ValidationError as error:
        raise InputError(one_line(error, None, where)) from None
