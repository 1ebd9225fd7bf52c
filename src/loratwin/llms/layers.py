"""What an LLM's layers are made of: linear layers, and what they keep of a request.

Whatever the family, parameters, bytes, products of matrices and LoRA buffers follow from these lists; families differ
in which lists they make (`loratwin.llms.families`).
"""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt, PositiveFloat, PositiveInt

from loratwin.llms.numbers import NumberType, numbers

MOST_LAYERS, MOST = 10_000, 10**8
"""Of layers, and of any other size: no LLM has more, and the KV cache of such a one would be computed for hours."""

Size = Annotated[int, Field(ge=1, le=MOST)]


class Slice(NamedTuple):
    """Outputs of a linear layer that are dealt out to GPUs by the unit: heads, or single features."""

    units: int
    size: int = 1  # features of a unit

    def features(self, tensor_parallel: int = 1) -> int:
        """On one of so many GPUs; units are repeated where there are too few of them."""
        return max(1, self.units // tensor_parallel) * self.size


class Linear(BaseModel):
    """A linear layer as vLLM has it: what is stacked in one product of matrices (q, k and v) is one layer."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str  # vLLM's, as qkv_proj
    inputs: PositiveInt
    slices: tuple[Slice, ...]
    split: Literal["outputs", "inputs", "none"] = "outputs"  # by what GPUs share it; none: each has all of it
    experts: NonNegativeInt = 0  # so many alike, of which a token uses `used`; 0: no experts, every token uses it
    used: PositiveInt = 1
    bias: bool = False
    numbers: NumberType = "bfloat16"
    lora: Literal["slices", "whole", "none"] = (
        "slices"  # an adapter has A and B for each slice, for all at once, or none
    )

    @property
    def outputs(self) -> int:
        """Output features of the whole layer."""
        return sum(part.features() for part in self.slices)

    @property
    def copies(self) -> int:
        """Matrices of this size."""
        return self.experts or 1

    @property
    def num_parameters(self) -> int:
        """Weights and biases, all experts together."""
        return self.copies * self.outputs * (self.inputs + self.bias)

    @property
    def active_parameters(self) -> int:
        """Those that one token is multiplied with."""
        return (self.used if self.experts else 1) * self.outputs * (self.inputs + self.bias)

    def inputs_on(self, tensor_parallel: int) -> int:
        """Input features on one of so many GPUs."""
        return self.inputs // tensor_parallel if self.split == "inputs" else self.inputs

    def slices_on(self, tensor_parallel: int) -> tuple[int, ...]:
        """Output features of each slice there."""
        t = tensor_parallel if self.split == "outputs" else 1
        return tuple(part.features(t) for part in self.slices)

    def bytes_on(self, tensor_parallel: int, bias_bytes: int = 2) -> int:
        """Bytes of all its copies there."""
        inputs, outputs = self.inputs_on(tensor_parallel), sum(self.slices_on(tensor_parallel))
        weights = numbers(self.numbers).num_bytes(inputs, outputs)
        return self.copies * (weights + (bias_bytes * outputs if self.bias else 0))


class Cache(BaseModel):
    """What a layer keeps of a request.

    `full`: of every token. `latent`: of every token, the same on all GPUs. `sliding`: of the last `window` tokens.
    `chunked`: of the tokens of the last chunk of `window`. `state`: so much, however long the request is.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    kind: Literal["full", "latent", "sliding", "chunked", "state"]
    units: PositiveInt = 1  # heads of keys, dealt out to GPUs and repeated where there are too few
    size: PositiveInt  # numbers of a unit: of a token, or of the whole state
    window: Size | None = None
    every: PositiveInt = 1  # tokens that share one entry
    number_bytes: PositiveFloat | None = None  # None: those of the KV cache, which a server may be told
    packed_bytes: PositiveInt | None = None  # of an entry where numbers of the KV cache have 8 bits, if not as many

    @property
    def grows(self) -> bool:
        """Whether it takes more with every token, without end."""
        return self.kind in ("full", "latent")

    def bytes_on(self, tensor_parallel: int, kv_number_bytes: float) -> int:
        """Bytes on one of so many GPUs: of an entry, or of the state of a request."""
        if self.packed_bytes and kv_number_bytes == 1:
            return self.packed_bytes
        units = self.units if self.kind == "latent" else max(1, self.units // tensor_parallel)
        return int(units * self.size * (self.number_bytes or kv_number_bytes))


class Attention(BaseModel):
    """How a layer mixes the tokens of a request: the sizes that its time depends on, and what it keeps."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: Literal["full", "sliding", "chunked", "latent", "sparse", "linear", "mamba", "none"]
    num_heads: NonNegativeInt = 0
    num_kv_heads: NonNegativeInt = 0
    key_size: NonNegativeInt = 0  # of a head
    value_size: NonNegativeInt = 0
    window: Size | None = None
    caches: tuple[Cache, ...] = ()


class Layers(BaseModel):
    """Layers that are alike."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: Annotated[int, Field(ge=1, le=MOST_LAYERS)]
    attention: Attention
    linears: tuple[Linear, ...] = ()
    other_parameters: NonNegativeInt = 0  # of each layer: norms, convolutions, sinks; every GPU has them, 16 bits
    copied_bytes: NonNegativeInt = 0  # what vLLM keeps a second time in another form; shared by the GPUs

    @property
    def num_parameters(self) -> int:
        """Of one of them."""
        return sum(linear.num_parameters for linear in self.linears) + self.other_parameters

    @property
    def active_parameters(self) -> int:
        """Of one of them, for one token."""
        return sum(linear.active_parameters for linear in self.linears) + self.other_parameters

    def bytes_on(self, tensor_parallel: int, dtype_bytes: int = 2) -> int:
        """Bytes of the weights of one of them on one of so many GPUs."""
        linears = sum(linear.bytes_on(tensor_parallel, dtype_bytes) for linear in self.linears)
        return linears + self.other_parameters * dtype_bytes + self.copied_bytes // tensor_parallel


def softmax_attention(
    num_heads: int,
    num_kv_heads: int,
    key_size: int,
    value_size: int | None = None,
    kind: Literal["full", "sliding", "chunked"] = "full",
    window: int | None = None,
) -> Attention:
    """Attention that keeps keys and values of each of its key heads."""
    value = key_size if value_size is None else value_size
    cache = Cache(kind=kind, units=num_kv_heads, size=key_size + value, window=window)
    return Attention(
        kind=kind, num_heads=num_heads, num_kv_heads=num_kv_heads, key_size=key_size, value_size=value, window=window,
        caches=(cache,),
    )  # fmt: skip


def attention_linears(
    hidden_size: int,
    num_heads: int,
    num_kv_heads: int,
    key_size: int,
    value_size: int | None = None,
    bias: bool = False,
    whole: bool = False,
) -> tuple[Linear, Linear]:
    """The projections around such attention: q, k and v, and the output."""
    value = key_size if value_size is None else value_size
    qkv = (Slice(num_heads, key_size), Slice(num_kv_heads, key_size), Slice(num_kv_heads, value))
    return (
        Linear(name="qkv_proj", inputs=hidden_size, slices=qkv, bias=bias, lora="whole" if whole else "slices"),
        Linear(name="o_proj", inputs=num_heads * value, slices=(Slice(hidden_size),), split="inputs"),
    )


def gated_linears(hidden_size: int, intermediate_size: int, whole: bool = False) -> tuple[Linear, Linear]:
    """A feed-forward part with a gate, as that of Llama."""
    up = (Slice(intermediate_size), Slice(intermediate_size))
    return (
        Linear(name="gate_up_proj", inputs=hidden_size, slices=up, lora="whole" if whole else "slices"),
        Linear(name="down_proj", inputs=intermediate_size, slices=(Slice(hidden_size),), split="inputs"),
    )
