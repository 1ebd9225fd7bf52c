"""Hybrids: layers that keep a state of fixed size (linear attention, Mamba) between layers of attention."""

from __future__ import annotations

from typing import Literal

from loratwin.llms.families.common import Body, Layer, Part, experts, feed_forward, gate, linear
from loratwin.llms.families.latent import latent_layer
from loratwin.llms.families.transformer import Traits, dense_size, feed_forward_of, heads_layer, mixture, shared_size
from loratwin.llms.fields import Fields
from loratwin.llms.layers import Attention, Cache, Slice

NUMBER_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2, None: 2}


def _state(
    kind: Literal["linear", "mamba"],
    heads: int,
    key: int,
    value: int,
    convolved: tuple[int, int],
    kernel: int,
    state_bytes: int,
) -> Attention:
    """A layer whose state is a matrix for each head, and the last tokens of its convolution (units, size of one)."""
    units, size = convolved
    caches = (
        Cache(kind="state", units=heads, size=key * value, number_bytes=state_bytes),
        Cache(kind="state", units=units, size=size * (kernel - 1), number_bytes=2),
    )
    return Attention(kind=kind, num_heads=heads, num_kv_heads=heads, key_size=key, value_size=value, caches=caches)


def _state_bytes(fields: Fields, *keys: str) -> int:
    """Of a number of the state: as the file says, in vLLM from 0.20 on (`mamba_ssm_cache_dtype` is auto)."""
    for key in keys:
        if (said := fields.data.get(key)) is not None:
            if not isinstance(said, str) or said not in NUMBER_BYTES:
                raise fields.refuse(key, f"it must be one of {', '.join(map(str, NUMBER_BYTES))}")
            return NUMBER_BYTES[said]
    return 2


def gated_delta(fields: Fields, hidden: int) -> tuple[Attention, tuple[Part, ...], int]:
    """Gated delta rule, as in Qwen3-Next and Qwen3.5: (attention, projections, other parameters)."""
    keys, values = fields.size("linear_num_key_heads"), fields.size("linear_num_value_heads")
    key, value = fields.size("linear_key_head_dim"), fields.size("linear_value_head_dim")
    kernel = fields.size("linear_conv_kernel_dim")
    width = 2 * keys * key + values * value
    attention = _state("linear", values, key, value, (width, 1), kernel, _state_bytes(fields, "mamba_ssm_dtype"))
    sizes = (Slice(keys, key), Slice(keys, key), Slice(values, value), Slice(values, value))
    parts = (
        linear("linear_attn.in_proj_qkv", hidden, *sizes, name="in_proj_qkvz"),
        Part(linear("linear_attn.in_proj_ba", hidden, values, values).linear),
        linear("linear_attn.out_proj", values * value, hidden, split="inputs"),
    )
    return attention, parts, width * kernel + 2 * values + value


def qwen3_next(fields: Fields) -> Body:
    """Qwen3-Next, Qwen3.5 and 3.6: three layers of linear attention, then one of gated attention."""
    hidden, listed = fields.size("hidden_size"), fields.listed("layer_types")
    interval = fields.size("full_attention_interval", default=4)
    kinds = listed or [
        "full_attention" if (i + 1) % interval == 0 else "linear_attention" for i in range(fields.num_layers)
    ]
    if len(kinds) != fields.num_layers:
        raise fields.refuse("layer_types", f"there are {fields.num_layers} layers")
    feed, layers = feed_forward_of(fields, hidden, Traits()), []
    for index, kind in enumerate(kinds):
        if kind == "linear_attention":
            attention, parts, inside = gated_delta(fields, hidden)
        else:
            gated = fields.flag("attn_output_gate", True)
            attention, parts, inside = heads_layer(fields, hidden, "full", Traits(qk_norm="head"), output_gate=gated)
        more, other = feed(index)
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + inside + other))
    return Body(layers, dense_size(fields, hidden), draft=_draft(fields, layers[-1], hidden))


def _draft(fields: Fields, last: Layer, hidden: int) -> int:
    one = sum(part.linear.num_parameters for part in last.parts) + last.other
    return fields.count("mtp_num_hidden_layers", "num_nextn_predict_layers") * (one + 2 * hidden * hidden + 3 * hidden)


