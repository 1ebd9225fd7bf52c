"""The LLM's tensor shapes, from which memory follows."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PositiveInt

MOST_LAYERS, MOST = 10_000, 10**8
"""Of layers, and of any other size: no LLM has more, and the KV cache of such a one would be computed for hours."""

Size = Annotated[int, Field(ge=1, le=MOST)]


class LlmShapes(BaseModel):
    """Sizes of a decoder-only transformer, named as in its `config.json` where they have a name there."""

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
    dtype_bytes: PositiveInt = 2

    @property
    def query_size(self) -> int:
        """Output features of the query projection."""
        return self.num_heads * self.head_dim

    @property
    def kv_size(self) -> int:
        """Output features of the key (or value) projection."""
        return self.num_kv_heads * self.head_dim

    @property
    def kv_bytes_per_token(self) -> int:
        """Bytes of keys and values for one token over all layers."""
        return self.kv_bytes_on_gpu(1)

    def kv_bytes_on_gpu(self, tensor_parallel: int) -> int:
        """The same on one of `tensor_parallel` GPUs: heads are dealt out, and repeated where there are too few."""
        heads = max(1, self.num_kv_heads // tensor_parallel)
        return 2 * self.num_layers * heads * self.head_dim * self.dtype_bytes

    def weight_bytes_on_gpu(self, tensor_parallel: int) -> int:
        """Bytes of weights on one of `tensor_parallel` GPUs; norms count as if dealt out too."""
        return -(-self.num_parameters * self.dtype_bytes // tensor_parallel)

    @property
    def num_parameters(self) -> int:
        """Weights: embedding and head (once when tied), norms included."""
        h, f, q, kv = self.hidden_size, self.intermediate_size, self.query_size, self.kv_size
        bias = q + 2 * kv if self.attention_bias else 0
        layer = h * (q + 2 * kv) + q * h + 3 * h * f + 2 * h + bias
        return self.num_layers * layer + (1 if self.tied_embeddings else 2) * self.vocab_size * h + h
