"""What adapters of an LLM take: vLLM's buffers of one slot, tensor by tensor (engine.md 2.2)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from loratwin.llms.layers import Linear
from loratwin.llms.shapes import LlmShapes


def lora_modules(
    llm: LlmShapes, tensor_parallel: int = 1, target_modules: Sequence[str] = (), fully_sharded: bool = False
) -> list[tuple[int, list[list[tuple[int, int]]]]]:
    """(count, modules) for each kind of layer; a module is (inputs, outputs) of each of its slices on one GPU.

    LoRA's A is whole where a layer is split by outputs (qkv, gate_up) and split where it is split by inputs (o, down);
    B the other way round (engine.md 2.2; not with `fully_sharded_loras`). Experts have an A and a B each.

    Parameters
    ----------
    target_modules
        Of `--lora-target-modules`: names of modules that get buffers; none: all.
    fully_sharded
        A and B are split both (`--fully-sharded-loras`).
    """
    return [
        (kind.count, [each for linear in kind.linears for each in _slices(linear, *how)])
        for kind in llm.kinds
        for how in [(tensor_parallel, target_modules, fully_sharded)]
    ]


PARTS = {
    "qkv_proj": ("q_proj", "k_proj", "v_proj"),
    "gate_up_proj": ("gate_proj", "up_proj"),
    "fused_qkv_a_proj": ("q_a_proj", "kv_a_proj_with_mqa"),
    "in_proj_qkvz": ("in_proj_qkv", "in_proj_z"),
    "in_proj_ba": ("in_proj_b", "in_proj_a"),
    "experts.w13": ("experts",),
    "experts.w2": ("experts",),
}
"""What vLLM stacks, by the names that adapters use."""


def adapter_modules(llm: LlmShapes) -> dict[str, str]:
    """Modules that adapters may have, by the names that adapters use, and the part of a layer that each is in."""
    found: dict[str, str] = {}
    for linear in (linear for kind in llm.kinds for linear in kind.linears if linear.lora != "none"):
        names = (linear.name,) if linear.lora == "whole" else PARTS.get(linear.name, (linear.name,))
        if linear.experts:
            names = (*names, *_OF_EXPERTS)
        part = "mlp" if linear.experts or linear.name in _FEED_FORWARD else "self_attn"
        found |= dict.fromkeys(names, part)
    return found | (dict.fromkeys(("embed_tokens", "lm_head"), "") if llm.lora_on_vocabulary else {})


_FEED_FORWARD = ("gate_up_proj", "down_proj")
_OF_EXPERTS = ("gate_proj", "up_proj", "down_proj", "w1", "w2", "w3")


def _slices(
    linear: Linear, tensor_parallel: int, target_modules: Sequence[str], fully_sharded: bool
) -> list[list[tuple[int, int]]]:
    named = {linear.name, *PARTS.get(linear.name, ())}
    if linear.lora == "none" or (target_modules and not named & set(target_modules)):
        return []
    inputs, outputs = linear.inputs_on(tensor_parallel), linear.slices_on(tensor_parallel)
    if fully_sharded and linear.split == "outputs":
        inputs = -(-inputs // tensor_parallel)
    if fully_sharded and linear.split == "inputs":
        outputs = tuple(-(-each // tensor_parallel) for each in outputs)
    if linear.lora == "whole":
        outputs = (sum(outputs),)
    return [[(linear.copies * inputs, linear.copies * each) for each in outputs]]


def slot_bytes(
    llm: LlmShapes,
    max_lora_rank: int,
    extra_vocabulary: int,
    tensor_parallel: int = 1,
    target_modules: Sequence[str] = (),
) -> int:
    """Bytes of one adapter slot, whatever adapter is in it: all of `max_lora_rank` is allocated (engine.md 2.2).

    On each GPU, if `tensor_parallel` of them share the LLM.
    """
    return sum(lora_tensors(llm, 1, max_lora_rank, extra_vocabulary, tensor_parallel, target_modules, False))


def lora_tensors(
    llm: LlmShapes,
    slots: int,
    rank: int,
    extra: int,
    tensor_parallel: int,
    target_modules: Sequence[str] = (),
    embedding: bool = True,
    fully_sharded: bool = False,
) -> Iterator[int]:
    """Sizes in bytes of the tensors that LoRA adds or enlarges, in the order in which the model's modules make them.

    Parameters
    ----------
    embedding
        With the embedding itself, which is made anew with the added rows.
    fully_sharded
        GPUs share A and B both; of embedding and head each has all.
    """
    unit = slots * rank * llm.dtype_bytes
    h, rows = llm.hidden_size, llm.vocab_size + extra
    table = slots * extra * h * llm.dtype_bytes
    if llm.lora_on_vocabulary:
        yield table + (llm.vocab_size * h * llm.dtype_bytes if embedding else 0)
        yield from (unit * rows, table, unit * h)
    for count, modules in lora_modules(llm, tensor_parallel, target_modules, fully_sharded):
        for _ in range(count):
            for slices in modules:
                yield from (unit * i for i, _ in slices)
                yield from (unit * o for _, o in slices)
    if llm.lora_on_vocabulary:
        yield from (unit * h, unit * (-(-rows // 256) * 256), table)
