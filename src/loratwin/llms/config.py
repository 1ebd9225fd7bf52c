"""An LLM from the files of its folder: `config.json`, and `hf_quant_config.json` where there is one."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from loratwin.engines.versions import UNTOLD, Version, engine_version
from loratwin.errors import InputError
from loratwin.llms.context import context_of
from loratwin.llms.families import FAMILIES, SEEING, Family, family_of
from loratwin.llms.families.common import Body, grouped
from loratwin.llms.fields import Fields
from loratwin.llms.layers import Layers, Linear
from loratwin.llms.quantization import MARKS, Quantization, quantization_of
from loratwin.llms.shapes import LlmShapes, alike
from loratwin.llms.vision import vision_parameters
from loratwin.refusals import one_line

NOW: Version = (0, 19, 0)
"""From here on adapters may have embedding and head in Qwen3, and no more in Mistral (engine.md 5.4)."""
EXPERTS_HAVE_ADAPTERS: Version = (0, 13, 0)
"""vLLM puts LoRA buffers on experts from here on (`lora/layers/fused_moe.py`; absent in 0.11.0)."""

REPOSITORY = re.compile(r"[\w-][\w.-]*/[\w.-]+")  # owner/name; a path has more or fewer parts, or begins with a dot
CACHED = re.compile(r"models--(?P<owner>[^/]+?)--(?P<name>[^/]+)")


def shapes_from_config(path: str | Path, engine: str = UNTOLD) -> LlmShapes:
    """The LLM that a `config.json`, or the folder with it, describes.

    Parameters
    ----------
    engine
        Version of vLLM that shall serve it: which layers get LoRA buffers, and how long the context is, depends on it.

    Raises
    ------
    InputError
        The file cannot be read, lacks a size, or describes layers or weights that are not known.
    """
    file = Path(path) / "config.json" if Path(path).is_dir() else Path(path)
    config = _read(file)
    name, repository = _called(file, config)
    beside = file.parent / "hf_quant_config.json"
    modelopt = _read(beside) if beside.is_file() else None
    llm = shapes_from(str(file), name, repository, config, engine, modelopt, file.absolute().parent.name)
    return llm.model_copy(update={"given": str(file.parent)})


def _read(file: Path) -> dict[str, Any]:
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file}: cannot be read as the config.json of an LLM ({error})") from None
    if not isinstance(config, dict):
        raise InputError(f"{file}: cannot be read as the config.json of an LLM (an object is expected)")
    return config


def _called(file: Path, config: Mapping[str, Any]) -> tuple[str, str | None]:
    """(name, repository): by the folder of a Hugging Face cache, by what the file says, or by the folder's name."""
    if cached := CACHED.search(file.absolute().parent.as_posix()):
        return cached["name"].lower(), f"{cached['owner']}/{cached['name']}"
    origin = str(config.get("_name_or_path") or "")
    name = (origin or file.absolute().parent.name).rstrip("/").split("/")[-1].lower()
    return name, origin if REPOSITORY.fullmatch(origin) else None


def shapes_from(
    where: str,
    name: str,
    repository: str | None,
    config: Mapping[str, Any],
    engine: str,
    modelopt: Mapping[str, Any] | None = None,
    folder: str = "",
) -> LlmShapes:
    """The LLM of what a `config.json` says; `where` it is from, for messages.

    Parameters
    ----------
    modelopt
        What `hf_quant_config.json` says, where there is one.
    folder
        Its name, which may say how the weights are quantized where no file does.

    Raises
    ------
    InputError
        As `shapes_from_config`.
    """
    whole, text = Fields(where, config), text_fields(where, config)
    family, version = family_of(text), engine_version(engine)
    named = next((each for each in (folder, repository or "", name) if MARKS.search(each)), name)
    quantization = quantization_of(where, config, modelopt, named)
    try:
        body = family.read(text)
        layers = _for_version(grouped(body.layers, quantization.type_of), family, version)
        return _shapes(name, repository, whole, text, family, body, layers, quantization, version)
    except ValidationError as error:
        raise InputError(one_line(error, None, where)) from None


