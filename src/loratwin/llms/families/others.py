"""Families that differ from Llama in more than a trait."""

from __future__ import annotations

from loratwin.llms.families.common import Body, Layer, Part, experts, feed_forward, gate, linear, sizes_of_heads
from loratwin.llms.families.transformer import (
    Traits,
    dense_size,
    feed_forward_of,
    heads_layer,
    kinds_of_attention,
    standard,
)
from loratwin.llms.fields import Fields
from loratwin.llms.layers import Attention, Cache, Slice


def gpt_oss(fields: Fields) -> Body:
    """gpt-oss: every other layer has a window; biases everywhere, and a sink for each head."""
    hidden, count = fields.size("hidden_size"), fields.size("num_local_experts")
    size, used = fields.size("intermediate_size"), fields.size("num_experts_per_tok", "experts_per_token")
    router = linear("mlp.router", hidden, count, split="none", bias=True, lora="none").linear
    more = (Part(router), *experts("mlp.experts", hidden, size, count, used, bias=True))
    traits, layers = Traits(attention_bias=True, output_bias=True), []
    for kind in kinds_of_attention(fields, lambda f, n: ["full" if i % 2 else "sliding" for i in range(n)]):
        attention, parts, _ = heads_layer(fields, hidden, kind, traits)
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + attention.num_heads))
    return Body(layers, size)


def gemma4(fields: Fields) -> Body:
    """Gemma 4: full layers have larger heads, whose keys may be their values; beside experts is a dense part."""
    hidden = fields.size("hidden_size")
    if fields.count("num_kv_shared_layers") or fields.count("hidden_size_per_layer_input"):
        return _gemma4_small(fields, hidden)
    return Body(
        [_gemma4_layer(fields, hidden, kind) for kind in kinds_of_attention(fields)], fields.size("intermediate_size")
    )


def _gemma4_layer(fields: Fields, hidden: int, kind: str, stores: bool = True, width: int = 1) -> Layer:
    heads, kv_heads, head = sizes_of_heads(fields)
    same = kind == "full" and fields.flag("attention_k_eq_v")
    if kind == "full":
        head = fields.size("global_head_dim", default=head)
        kv_heads = (fields.optional("num_global_key_value_heads") or kv_heads) if same else kv_heads
    attention, parts, norms = heads_layer(
        fields, hidden, kind, Traits(qk_norm="head"), heads=(heads, kv_heads, head), no_values=same
    )
    if not stores:
        attention = attention.model_copy(update={"caches": ()})
    more = list(feed_forward("mlp", hidden, width * fields.size("intermediate_size")))
    other = 4 * hidden + norms + 1
    if fields.flag("enable_moe_block"):
        count, used = fields.size("num_experts"), fields.size("top_k_experts", "num_experts_per_tok")
        more += [
            gate("router.proj", hidden, count),
            *experts("moe", hidden, fields.size("moe_intermediate_size"), count, used),
        ]
        other += 3 * hidden + hidden + count  # its norms, and scales of the router
    return Layer(attention, (*parts, *more), other)


def _gemma4_small(fields: Fields, hidden: int) -> Body:
    """The small ones: embeddings of each layer, and last layers that read the keys and values of earlier ones."""
    kinds, each = kinds_of_attention(fields), fields.count("hidden_size_per_layer_input")
    first = len(kinds) - fields.count("num_kv_shared_layers")
    wide = 2 if fields.flag("use_double_wide_mlp") else 1
    layers = []
    for index, kind in enumerate(kinds):
        layer = _gemma4_layer(fields, hidden, kind, index < first, wide if index >= first else 1)
        more = (
            linear("per_layer_input_gate", hidden, each, split="none"),
            linear("per_layer_projection", each, hidden, split="none"),
        )
        layers.append(layer._replace(parts=(*layer.parts, *(more if each else ())), other=layer.other + hidden))
    rows = fields.size("vocab_size_per_layer_input", "vocab_size")
    other = len(kinds) * each * (rows + hidden) + each
    return Body(layers, fields.size("intermediate_size"), other=other)


def llama4(fields: Fields) -> Body:
    """Llama 4: three layers with chunks and one without, experts in every layer or every other."""
    kinds = lambda f, n: ["full" if (i + 1) % 4 == 0 else "chunked" for i in range(n)]  # noqa: E731
    hidden, size = fields.size("hidden_size"), fields.size("intermediate_size")
    count, used = fields.size("num_local_experts"), fields.size("num_experts_per_tok")
    step = fields.size("interleave_moe_layer_step", default=1)
    sparse = (
        gate("feed_forward.router", hidden, count),
        *experts("feed_forward.experts", hidden, size, count, used),
        *feed_forward("feed_forward.shared_expert", hidden, size),
    )
    dense = feed_forward("feed_forward", hidden, fields.size("intermediate_size_mlp", default=size))
    layers = []
    for index, kind in enumerate(kinds_of_attention(fields, kinds)):
        attention, parts, _ = heads_layer(fields, hidden, kind, Traits())
        layers.append(Layer(attention, (*parts, *(sparse if (index + 1) % step == 0 else dense)), 2 * hidden))
    return Body(layers, size)


