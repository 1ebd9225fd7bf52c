"""The LLM's tensor shapes, from which memory follows."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated, Any, NamedTuple

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveInt,
    SerializerFunctionWrapHandler,
    model_serializer,
)

from loratwin.llms.layers import MOST_LAYERS, Layers, Size, attention_linears, gated_linears, softmax_attention
from loratwin.llms.numbers import NumberType, numbers
from loratwin.records.plain import without_defaults


class Product(NamedTuple):
    """Products of matrices of one size in one layer: m tokens times k inputs times n outputs."""

    name: str
    n: int
    k: int
    numbers: str
    times: int  # of such products in one step of the whole LLM
    experts: int = 0  # each token goes to `used` of them; 0: every token is in the product
    used: int = 1


class LlmShapes(BaseModel):
    """Sizes of a decoder-only LLM, named as in its `config.json` where they have a name there.

    A transformer whose layers are alike, attend to the whole context and have weights of 16 bits is told by its sizes
    alone. Of any other, `layers` says what there is of which kind, and the sizes are those of most of its layers.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    repository: str | None = None  # where `vllm serve` finds it, as "owner/name"
    hidden_size: Size
    intermediate_size: Size
    num_layers: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    num_heads: Size
    num_kv_heads: Size
    head_dim: Size
    vocab_size: Size
    max_model_len: Size
    lora_on_vocabulary: bool  # vLLM reserves LoRA buffers for the embedding and the head (Llama family: yes; Qwen2: no)
    attention_bias: bool = False
    tied_embeddings: bool = False  # the head is the embedding: its weights are there once
    fused_projections: bool = False  # qkv and gate_up are one linear layer each for adapters too (Phi-3)
    dtype_bytes: PositiveInt = 2  # of activations, of adapters, and of weights that are not quantized
    layers: tuple[Layers, ...] = ()  # kinds of layers; none: all alike, of the sizes above
    other_parameters: NonNegativeInt = 0  # outside layers, embedding, head and the last norm; every GPU has them
    vision_parameters: NonNegativeInt = 0  # of encoders and projectors of images and sound; shared by the GPUs
    draft_parameters: NonNegativeInt = 0  # of layers that only speculative decoding loads
    head_numbers: NumberType = "bfloat16"
    kv_number_bytes: float | None = None  # of keys and values where the checkpoint says so; None: `dtype_bytes`
    quantization: str | None = None  # as the checkpoint calls it
    context_rule: str | None = None  # why `max_model_len` is what it is
    family: str | None = None  # `model_type` of its config.json
    given: str | None = None  # what `vllm serve` is called with, where that is not the repository: a folder

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without what only other LLMs have, so that files of dense ones stay as they are."""
        return without_defaults(self, write(self), _OF_OTHERS)

    @property
    def query_size(self) -> int:
        """Output features of the query projection."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Output features of the key (or value) projection."""
        return self.num_kv_heads * self.head_dim

    @property
    def is_dense(self) -> bool:
        """Whether its sizes tell everything: layers alike, the whole context, weights of 16 bits."""
        return not self.layers

    @property
    def kinds(self) -> tuple[Layers, ...]:
        """Its layers by kind, of any LLM."""
        if self.layers:
            return self.layers
        return alike(
            self.num_layers, self.hidden_size, self.intermediate_size, self.num_heads, self.num_kv_heads,
            self.head_dim, self.attention_bias, self.fused_projections,
        )  # fmt: skip

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values for one token over all layers."""
        return self.kv_bytes_on_gpu(1)

    def kv_bytes_on_gpu(self, tensor_parallel: int) -> int:
        """The same on one of `tensor_parallel` GPUs: heads are dealt out, and repeated where there are too few.

        Layers that keep a window or a state count for none: a long request takes this for each token more.
        """
        number = self.kv_number_bytes or self.dtype_bytes
        return sum(
            kind.count * cache.bytes_on(tensor_parallel, number) // cache.every
            for kind in self.kinds
            for cache in kind.attention.caches
            if cache.grows
        )

    def state_bytes_on_gpu(self, tensor_parallel: int) -> int:
        """Bytes that a request takes on one GPU however long it is (linear attention, Mamba)."""
        number = self.kv_number_bytes or self.dtype_bytes
        return sum(
            kind.count * cache.bytes_on(tensor_parallel, number)
            for kind in self.kinds
            for cache in kind.attention.caches
            if cache.kind == "state"
        )

    def weight_bytes_on_gpu(self, tensor_parallel: int) -> int:
        """Bytes of weights on one of `tensor_parallel` GPUs, with the encoders, without draft layers.

        Heads, features and experts are dealt out; norms and what vLLM does not split are on each of them.
        """
        t, number = tensor_parallel, self.dtype_bytes
        rows = -(-self.vocab_size // t)
        head = 0 if self.tied_embeddings else numbers(self.head_numbers).num_bytes(self.hidden_size, rows)
        shared = rows * self.hidden_size * number + head + -(-self.vision_parameters * number // t)
        layers = sum(kind.count * kind.bytes_on(t, number) for kind in self.kinds)
        return layers + shared + (self.hidden_size + self.other_parameters) * number

    @property
    def num_parameters(self) -> int:
        """Weights: embedding and head (once when tied), norms and encoders included, draft layers not."""
        layers = sum(kind.count * kind.num_parameters for kind in self.kinds)
        return layers + self._outside_layers + self.vision_parameters

    @property
    def active_parameters(self) -> int:
        """Weights that a token of text meets: of experts those it is sent to; the encoders do not count."""
        return sum(kind.count * kind.active_parameters for kind in self.kinds) + self._outside_layers

    @property
    def _outside_layers(self) -> int:
        embeddings = (1 if self.tied_embeddings else 2) * self.vocab_size * self.hidden_size
        return embeddings + self.hidden_size + self.other_parameters

    def products(self, tensor_parallel: int = 1) -> list[Product]:
        """All products of matrices of a step on one of so many GPUs, those of the head last."""
        t = tensor_parallel
        found = [
            Product(
                linear.name, sum(linear.slices_on(t)), linear.inputs_on(t), linear.numbers, kind.count,
                linear.experts, linear.used,
            )
            for kind in self.kinds
            for linear in kind.linears
        ]  # fmt: skip
        return [*found, Product("lm_head", -(-self.vocab_size // t), self.hidden_size, self.head_numbers, 1)]


def speed_unknown(llm: LlmShapes) -> str:
    """What of an LLM's layers nobody has told the step time of; empty where its speed can be assumed."""
    kinds = {kind.attention.kind for kind in llm.kinds}
    used = {linear.numbers for kind in llm.kinds for linear in kind.linears}
    odd = {name for name in used if name not in _TIMED and not name.startswith("int4-")}
    reasons = {
        "compressed attention": any(_compressed(kind) for kind in llm.kinds),
        "sparse attention": "sparse" in kinds,
        "Mamba": "mamba" in kinds,
        "weights as " + ", ".join(sorted(odd)): bool(odd),
    }
    return ", ".join(reason for reason, there in reasons.items() if there)