def mamba2(fields: Fields, hidden: int, path: str = "mixer") -> tuple[Attention, tuple[Part, ...], int]:
    """Mamba 2: (attention, projections, other parameters)."""
    heads, head = fields.size("mamba_num_heads", "mamba_n_heads"), fields.size("mamba_head_dim", "mamba_d_head")
    state, groups = fields.size("ssm_state_size", "mamba_d_state"), fields.size("n_groups", "mamba_n_groups")
    kernel = fields.size("conv_kernel", "mamba_d_conv", default=4)
    inner, width = heads * head, heads * head + 2 * groups * state
    attention = _state("mamba", heads, head, state, (width, 1), kernel, _state_bytes(fields, "mamba_ssm_cache_dtype"))
    parts = (
        linear(f"{path}.in_proj", hidden, inner, inner, Slice(groups, state), Slice(groups, state), heads),
        linear(f"{path}.out_proj", inner, hidden, split="inputs"),
    )
    bias = width if fields.flag("use_conv_bias", fields.flag("mamba_conv_bias", True)) else 0
    return attention, parts, width * kernel + bias + 3 * heads + inner


NONE = Attention(kind="none")
_LETTERS = {"M": "mamba", "E": "moe", "*": "attention", "-": "mlp"}


def nemotron_h(fields: Fields) -> Body:
    """Nemotron-H: each layer is Mamba, attention, a feed-forward part, or experts (perhaps in a smaller space)."""
    hidden, pattern = fields.size("hidden_size"), fields.data.get("hybrid_override_pattern")
    letters = pattern if isinstance(pattern, str) else ""
    kinds = [_LETTERS.get(letter, letter) for letter in letters] or fields.listed("layers_block_type")
    if not kinds:
        raise fields.refuse("layers_block_type", "it must say the kinds of the layers")
    layers = [Layer(*_nemotron_layer(fields, hidden, kind)) for kind in kinds]
    return Body(
        layers, fields.size("intermediate_size", "moe_intermediate_size"), draft=_nemotron_draft(fields, hidden)
    )


def _nemotron_layer(fields: Fields, hidden: int, kind: str) -> tuple[Attention, tuple[Part, ...], int]:
    if kind == "mamba":
        attention, parts, other = mamba2(fields, hidden)
        return attention, parts, other + hidden
    if kind == "attention":
        attention, parts, _ = heads_layer(fields, hidden, "full", Traits())
        return attention, tuple(part._replace(path=part.path.replace("self_attn", "mixer")) for part in parts), hidden
    if kind == "mlp":
        return NONE, feed_forward("mixer", hidden, fields.size("intermediate_size"), gated=False), hidden
    if kind == "moe":
        return NONE, _latent_experts(fields, hidden), hidden + fields.size("n_routed_experts")
    raise fields.refuse("layers_block_type", f"layers {kind!r} are not known")


def _latent_experts(fields: Fields, hidden: int) -> tuple[Part, ...]:
    count, used, size = (
        fields.size("n_routed_experts"),
        fields.size("num_experts_per_tok"),
        fields.size("moe_intermediate_size"),
    )
    inner = fields.optional("moe_latent_size") or hidden
    shared = fields.count("n_shared_experts") * fields.size("moe_shared_expert_intermediate_size")
    parts = [gate("mixer.gate", hidden, count), *experts("mixer.experts", inner, size, count, used, gated=False)]
    parts += feed_forward("mixer.shared_experts", hidden, shared, gated=False)
    if inner != hidden:
        parts += [
            linear("mixer.fc1_latent_proj", hidden, inner, split="none"),
            linear("mixer.fc2_latent_proj", inner, hidden, split="none"),
        ]
    return tuple(parts)


def _nemotron_draft(fields: Fields, hidden: int) -> int:
    kinds = fields.listed("mtp_layers_block_type") or []
    made = [_nemotron_layer(fields, hidden, kind) for kind in kinds]
    one = sum(part.linear.num_parameters for _, parts, _ in made for part in parts) + sum(other for *_, other in made)
    return fields.count("num_nextn_predict_layers") * (one + 2 * hidden * hidden + 3 * hidden)