def text_fields(where: str, config: Mapping[str, Any]) -> Fields:
    """Fields of the LLM proper: of one that sees, those of its text part."""
    kind = config.get("model_type")
    inner = next(
        (config[key] for key in ("text_config", "llm_config", "language_config") if isinstance(config.get(key), dict)),
        None,
    )
    if inner is None:
        known = SEEING.get(kind) if isinstance(kind, str) else None
        return Fields(where, {**config, "model_type": known} if known and kind not in FAMILIES else config)
    said = inner.get("model_type")
    if not isinstance(said, str) or said not in FAMILIES:
        said = SEEING.get(kind, said) if isinstance(kind, str) else said
    tied = {"tie_word_embeddings": config["tie_word_embeddings"]} if "tie_word_embeddings" in config else {}
    return Fields(where, {**tied, **inner, "model_type": said})


def _for_version(layers: tuple[Layers, ...], family: Family, version: Version) -> tuple[Layers, ...]:
    """With the adapters' buffers that this version of vLLM makes of experts."""

    def adapted(linear: Linear) -> Linear:
        if not linear.experts:
            return linear
        lora = "none" if version < EXPERTS_HAVE_ADAPTERS else "whole" if family.experts_in_one else linear.lora
        return linear if lora == linear.lora else linear.model_copy(update={"lora": lora})

    return tuple(kind.model_copy(update={"linears": tuple(map(adapted, kind.linears))}) for kind in layers)


def _shapes(
    name: str,
    repository: str | None,
    whole: Fields,
    text: Fields,
    family: Family,
    body: Body,
    layers: tuple[Layers, ...],
    quantization: Quantization,
    version: Version,
) -> LlmShapes:
    hidden, vocabulary = text.size("hidden_size", "n_embd", "d_model"), text.size("vocab_size", "padded_vocab_size")
    heads, kv_heads, head_dim = _most_heads(layers)
    tied = text.flag("tie_word_embeddings", whole.flag("tie_word_embeddings", family.tied_embeddings))
    context = context_of(text, version)
    num_layers = sum(kind.count for kind in layers)
    bias = any(linear.bias for linear in layers[0].linears if linear.name == "qkv_proj")
    simple = alike(
        num_layers, hidden, body.intermediate_size, heads, kv_heads, head_dim, bias, family.fused_projections
    )
    dense = _is_simple(layers, simple, hidden) and not (body.other or quantization.title)
    vision = vision_parameters(whole, hidden)
    return LlmShapes(
        name=name,
        repository=repository,
        hidden_size=hidden,
        intermediate_size=body.intermediate_size,
        num_layers=num_layers,
        num_heads=heads,
        num_kv_heads=kv_heads,
        head_dim=head_dim,
        vocab_size=vocabulary,
        max_model_len=context.tokens,
        context_rule=None if dense and context.rule in _PLAIN_RULES else context.rule,
        lora_on_vocabulary=family.lora_on_vocabulary_now if version >= NOW else family.lora_on_vocabulary,
        attention_bias=bias,
        tied_embeddings=tied,
        fused_projections=family.fused_projections,
        layers=() if dense else layers,
        other_parameters=body.other,
        draft_parameters=body.draft,
        vision_parameters=vision,
        head_numbers=quantization.head,
        kv_number_bytes=quantization.kv_number_bytes,
        quantization=quantization.title,
        family=None if dense else whole.model_type,
    )


_PLAIN_RULES = ("max_position_embeddings", "no length is given: vLLM takes 2048")


def _most_heads(layers: tuple[Layers, ...]) -> tuple[int, int, int]:
    """(query heads, key heads, size of a head) of most layers that keep keys and values."""
    keeping = [kind for kind in layers if kind.attention.kind not in ("none", "linear", "mamba")] or list(layers)
    most = max(keeping, key=lambda kind: kind.count).attention
    return max(1, most.num_heads), max(1, most.num_kv_heads), max(1, most.key_size)


def _is_simple(layers: tuple[Layers, ...], simple: tuple[Layers, ...], hidden: int) -> bool:
    """Whether the sizes alone tell the layers; norms of queries and keys, some thousand numbers, do not count."""
    if len(layers) != 1 or layers[0].attention != simple[0].attention or layers[0].linears != simple[0].linears:
        return False
    return 0 <= layers[0].other_parameters - 2 * hidden <= 2048
