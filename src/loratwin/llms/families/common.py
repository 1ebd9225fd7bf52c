"""What the readers of all families make, and the pieces that several of them have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from loratwin.llms.fields import Fields
from loratwin.llms.layers import Attention, Layers, Linear, Slice

Lora = Literal["slices", "whole", "none"]


class Part(NamedTuple):
    """A linear layer, and what the checkpoint calls (the first of) its weights below the layer."""

    linear: Linear
    path: str = ""  # as self_attn.q_proj; empty: never quantized


class Layer(NamedTuple):
    """One layer."""

    attention: Attention
    parts: tuple[Part, ...]
    other: int = 0  # parameters that are of no linear layer
    copied: int = 0  # bytes that vLLM keeps a second time


class Body(NamedTuple):
    """An LLM between embedding and head."""

    layers: list[Layer]
    intermediate_size: int  # of most layers
    other: int = 0  # parameters outside the layers, but for embedding, head and last norm
    draft: int = 0  # parameters of layers that only speculative decoding loads


def grouped(layers: Sequence[Layer], type_of: Callable[[int, str], str]) -> tuple[Layers, ...]:
    """Layers by kind, in the order in which the kinds first come.

    Parameters
    ----------
    type_of
        The type of numbers of the weights of a layer, by its place and their path.
    """
    counts: dict[tuple[Attention, tuple[Linear, ...], int, int], int] = {}
    for index, layer in enumerate(layers):
        linears = tuple(_typed(part, index, type_of) for part in layer.parts)
        key = (layer.attention, linears, layer.other, layer.copied)
        counts[key] = counts.get(key, 0) + 1
    return tuple(
        Layers(count=count, attention=attention, linears=linears, other_parameters=other, copied_bytes=copied)
        for (attention, linears, other, copied), count in counts.items()
    )


def _typed(part: Part, index: int, type_of: Callable[[int, str], str]) -> Linear:
    numbers = type_of(index, part.path) if part.path else "bfloat16"
    return part.linear if numbers == "bfloat16" else part.linear.model_copy(update={"numbers": numbers})


def linear(
    path: str,
    inputs: int,
    *outputs: int | Slice,
    name: str = "",
    split: Literal["outputs", "inputs", "none"] = "outputs",
    bias: bool = False,
    lora: Lora = "slices",
    experts: int = 0,
    used: int = 1,
) -> Part:
    """A part whose outputs are features, or slices."""
    slices = tuple(Slice(each) if isinstance(each, int) else each for each in outputs)
    made = Linear(
        name=name or path.split(".")[-1],
        inputs=inputs,
        slices=slices,
        split=split,
        bias=bias,
        lora=lora,
        experts=experts,
        used=used,
    )
    return Part(made, path)


def gate(path: str, hidden: int, experts: int) -> Part:
    """The router: every GPU has it, 16 bits, no adapter."""
    return Part(linear(path, hidden, experts, split="none", lora="none").linear)


def feed_forward(
    path: str,
    hidden: int,
    size: int,
    gated: bool = True,
    bias: bool = False,
    lora: Lora = "slices",
    names: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj"),
) -> tuple[Part, ...]:
    """A dense feed-forward part, of no features none: gate and up in one product, and down."""
    if not size:
        return ()
    first, up, down = names
    below = linear(f"{path}.{down}", size, hidden, name="down_proj", split="inputs", bias=bias)
    if not gated:
        return (linear(f"{path}.{up}", hidden, size, name="up_proj", bias=bias), below)
    return (linear(f"{path}.{first}", hidden, size, size, name="gate_up_proj", bias=bias, lora=lora), below)


def experts(
    path: str,
    hidden: int,
    size: int,
    count: int,
    used: int,
    gated: bool = True,
    bias: bool = False,
    lora: Lora = "slices",
) -> tuple[Part, ...]:
    """Routed experts: their gate and up (w13), and down (w2)."""
    up = (size, size) if gated else (size,)
    return (
        linear(path, hidden, *up, name="experts.w13", experts=count, used=used, bias=bias, lora=lora),
        linear(path, size, hidden, name="experts.w2", split="inputs", experts=count, used=used, bias=bias, lora=lora),
    )


def sizes_of_heads(fields: Fields) -> tuple[int, int, int]:
    """(query heads, key heads, size of a head).

    Raises
    ------
    InputError
        They do not divide what they must.
    """
    hidden, heads = (
        fields.size("hidden_size", "n_embd", "d_model"),
        fields.size("num_attention_heads", "n_head", "n_heads"),
    )
    head_dim = fields.optional("head_dim")
    if head_dim is None and hidden % heads:
        raise fields.refuse("num_attention_heads", f"it must divide hidden_size = {hidden}")
    kv_heads = fields.optional("num_key_value_heads", "num_kv_heads") or heads
    if heads % kv_heads:
        raise fields.refuse("num_key_value_heads", f"it must divide num_attention_heads = {heads}")
    return heads, kv_heads, head_dim or hidden // heads
