"""The LLM's tensor shapes, from which memory follows."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, PositiveInt


class LlmShapes(BaseModel):
    """Sizes of a decoder-only transformer, named as in its `config.json` where they have a name there."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    repository: str | None = None  # where `vllm serve` finds it, as "owner/name"
    hidden_size: PositiveInt
    intermediate_size: PositiveInt
    num_layers: PositiveInt
    num_heads: PositiveInt
    num_kv_heads: PositiveInt
    head_dim: PositiveInt
    vocab_size: PositiveInt
    max_model_len: PositiveInt
    lora_on_vocabulary: bool  # vLLM reserves LoRA buffers for the embedding and the head (Llama family: yes; Qwen2: no)
    attention_bias: bool = False
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
        return 2 * self.num_layers * self.kv_size * self.dtype_bytes

    @property
    def num_parameters(self) -> int:
        """Weights: embedding and head apart, norms included."""
        h, f, q, kv = self.hidden_size, self.intermediate_size, self.query_size, self.kv_size
        bias = q + 2 * kv if self.attention_bias else 0
        layer = h * (q + 2 * kv) + q * h + 3 * h * f + 2 * h + bias
        return self.num_layers * layer + 2 * self.vocab_size * h + h
