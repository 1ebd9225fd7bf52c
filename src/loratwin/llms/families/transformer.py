"""Transformers whose layers keep keys and values of heads: dense ones and mixtures of experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, NamedTuple

from loratwin.llms.families.common import Body, Layer, Lora, Part, experts, feed_forward, gate, linear, sizes_of_heads
from loratwin.llms.fields import Fields
from loratwin.llms.layers import Slice, softmax_attention


class Traits(NamedTuple):
    """How a family differs from Llama."""

    attention_bias: bool = False  # on q, k and v; the file's `attention_bias` (or `qkv_bias`) overrides
    output_bias: bool | None = None  # on o; None: as the others where the file says so, else none
    mlp_bias: bool = False
    gated: bool = True
    norms: float = 2.0  # of hidden size, in a layer
    qk_norm: Literal["", "head", "full"] = ""
    norm_bias: bool = False  # the last norm has one, too
    head_bias: bool = False
    whole: bool = False  # qkv and gate_up are one layer each for adapters too
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    windows: Callable[[Fields, int], list[str]] | None = None  # kinds of attention where `layer_types` is not there


LLAMA = Traits()

_KINDS = {
    "full_attention": "full",
    "attention": "full",
    "global_attention": "full",
    "sliding_attention": "sliding",
    "local_attention": "sliding",
    "chunked_attention": "chunked",
    "full": "full",
    "sliding": "sliding",
    "chunked": "chunked",
}


def kinds_of_attention(fields: Fields, windows: Callable[[Fields, int], list[str]] | None = None) -> list[str]:
    """Kinds of attention of the layers, in order.

    Raises
    ------
    InputError
        A kind that is not known, or not as many as layers.
    """
    count, listed = fields.num_layers, fields.listed("layer_types")
    if listed is None:
        return windows(fields, count) if windows else ["full"] * count
    if len(listed) != count:
        raise fields.refuse("layer_types", f"there are {count} layers")
    for kind in listed:
        if not isinstance(kind, str) or kind not in _KINDS:
            raise fields.refuse("layer_types", f"layers {kind!r} are not known")
    return [_KINDS[kind] for kind in listed]


def window_of(fields: Fields, kind: str) -> int | None:
    """Tokens that a layer of this kind looks back."""
    if kind == "sliding":
        return fields.size("sliding_window", "sliding_window_size")
    return fields.size("attention_chunk_size") if kind == "chunked" else None


def every(fields: Fields, count: int, pattern: int, first_full: bool = False) -> list[str]:
    """One full layer in so many, the last of each (or the first), the others sliding."""
    at = 0 if first_full else pattern - 1
    return ["full" if index % pattern == at else "sliding" for index in range(count)]


def all_sliding(fields: Fields, count: int) -> list[str]:
    """Every layer has the window, if there is one and it is shorter than the context."""
    window, longest = fields.data.get("sliding_window"), fields.optional("max_position_embeddings") or 0
    if window is None or not fields.flag("use_sliding_window", True) or (type(window) is int and window >= longest):
        return ["full"] * count
    fields.size("sliding_window")
    first = fields.count("max_window_layers") if "use_sliding_window" in fields.data else 0
    return ["full" if index < first else "sliding" for index in range(count)]


def when_told(fields: Fields, count: int) -> list[str]:
    """The same, but only where `use_sliding_window` is on (Qwen)."""
    return all_sliding(fields, count) if fields.flag("use_sliding_window") else ["full"] * count


def standard(fields: Fields, traits: Traits = LLAMA) -> Body:
    """A transformer, dense or with experts."""
    hidden = fields.size("hidden_size", "n_embd", "d_model")
    kinds, feed = kinds_of_attention(fields, traits.windows), feed_forward_of(fields, hidden, traits)
    layers = []
    for index, kind in enumerate(kinds):
        attention, parts, norms = heads_layer(fields, hidden, kind, traits)
        more, other = feed(index)
        layers.append(Layer(attention, (*parts, *more), norms + other + _norms(hidden, traits)))
    last = hidden * traits.norm_bias + fields.size("vocab_size") * traits.head_bias
    return Body(layers, dense_size(fields, hidden), other=last)


def _norms(hidden: int, traits: Traits) -> int:
    return int(traits.norms * hidden)


def dense_size(fields: Fields, hidden: int) -> int:
    """Features of a dense layer, or of an expert where there is no dense layer."""
    return fields.size(
        "intermediate_size", "ffn_dim", "n_inner", "ffn_hidden_size", "moe_intermediate_size", default=4 * hidden
    )


def heads_layer(
    fields: Fields, hidden: int, kind: str, traits: Traits, **sizes: Any
) -> tuple[Any, tuple[Part, ...], int]:
    """(attention, projections, parameters of norms inside) of a layer."""
    heads, kv_heads, key = sizes.get("heads") or sizes_of_heads(fields)
    value = sizes.get("value_size") or key
    bias = fields.flag("attention_bias", fields.flag("qkv_bias", fields.flag("use_qkv_bias", traits.attention_bias)))
    said = "attention_bias" in fields.data and bias
    output_bias = traits.output_bias if traits.output_bias is not None else said
    queries = heads * (2 if sizes.get("output_gate") else 1)
    values = () if sizes.get("no_values") else (Slice(kv_heads, value),)
    lora: Lora = "whole" if traits.whole else "slices"
    parts = (
        linear(
            "self_attn.q_proj",
            hidden,
            Slice(queries, key),
            Slice(kv_heads, key),
            *values,
            name="qkv_proj",
            bias=bias,
            lora=lora,
        ),
        linear("self_attn.o_proj", heads * value, hidden, split="inputs", bias=output_bias),
    )
    norms = {"": 0, "head": 2 * key, "full": (heads + kv_heads) * key}[traits.qk_norm]
    attention = softmax_attention(heads, kv_heads, key, value, kind, window_of(fields, kind))  # type: ignore[arg-type]
    return attention, parts, norms


FeedForward = Callable[[int], tuple[tuple[Part, ...], int]]


def feed_forward_of(fields: Fields, hidden: int, traits: Traits) -> FeedForward:
    """(parts, other parameters) of the feed-forward part of a layer, by its place."""
    bias = fields.flag("mlp_bias", traits.mlp_bias)
    lora: Lora = "whole" if traits.whole else "slices"
    count = fields.count("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    dense_features = fields.optional("dense_intermediate_size", "intermediate_size_mlp") or dense_size(fields, hidden)
    dense = feed_forward("mlp", hidden, dense_features, traits.gated, bias, lora, traits.names)
    if count < 2:
        return lambda index: (dense, 0)
    sparse, other = mixture(fields, hidden, count, traits)
    places = sparse_places(fields)
    return lambda index: (sparse, other) if places[index] else (dense, 0)


def mixture(fields: Fields, hidden: int, count: int, traits: Traits) -> tuple[tuple[Part, ...], int]:
    """The parts of a mixture of experts, and its other parameters."""
    size = fields.size("moe_intermediate_size", "moe_ffn_hidden_size", "intermediate_size")
    used = fields.size(
        "num_experts_per_tok",
        "num_experts_per_token",
        "top_k_experts",
        "moe_topk",
        "moe_k",
        "experts_per_token",
        "moe_top_k",
    )
    parts = [gate("mlp.gate", hidden, count), *experts("mlp.experts", hidden, size, count, used, traits.gated)]
    if shared := shared_size(fields, size):
        parts += feed_forward("mlp.shared_experts", hidden, shared, traits.gated)
    if fields.model_type in ("qwen2_moe", "qwen3_next", "qwen3_5_moe_text", "qwen3_5_moe"):
        parts.append(Part(linear("mlp.shared_expert_gate", hidden, 1, split="none", lora="none").linear))
    return tuple(parts), count if fields.data.get("scoring_func") == "sigmoid" else 0


def shared_size(fields: Fields, size: int) -> int:
    """Features of the experts that every token uses, all together."""
    if found := fields.count("shared_expert_intermediate_size", "shared_intermediate_size", "share_expert_dim"):
        return found
    each = fields.count("moe_shared_expert_intermediate_size") or size
    return fields.count("n_shared_experts", "num_shared_experts", "moe_num_shared_experts") * each


def sparse_places(fields: Fields) -> list[bool]:
    """Which layers have experts."""
    count = fields.num_layers
    for key in ("mlp_layer_types", "moe_layer_freq"):
        listed = fields.data.get(key)
        if isinstance(listed, list):
            if len(listed) != count:
                raise fields.refuse(key, f"there are {count} layers")
            return [each == "sparse" or each == 1 for each in listed]
    first = fields.count("first_k_dense_replace", "moe_layer_start_index")
    step = fields.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", "moe_layer_freq") or 1
    dense = [index for index in fields.listed("mlp_only_layers") or () if type(index) is int]
    if "moe_layer_freq" in fields.data:  # DeepSeek counts from the first layer
        return [index >= first and index % step == 0 for index in range(count)]
    return [index >= first and index not in dense and (index + 1) % step == 0 for index in range(count)]
