"""Attention that keeps one latent vector of each token: DeepSeek and what was made after it."""

from __future__ import annotations

from loratwin.llms.families.common import Body, Layer, Part, experts, feed_forward, gate, linear
from loratwin.llms.families.transformer import Traits, dense_size, feed_forward_of
from loratwin.llms.fields import Fields
from loratwin.llms.layers import Attention, Cache, Slice

FP8_KEY_BYTES = 132
"""Of a key of the indexer: 128 numbers of 8 bits, and a scale in float32 (vLLM's `deepseek_v32_indexer`)."""


def latent(fields: Fields) -> Body:
    """DeepSeek V2, V3 and V3.2, Kimi K2, GLM-5: latent attention, experts, and an indexer where there is one."""
    hidden = fields.size("hidden_size")
    feed = feed_forward_of(fields, hidden, Traits())
    indexers = fields.listed("indexer_types") or ["full"] * fields.num_layers
    layers = []
    for index in range(fields.num_layers):
        attention, parts, norms, copied = latent_layer(fields, hidden, indexers[index] == "full")
        more, other = feed(index)
        if fields.data.get("topk_method") == "noaux_tc" and not other and len(more) > 2:
            other = fields.count("n_routed_experts")  # the bias of the router
        layers.append(Layer(attention, (*parts, *more), 2 * hidden + norms + other, copied))
    return Body(layers, dense_size(fields, hidden), draft=_draft(fields, layers[-1], hidden))


def _draft(fields: Fields, last: Layer, hidden: int) -> int:
    """A draft layer is a layer, a projection of two inputs, and norms; embedding and head are shared."""
    one = sum(part.linear.num_parameters for part in last.parts) + last.other
    return fields.count("num_nextn_predict_layers") * (one + 2 * hidden * hidden + 3 * hidden)