def _compressed(kind: Layers) -> bool:
    """Whether entries of a latent cache are of several tokens (DeepSeek V4); of one they are as in V2 and V3."""
    return kind.attention.kind == "latent" and any(cache.every > 1 for cache in kind.attention.caches)


_TIMED = ("bfloat16", "float32", "fp8", "fp8-channel", "fp8-block", "nvfp4", "mxfp4")
"""Types of numbers whose products were measured, or are read as fast as their bytes and computed in 16 bits."""

_OF_OTHERS = (
    "layers", "other_parameters", "vision_parameters", "draft_parameters", "head_numbers", "kv_number_bytes",
    "quantization", "context_rule", "family", "given",
)  # fmt: skip


@lru_cache(maxsize=64)
def alike(
    count: int, hidden: int, intermediate: int, heads: int, kv_heads: int, head_dim: int, bias: bool, whole: bool
) -> tuple[Layers]:
    """The layers of a dense transformer."""
    linears = attention_linears(hidden, heads, kv_heads, head_dim, bias=bias, whole=whole)
    feed_forward = gated_linears(hidden, intermediate, whole)
    attention = softmax_attention(heads, kv_heads, head_dim)
    return (Layers(count=count, attention=attention, linears=(*linears, *feed_forward), other_parameters=2 * hidden),)