def minimax_m3(fields: Fields) -> Body:
    """MiniMax M3: a few dense layers, then layers whose indexer picks blocks of tokens; experts."""
    hidden, sparse = fields.size("hidden_size"), fields.part("sparse_attention_config")
    feed, used = feed_forward_of(fields, hidden, Traits()), sparse.listed("sparse_attention_freq") or []
    layers = []
    for index in range(fields.num_layers):
        attention, parts, norms = heads_layer(fields, hidden, "full", Traits(qk_norm="head"))
        if index < len(used) and used[index]:
            heads, key = sparse.size("sparse_num_index_heads"), sparse.size("sparse_index_dim")
            parts = (
                *parts,
                linear("self_attn.index_q_proj", hidden, Slice(heads, key), Slice(1, key), name="index_qk_proj"),
            )
            cache = Cache(kind="latent", size=key)
            attention = attention.model_copy(update={"kind": "sparse", "caches": (*attention.caches, cache)})
            norms += 2 * key
        more, other = feed(index)
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + norms + other))
    return Body(layers, dense_size(fields, hidden))


def minimax_m2(fields: Fields) -> Body:
    """MiniMax M2: norms of all query and key features; every layer has experts."""
    return standard(fields, Traits(qk_norm="full"))


def mimo_v2(fields: Fields) -> Body:
    """MiMo V2: windows of 128 tokens with their own numbers of heads, values smaller than keys."""
    hidden, pattern = fields.size("hidden_size"), fields.listed("hybrid_layer_pattern")
    if pattern is None or len(pattern) != fields.num_layers:
        raise fields.refuse("hybrid_layer_pattern", f"there are {fields.num_layers} layers")
    feed, layers = feed_forward_of(fields, hidden, Traits()), []
    for index, sliding in enumerate(pattern):
        start = "swa_" if sliding else ""
        heads, kv_heads, key = (
            fields.size(start + each) for each in ("num_attention_heads", "num_key_value_heads", "head_dim")
        )
        value = fields.size(start + "v_head_dim")
        attention, parts, _ = heads_layer(
            fields, hidden, "sliding" if sliding else "full", Traits(), heads=(heads, kv_heads, key), value_size=value
        )
        more, other = feed(index)
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + other + (heads if sliding else 0)))
    return Body(layers, fields.size("intermediate_size"))


def step3(fields: Fields) -> Body:
    """Step 3.5 and 3.7: one full layer in four, the rest with a window (and perhaps more heads); experts."""
    hidden, count = fields.size("hidden_size"), fields.num_layers
    listed = fields.listed("layer_types")
    trimmed = Fields(fields.where, {**fields.data, "layer_types": listed[:count] if listed else None})  # without drafts
    kinds, feed = kinds_of_attention(trimmed), feed_forward_of(_named_layers(trimmed, count), hidden, Traits())
    other, layers = fields.part("attention_other_setting"), []
    for index, kind in enumerate(kinds):
        said = other if kind == "sliding" and other.data else fields
        heads = said.size("num_attention_heads")
        groups = said.size("num_attention_groups", "num_key_value_heads", default=heads)
        head = said.size("head_dim", default=fields.size("head_dim", default=hidden // heads))
        attention, parts, norms = heads_layer(
            trimmed, hidden, kind, Traits(qk_norm="head"), heads=(heads, groups, head)
        )
        if fields.flag("use_head_wise_attn_gate"):
            parts = (*parts, linear("self_attn.g_proj", hidden, heads))
        more, rest = feed(index)
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + norms + rest))
    return Body(layers, dense_size(fields, hidden))


def _named_layers(fields: Fields, count: int) -> Fields:
    """`moe_layers_enum` ("3,4,5,...") as a list of all layers."""
    named = fields.data.get("moe_layers_enum")
    if not isinstance(named, str):
        return fields
    places = {int(each) for each in named.split(",") if each.strip().isdigit()}
    return Fields(fields.where, {**fields.data, "moe_layer_freq": [int(index in places) for index in range(count)]})


def nemotron_nas(fields: Fields) -> Body:
    """LLMs that NVIDIA's search made of Llama: each layer with its own groups of heads and features, or without."""
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads")
    blocks = fields.listed("block_configs")
    if blocks is None or len(blocks) != fields.num_layers:
        raise fields.refuse("block_configs", f"there are {fields.num_layers} layers")
    layers = [_nas_layer(fields, Fields(f"{fields.where}: block_configs", block), hidden, heads)
              for block in blocks if isinstance(block, dict)]  # fmt: skip
    sizes = [part.linear.inputs for layer in layers for part in layer.parts if part.linear.name == "down_proj"]
    return Body(layers, max(sizes, key=sizes.count, default=hidden))