def granite_hybrid(fields: Fields) -> Body:
    """Granite 4: Mamba 2 and attention, each followed by experts (if any) and a shared feed-forward part."""
    hidden, kinds = fields.size("hidden_size"), fields.listed("layer_types") or fields.listed("layers_block_type")
    if not kinds:
        raise fields.refuse("layer_types", "it must say the kinds of the layers")
    count, size = fields.count("num_local_experts"), fields.size("intermediate_size", default=1)
    layers = []
    for kind in kinds:
        if kind == "mamba":
            attention, parts, inside = mamba2(_granite_fields(fields, hidden), hidden, "mamba")
        else:
            attention, parts, inside = heads_layer(fields, hidden, "full", Traits())
        more, _ = mixture(_without_shared(fields), hidden, count, Traits()) if count else ((), 0)
        shared = shared_size(fields, size)
        both = (*parts, *more, *(feed_forward("shared_mlp", hidden, shared) if shared else ()))
        layers.append(Layer(attention, both, 2 * hidden + inside))
    return Body(layers, shared_size(fields, size) or size)


def _without_shared(fields: Fields) -> Fields:
    return Fields(fields.where, {key: value for key, value in fields.data.items() if key != "shared_intermediate_size"})


def _granite_fields(fields: Fields, hidden: int) -> Fields:
    """`mamba_d_head` may be auto: what the expanded size makes of it."""
    if fields.data.get("mamba_d_head") in (None, "auto"):
        size = fields.size("mamba_expand", default=2) * hidden // fields.size("mamba_n_heads")
        return Fields(fields.where, {**fields.data, "mamba_d_head": size})
    return fields


def kimi_linear(fields: Fields) -> Body:
    """Kimi Linear and Kimi K3: Kimi delta attention and latent attention; experts, perhaps in a smaller space."""
    hidden, linears = fields.size("hidden_size"), fields.part("linear_attn_config")
    states = set(linears.listed("kda_layers") or ())
    layers = []
    for index in range(fields.num_layers):
        if index + 1 in states:
            attention, parts, inside, copied = (*_delta(fields, linears, hidden), 0)
        else:
            attention, parts, inside, copied = latent_layer(
                fields, hidden, output_gate=fields.flag("mla_use_output_gate")
            )
        more, other = _kimi_experts(fields, hidden, index)
        residual = 2 * (hidden + hidden) if fields.optional("attn_res_block_size") else 0
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + inside + other + residual, copied))
    return Body(layers, dense_size(fields, hidden))


def _delta(fields: Fields, linears: Fields, hidden: int) -> tuple[Attention, tuple[Part, ...], int]:
    heads, head, kernel = linears.size("num_heads"), linears.size("head_dim"), linears.size("short_conv_kernel_size")
    width, full = heads * head, linears.flag("use_full_rank_gate")
    attention = _state("linear", heads, head, head, (3 * width, 1), kernel, 4)
    each = Slice(heads, head)
    gates = (each,) if full else ()
    parts = [
        linear("self_attn.q_proj", hidden, each, each, each, *gates, heads, name="in_proj_qkvgfab"),
        linear("self_attn.f_a_proj", hidden, head, split="none"),
        linear("self_attn.f_b_proj", head, each),
        linear("self_attn.o_proj", width, hidden, split="inputs"),
    ]
    if not full:
        parts += [linear("self_attn.g_a_proj", hidden, head, split="none"), linear("self_attn.g_b_proj", head, each)]
    return attention, tuple(parts), 2 * 3 * width * kernel + 2 * width + 2 * heads + head


def _kimi_experts(fields: Fields, hidden: int, index: int) -> tuple[tuple[Part, ...], int]:
    if index < fields.count("first_k_dense_replace"):
        return feed_forward("mlp", hidden, fields.size("intermediate_size")), 0
    count, size = fields.size("num_experts"), fields.size("moe_intermediate_size")
    used, inner = fields.size("num_experts_per_token"), fields.optional("routed_expert_hidden_size") or hidden
    path = "block_sparse_moe"
    parts = [gate(f"{path}.gate", hidden, count), *experts(f"{path}.experts", inner, size, count, used)]
    if shared := fields.count("num_shared_experts") * size:
        parts += feed_forward(f"{path}.shared_experts", hidden, shared)
    if inner != hidden:
        parts += [
            Part(linear(f"{path}.routed_expert_down_proj", hidden, inner, split="none").linear),
            Part(linear(f"{path}.routed_expert_up_proj", inner, hidden, split="none").linear),
        ]
    return tuple(parts), count + (inner if inner != hidden else 0)