def latent_layer(
    fields: Fields, hidden: int, indexed: bool = True, output_gate: bool = False
) -> tuple[Attention, tuple[Part, ...], int, int]:
    """(attention, projections, parameters of norms, bytes kept twice) of a layer."""
    heads = fields.size("num_attention_heads")
    rank, rope = fields.size("kv_lora_rank"), fields.count("qk_rope_head_dim")
    nope, value = fields.size("qk_nope_head_dim"), fields.size("v_head_dim")
    query_rank = fields.optional("q_lora_rank")
    picks = fields.optional("index_topk")
    packed = rank + 4 * rank // 128 + 2 * rope if picks else None  # positions stay of 16 bits (`fp8_ds_mla`)
    caches = [Cache(kind="latent", size=rank + rope, packed_bytes=packed)]
    if query_rank:
        parts = [
            linear("self_attn.q_a_proj", hidden, query_rank, rank + rope, name="fused_qkv_a_proj", split="none"),
            linear("self_attn.q_b_proj", query_rank, Slice(heads, nope + rope)),
        ]
    else:
        parts = [
            linear("self_attn.q_proj", hidden, Slice(heads, nope + rope)),
            linear("self_attn.kv_a_proj_with_mqa", hidden, rank + rope, split="none"),
        ]
    parts += [
        linear("self_attn.kv_b_proj", rank, Slice(heads, nope + value)),
        linear("self_attn.o_proj", heads * value, hidden, split="inputs"),
    ]
    if output_gate:
        parts.append(linear("self_attn.g_proj", hidden, Slice(heads, value)))
    other = rank + (query_rank or 0)
    if indexed and fields.optional("index_n_heads"):
        more, key = _indexer(fields, hidden, query_rank or hidden)
        parts += more
        other += 2 * key  # LayerNorm of the keys
        caches.append(Cache(kind="latent", size=key + 4 * key // 128, number_bytes=1))
    attention = Attention(
        kind="sparse" if picks else "latent",
        num_heads=heads,
        num_kv_heads=1,
        key_size=rank + rope,
        value_size=rank,
        window=picks,
        caches=tuple(caches),
    )
    return attention, tuple(parts), other, 2 * heads * (nope + value) * rank


def _indexer(fields: Fields, hidden: int, query_inputs: int) -> tuple[list[Part], int]:
    """The layer that picks the tokens to look at; every GPU has it."""
    heads, key = fields.size("index_n_heads"), fields.size("index_head_dim")
    parts = [
        linear("self_attn.indexer.wq_b", query_inputs, heads * key, split="none"),
        Part(linear("self_attn.indexer.wk", hidden, key, heads, name="wk_weights_proj", split="none").linear),
    ]
    return parts, key


def deepseek_v4(fields: Fields) -> Body:
    """DeepSeek V4: windows of 128 tokens, and what is before them compressed, by 4 (with an indexer) or by 128."""
    ratios = fields.listed("compress_ratios")
    if ratios is None or len(ratios) < fields.num_layers:
        raise fields.refuse("compress_ratios", f"there are {fields.num_layers} layers")
    if any(ratio not in (0, 4, 128) or type(ratio) is not int for ratio in ratios):
        raise fields.refuse("compress_ratios", "each must be 0, 4 or 128")
    hidden, hashed = fields.size("hidden_size"), fields.count("num_hash_layers")
    layers = []
    for index in range(fields.num_layers):
        attention, parts, other = _compressed_layer(fields, hidden, max(1, ratios[index]))
        more, bias = _experts_of_v4(fields, hidden, index < hashed)
        layers.append(Layer(attention, (*parts, *more), other + bias + 2 * hidden + _mixing(fields, hidden)))
    streams = fields.size("hc_mult")
    return Body(
        layers,
        fields.size("moe_intermediate_size"),
        other=2 * (streams * streams * hidden + streams + 1),
        draft=_draft(fields, layers[-1], hidden),
    )


def _mixing(fields: Fields, hidden: int) -> int:
    """Hyper-connections before attention and feed-forward part, float32: counted as two numbers of 16 bits each."""
    streams = fields.size("hc_mult")
    mixes = (2 + streams) * streams
    return 2 * 2 * (mixes * streams * hidden + mixes + 3)


def _experts_of_v4(fields: Fields, hidden: int, hashed: bool) -> tuple[tuple[Part, ...], int]:
    count, used, size = (
        fields.size("n_routed_experts"),
        fields.size("num_experts_per_tok"),
        fields.size("moe_intermediate_size"),
    )
    shared = fields.count("n_shared_experts") * size
    parts = (
        gate("ffn.gate", hidden, count),
        *experts("ffn.experts", hidden, size, count, used),
        *feed_forward("ffn.shared_experts", hidden, shared),
    )
    return parts, 2 * fields.size("vocab_size") * used if hashed else 2 * count


def _compressed_layer(fields: Fields, hidden: int, ratio: int) -> tuple[Attention, tuple[Part, ...], int]:
    heads, head, rope = fields.size("num_attention_heads"), fields.size("head_dim"), fields.size("qk_rope_head_dim")
    query, groups, rank = fields.size("q_lora_rank"), fields.size("o_groups"), fields.size("o_lora_rank")
    parts = [
        linear("attn.wq_a", hidden, query, head, name="fused_wqa_wkv", split="none"),
        linear("attn.wq_b", query, Slice(heads, head)),
        linear("attn.wo_a", heads * head // groups, Slice(groups, rank)),
        linear("attn.wo_b", groups * rank, hidden, split="inputs"),
    ]
    other, entry = query + head + 2 * heads, head - rope + 2 * rope + (head - rope) // 64 + 1
    caches = [Cache(kind="sliding", size=entry, window=fields.size("sliding_window"), number_bytes=1)]
    if ratio > 1:
        caches += [Cache(kind="latent", size=entry, every=ratio, number_bytes=1)]
        other += _compressor(parts, "attn", hidden, head, ratio)
    if ratio == 4:
        key, index_heads = fields.size("index_head_dim"), fields.size("index_n_heads")
        parts += [
            linear("attn.indexer.wq_b", query, key * index_heads, split="none"),
            Part(linear("attn.indexer.weights_proj", hidden, index_heads, split="none").linear),
        ]
        other += _compressor(parts, "attn.indexer", hidden, key, ratio)
        caches.append(Cache(kind="latent", size=key + 4 * key // 128, every=ratio, number_bytes=1))
    attention = Attention(
        kind="sparse" if ratio == 4 else "latent" if ratio > 1 else "sliding",
        num_heads=heads,
        num_kv_heads=1,
        key_size=head,
        value_size=head,
        window=fields.optional("index_topk") if ratio == 4 else caches[0].window if ratio == 1 else None,
        caches=tuple(caches),
    )
    return attention, tuple(parts), other


def _compressor(parts: list[Part], path: str, hidden: int, head: int, ratio: int) -> int:
    """Adds the projections that compress tokens; parameters beside them (positions in float32, a norm)."""
    width = head * (2 if ratio == 4 else 1)
    parts.append(
        Part(linear(f"{path}.compressor.wkv", hidden, width, width, name="fused_wkv_wgate", split="none").linear)
    )
    return 2 * ratio * width + head
