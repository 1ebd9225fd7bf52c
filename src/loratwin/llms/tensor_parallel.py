"""Which numbers of GPUs an LLM can be dealt out to."""

from __future__ import annotations

from collections.abc import Iterator

from loratwin.errors import InputError
from loratwin.llms.layers import Linear
from loratwin.llms.shapes import LlmShapes


def check_dealt(llm: LlmShapes, tensor_parallel: int) -> None:
    """Refuse what vLLM refuses to deal out (`divide` of its linear layers; key and value heads may be repeated).

    Raises
    ------
    InputError
        Heads or features that so many GPUs cannot share evenly.
    """
    t = tensor_parallel
    linears = dict.fromkeys(linear for kind in llm.kinds for linear in kind.linears)
    for linear in linears:
        for size, what in _shared(linear):
            if t < 1 or size % t:
                raise InputError(f"tensor_parallel = {t}, but it must divide the {size} {what} of {llm.name}")
    for linear in linears:
        for heads, _ in linear.slices[1:] if linear.name == "qkv_proj" else ():
            if heads % t and t % heads:
                raise InputError(
                    f"tensor_parallel = {t}, but it must divide the {heads} key and value heads of {llm.name}, or be a "
                    "multiple of them"
                )


def _shared(linear: Linear) -> Iterator[tuple[int, str]]:
    """What of a layer each GPU gets an equal part of."""
    units, size = linear.slices[0]
    if linear.split == "outputs":
        yield units, "heads" if size > 1 else "intermediate features"
    elif linear.split == "inputs":
        yield linear.inputs, f"inputs of {linear.name}"
