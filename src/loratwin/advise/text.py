"""Advice in words and as plain data."""

from __future__ import annotations

import shlex
from typing import Any

from loratwin.advise.batch import BatchAdvice, efficiency
from loratwin.advise.replicas import ReplicaAdvice
from loratwin.advise.slots import SlotPrices
from loratwin.engines.registry import DEFAULT, find_engine
from loratwin.errors import InputError
from loratwin.formatting import change, milliseconds
from loratwin.llms import LlmShapes, slot_bytes
from loratwin.records.plain import as_plain

GIB = 1 << 30

OTHER_GIB = 0.9
"""What a server needs beside weights and KV cache: activations, workspaces, the CUDA context. Assumed: the published
replicas' KV sizes, whose weights are known, say 0.8 to 1.0."""


def fixed_tokens(llm: LlmShapes | None, name: str = "") -> float:
    """What each replica needs beside its KV cache, in tokens of it; what is beside the weights is assumed.

    Raises
    ------
    InputError
        The sizes of the LLM of this name are not known.
    """
    if llm is None:
        raise InputError(f"the sizes of {name} are not known: name it with --llm, or give its folder")
    return (llm.weight_bytes_on_gpu(1) + OTHER_GIB * GIB) / llm.kv_bytes_per_token


def batch_text(
    advice: BatchAdvice, llm: LlmShapes | None, rank: int = 16, prices: SlotPrices | None = None
) -> list[str]:
    """What to run, what it costs, and what it leaves free: a line for each.

    Parameters
    ----------
    llm
        None: bytes are not told.
    rank
        Of the adapter slots that would fit what is free.
    prices
        What these slots are worth, where the twin was asked.
    """
    head = [f"{advice.sweep.llm} ({advice.sweep.source}): {len(advice.sweep.points)} batches"]
    if advice.point is None:
        return [
            *head,
            f"no batch has an efficiency above {advice.epsilon:g} within {advice.slo_ms:.1f} ms between tokens",
        ]
    point = advice.point
    lines = [
        f"run --max-num-seqs {point.batch}: {point.throughput:,.0f} tokens/s, {100 * advice.share_of_fastest:.0f} % of "
        f"the best (batch {advice.fastest.batch}) and {100 * advice.share_of_largest:.0f} % of the largest batch",
        f"{point.itl_ms:.1f} ms between tokens (limit {advice.slo_ms:.1f}), efficiency "
        f"{efficiency(advice.sweep, point):.2f} (limit {advice.epsilon:g})",
        f"it fills {100 * point.kv_used:.0f} % of the KV cache, {advice.kv_tokens_needed:,.0f} of "
        f"{point.kv_tokens:,.0f} tokens",
    ]
    if not advice.knee:
        lines.append("there is no knee: throughput grows until the KV cache is full, so nothing is free")
    elif llm is not None:
        lines += _free(advice, llm, rank)
    return head + lines + _priced(prices)


def _priced(prices: SlotPrices | None) -> list[str]:
    """A line for each number of slots, then which to take."""
    if prices is None:
        return []
    first, best = prices.prices[0], prices.best
    gain = change(best.throughput / first.throughput - 1)
    keep = f"{first.slots} slots are enough" if best is first else f"best within the limit: {best.slots} slots, {gain}"
    return [
        f"what slots of rank {prices.rank} are worth at this batch (simulated):",
        *(
            f"  {price.slots:>5,} slots: {price.throughput:,.0f} tokens/s, {price.itl_ms:.1f} ms between tokens, TTFT "
            f"{milliseconds(price.ttft_ms)}, {price.swap_ins:,} swap-ins, {price.kv_tokens:,} KV tokens"
            for price in prices.prices
        ),
        f"{keep} tokens/s" if best is not first else keep,
    ]


def _free(advice: BatchAdvice, llm: LlmShapes, rank: int) -> list[str]:
    assert advice.point is not None
    needed = advice.kv_bytes_needed(llm.kv_bytes_per_token)
    free = advice.point.kv_tokens * llm.kv_bytes_per_token - needed
    slots = int(free // slot_bytes(llm, rank, 0))
    return [
        f"{free / GIB:.1f} GiB are free: {slots:,} adapter slots of rank {rank}, or memory for replicas "
        "(loratwin advise replicas)",
        command(llm, advice.point.batch, needed),
    ]


def command(llm: LlmShapes, batch: int, kv_bytes: float) -> str:
    """The line that starts a server of this batch and no more KV cache than it needs."""
    engine = find_engine(DEFAULT)
    values = {"max_num_seqs": batch, "kv_cache_memory_bytes": int(kv_bytes)}
    options = [word for name, value in values.items() for word in engine.options[name].written(value)]
    words = [llm.repository or llm.name, *options]
    return f"{engine.plain_command} {shlex.join(words)}"


def batch_json(advice: BatchAdvice, prices: SlotPrices | None = None) -> dict[str, Any]:
    """As plain data."""
    point = advice.point
    return {
        "llm": advice.sweep.llm,
        "source": advice.sweep.source,
        "max_num_seqs": point.batch if point else None,
        "throughput_tokens_per_s": point.throughput if point else None,
        "itl_mean_ms": point.itl_ms if point else None,
        "itl_limit_ms": advice.slo_ms,
        "share_of_best": advice.share_of_fastest,
        "share_of_largest_batch": advice.share_of_largest,
        "kv_tokens_needed": advice.kv_tokens_needed,
        "kv_share_free": advice.kv_free,
        "knee": advice.knee,
        "slots": None if prices is None else as_plain(prices) | {"best": prices.best.slots},
    }


def replicas_text(advice: ReplicaAdvice, slo_ms: float | None) -> list[str]:
    """A line for each number of replicas, and which is best."""
    lines = [
        f"{one.number} x batch {one.batch}: {one.throughput:,.0f} tokens/s, {one.itl_ms:.1f} ms between tokens, "
        f"{one.running:.0f} running in each" + (", the KV cache is the limit" if one.kv_limited else "")
        for one in advice.tried
    ]
    lines += [f"{number} replicas do not fit the memory" for number in advice.too_many]
    if slo_ms is not None:
        within, best = f"within {slo_ms:g} ms", advice.best
        lines.append(f"best {within}: {best.number} x batch {best.batch}" if best else f"none is {within}")
    return lines


def replicas_json(advice: ReplicaAdvice) -> dict[str, Any]:
    """As plain data."""
    plain: dict[str, Any] = as_plain(advice)
    return plain
