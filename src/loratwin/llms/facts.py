"""All that is known of an LLM, for people and programs: `loratwin llm show`."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict

from loratwin.engines.versions import UNTOLD, generation_of
from loratwin.llms.layers import Attention, Cache, Layers, Linear
from loratwin.llms.lora import lora_modules, slot_bytes
from loratwin.llms.names import find_llm
from loratwin.llms.shapes import LlmShapes, speed_unknown
from loratwin.llms.tensor_parallel import check_dealt

RANKS = (8, 16, 32, 64, 128)


class KindFacts(BaseModel):
    """Layers of one kind."""

    model_config = ConfigDict(frozen=True)

    count: int
    attention: str  # in words
    feed_forward: str
    parameters: int  # of one
    numbers: tuple[str, ...]  # types of the weights
    bytes_per_token: int  # that one of them keeps of each token, on one GPU
    bytes_per_request: int  # that one keeps however long a request is; of a window, when it is full


class LlmFacts(BaseModel):
    """What follows from an LLM's layers, on one of `tensor_parallel` GPUs."""

    model_config = ConfigDict(frozen=True)

    name: str
    served_as: str
    engine: str
    tensor_parallel: int
    parameters: int
    active_parameters: int
    vision_parameters: int
    draft_parameters: int  # not loaded unless asked for
    quantization: str | None
    weight_bytes: int
    kinds: tuple[KindFacts, ...]
    kv_bytes_per_token: int  # that a long request takes for each token more
    kv_bytes_per_request: int  # of one of `max_model_len` tokens: all that it keeps
    state_bytes_per_request: int
    kv_number_bytes: float
    max_model_len: int
    context_rule: str
    lora_modules: tuple[str, ...]
    lora_on_vocabulary: bool
    lora_slot_bytes: dict[int, int]  # by rank
    speed_unknown: str  # empty: its step time can be assumed

    def as_plain(self) -> dict[str, Any]:
        """For JSON."""
        return self.model_dump(mode="json")


def llm_facts(name: str, engine: str | None = None, tensor_parallel: int = 1) -> LlmFacts:
    """What is known of the LLM of this name or folder.

    Parameters
    ----------
    name
        As `find_llm` takes it.
    engine
        Version of vLLM, as "vllm-0.8.5"; None: that which is taken where nobody tells.
    tensor_parallel
        GPUs that share it.

    Raises
    ------
    InputError
        As `find_llm`; GPUs that its heads cannot be dealt out to, or an engine that is not known.
    """
    engine = engine or UNTOLD
    llm = find_llm(name, engine)
    check_dealt(llm, tensor_parallel)
    return facts_of(llm, engine, tensor_parallel)


def facts_of(llm: LlmShapes, engine: str, tensor_parallel: int = 1) -> LlmFacts:
    """What is known of an LLM that was read."""
    t, extra = tensor_parallel, generation_of(engine).generation.extra_vocabulary
    kinds = tuple(_kind(llm, kind, t) for kind in llm.kinds)
    number = llm.kv_number_bytes or llm.dtype_bytes
    return LlmFacts(
        name=llm.name,
        served_as=llm.given or llm.repository or llm.name,
        engine=engine,
        tensor_parallel=t,
        parameters=llm.num_parameters,
        active_parameters=llm.active_parameters,
        vision_parameters=llm.vision_parameters,
        draft_parameters=llm.draft_parameters,
        quantization=llm.quantization,
        weight_bytes=llm.weight_bytes_on_gpu(t),
        kinds=kinds,
        kv_bytes_per_token=llm.kv_bytes_on_gpu(t),
        kv_bytes_per_request=sum(kind.count * _request(kind, t, number, llm.max_model_len) for kind in llm.kinds),
        state_bytes_per_request=llm.state_bytes_on_gpu(t),
        kv_number_bytes=number,
        max_model_len=llm.max_model_len,
        context_rule=llm.context_rule or "max_position_embeddings",
        lora_modules=_adapted(llm),
        lora_on_vocabulary=llm.lora_on_vocabulary,
        lora_slot_bytes={rank: slot_bytes(llm, rank, extra, t) for rank in RANKS},
        speed_unknown=speed_unknown(llm),
    )


def _kind(llm: LlmShapes, kind: Layers, tensor_parallel: int) -> KindFacts:
    number = llm.kv_number_bytes or llm.dtype_bytes
    caches = kind.attention.caches
    return KindFacts(
        count=kind.count,
        attention=_attention_words(kind.attention),
        feed_forward=_feed_forward_words(kind.linears),
        parameters=kind.num_parameters,
        numbers=tuple(dict.fromkeys(linear.numbers for linear in kind.linears)),
        bytes_per_token=sum(c.bytes_on(tensor_parallel, number) // c.every for c in caches if c.grows),
        bytes_per_request=sum(_fixed(cache, tensor_parallel, number) for cache in caches if not cache.grows),
    )


def _fixed(cache: Cache, tensor_parallel: int, number: float) -> int:
    return cache.bytes_on(tensor_parallel, number) * (cache.window or 1)


def _request(kind: Layers, tensor_parallel: int, number: float, tokens: int) -> int:
    """What one layer keeps of a request of so many tokens, in whole entries."""
    total = 0
    for cache in kind.attention.caches:
        entries = tokens // cache.every if cache.grows else min(cache.window, tokens) if cache.window else 1
        total += entries * cache.bytes_on(tensor_parallel, number)
    return total


def _attention_words(attention: Attention) -> str:
    heads = f"{attention.num_heads} heads"
    if attention.kind == "none":
        return "none"
    if attention.kind in ("linear", "mamba"):
        what = "linear attention" if attention.kind == "linear" else "Mamba 2"
        return f"{what}, {heads} of {attention.key_size} x {attention.value_size}"
    if attention.kind == "latent" or (attention.kind == "sparse" and attention.num_kv_heads == 1):
        picked = f", the {attention.window:,} tokens that an indexer picks" if attention.window else ""
        return f"latent, {heads}, {attention.key_size} numbers of a token{picked}"
    size = f"{attention.key_size}" + (f"/{attention.value_size}" if attention.value_size != attention.key_size else "")
    window = f" of {attention.window:,} tokens" if attention.window else ""
    return f"{attention.kind}{window}, {heads} of {size}, {attention.num_kv_heads} of keys and values"


def _feed_forward_words(linears: tuple[Linear, ...]) -> str:
    sizes = {linear.name: linear for linear in linears}
    parts = []
    if routed := sizes.get("experts.w2"):
        parts.append(f"{routed.experts} experts of {routed.inputs:,}, {routed.used} used")
    if dense := sizes.get("down_proj"):
        parts.append(f"{'and a shared one' if routed else 'dense,'} of {dense.inputs:,}".replace(", of", ","))
    return " ".join(parts) or "none"


def _adapted(llm: LlmShapes) -> tuple[str, ...]:
    """Names of the modules that adapters may have."""
    names = dict.fromkeys(linear.name for kind in llm.kinds for linear in kind.linears if linear.lora != "none")
    return tuple(names) if any(modules for _, modules in lora_modules(llm)) else ()