def _nas_layer(fields: Fields, block: Fields, hidden: int, heads: int) -> Layer:
    said, feed = block.part("attention"), block.part("ffn")
    if said.flag("replace_with_linear") or feed.flag("replace_with_linear"):
        raise fields.refuse("model_type", "layers that were replaced by a linear one are not known")
    attention, other = Attention(kind="none"), 0
    parts: tuple[Part, ...] = ()
    if not said.flag("no_op"):
        kv_heads = heads // said.size("n_heads_in_group", most=heads)
        attention, parts, _ = heads_layer(fields, hidden, "full", Traits(), heads=(heads, kv_heads, hidden // heads))
        other += hidden
    if not feed.flag("no_op"):
        factor = feed.data.get("ffn_mult")
        if not isinstance(factor, (int, float)) or not 0 < factor < 100:
            raise feed.refuse("ffn_mult", "it must be a number above 0")
        size = -(-int(2 * factor * hidden / 3) // 256) * 256
        parts, other = (*parts, *feed_forward("mlp", hidden, size)), other + hidden
    return Layer(attention, parts, other)


def falcon(fields: Fields) -> Body:
    """Falcon 7B, 40B and 180B: attention and feed-forward part side by side, without a gate."""
    hidden, heads = fields.size("hidden_size"), fields.size("num_attention_heads", "n_head")
    if fields.flag("new_decoder_architecture"):
        kv_heads, norms = fields.size("num_kv_heads", "n_head_kv", default=heads), 4
    else:
        kv_heads, norms = (
            (1 if fields.flag("multi_query", True) else heads),
            2 if fields.flag("parallel_attn", True) else 4,
        )
    traits, bias = Traits(), fields.flag("bias")
    attention, parts, _ = heads_layer(
        fields, hidden, "full", traits._replace(attention_bias=bias), heads=(heads, kv_heads, hidden // heads)
    )
    more = feed_forward("mlp", hidden, fields.size("ffn_hidden_size", default=4 * hidden), gated=False, bias=bias)
    layer = Layer(attention, (*parts, *more), norms * hidden)
    return Body([layer] * fields.num_layers, 4 * hidden, other=hidden)


def opt(fields: Fields) -> Body:
    """OPT: learned positions, biases everywhere, no gate."""
    hidden, size = fields.size("hidden_size"), fields.size("ffn_dim")
    if fields.size("word_embed_proj_dim", default=hidden) != hidden:
        raise fields.refuse("word_embed_proj_dim", f"it must be hidden_size = {hidden}; OPT-350m has other layers")
    attention, parts, _ = heads_layer(fields, hidden, "full", Traits(attention_bias=True, output_bias=True))
    more = feed_forward("layer", hidden, size, gated=False, bias=True, names=("", "fc1", "fc2"))
    more = tuple(part._replace(path=part.path.removeprefix("layer.")) for part in more)
    positions = (fields.size("max_position_embeddings") + 2) * hidden
    return Body([Layer(attention, (*parts, *more), 4 * hidden)] * fields.num_layers, size, other=positions + hidden)


def gpt_neox(fields: Fields) -> Body:
    """GPT-NeoX, Pythia: biases everywhere, no gate."""
    hidden, size = fields.size("hidden_size"), fields.size("intermediate_size")
    bias = fields.flag("attention_bias", True)
    attention, parts, _ = heads_layer(fields, hidden, "full", Traits(attention_bias=True, output_bias=bias))
    more = feed_forward("mlp", hidden, size, gated=False, bias=True, names=("", "dense_h_to_4h", "dense_4h_to_h"))
    return Body([Layer(attention, (*parts, *more), 4 * hidden)] * fields.num_layers, size, other=hidden)


def gpt2(fields: Fields) -> Body:
    """GPT-2: learned positions, biases everywhere, no gate."""
    hidden = fields.size("n_embd", "hidden_size")
    attention, parts, _ = heads_layer(fields, hidden, "full", Traits(attention_bias=True, output_bias=True))
    size = fields.size("n_inner", default=4 * hidden)
    more = feed_forward("mlp", hidden, size, gated=False, bias=True, names=("", "c_fc", "c_proj"))
    layer = Layer(attention, (*parts, *more), 4 * hidden)
    return Body(
        [layer] * fields.num_layers, size, other=hidden + fields.size("n_positions", "max_position_embeddings") * hidden
    )


def chatglm(fields: Fields) -> Body:
    """ChatGLM 2 and 3, GLM-4 as it first came: other names of the same."""
    heads, hidden = fields.size("num_attention_heads"), fields.size("hidden_size")
    kv_heads = fields.size("multi_query_group_num", default=heads) if fields.flag("multi_query_attention") else heads
    bias = fields.flag("add_qkv_bias", True)
    attention, parts, _ = heads_layer(
        fields,
        hidden,
        "full",
        Traits(attention_bias=bias, output_bias=False, whole=True),
        heads=(heads, kv_heads, fields.size("kv_channels", default=hidden // heads)),
    )
    more = feed_forward("mlp", hidden, fields.size("ffn_hidden_size"), lora="whole")
    return Body([Layer(attention, (*parts, *more), 2 * hidden)] * fields.num_layers, fields.size("ffn_hidden_size"))
