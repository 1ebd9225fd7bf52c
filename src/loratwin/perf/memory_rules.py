"""What a vLLM version takes of a GPU beside weights, slots and KV cache, where nothing was measured (engine.md 1.8)."""

from __future__ import annotations

from typing import Literal, NamedTuple

from loratwin.engines.versions import Version, engine_version
from loratwin.llms import LlmShapes

Sampler = Literal["pytorch", "flashinfer"]

SORTING = 38.0
"""Bytes that PyTorch's sampler has at its peak for each word of each sequence: numbers of 2 and 4 bytes, and a sort's
copies of values and of indices (0.9.2 and 0.15.0: 38.0 and 38.4 in two logs)."""

NOT_SORTING = 15.0
"""The same where no sort is made, by FlashInfer or Triton: numbers of 2 bytes, three times 4 bytes, and Triton's buffer
(0.10.0, 0.17.0 and 0.19.0: 14.4 to 15.3)."""

CONTEXT_GIB = 0.45
"""A CUDA context: up to 0.8 in what the server may fill, from 0.9 on taken before anything is counted."""


class MemoryRules(NamedTuple):
    """From one version on. In GiB, of each GPU, with standard errors.

    Attributes
    ----------
    sampler_bytes
        Of the profile run's sampling, for each word of each sequence.
    state_bytes
        Kept for each word of each sequence, where that is counted.
    other_gib, other_error
        Libraries, kernels, and what PyTorch's allocator holds in vain.
    several_gib, several_error
        More on each of two or more GPUs.
    context_inside
        Whether the CUDA context counts as part of what the server may fill.
    graphs_counted
        Whether an estimate of the CUDA graphs is taken off before the KV cache is sized.
    graph_mib
        Of one graph of one layer; with slots `lora_graph_mib` more, and for every 4096 features of it
        `several_graph_mib` on two or more GPUs without NVLink, whose sums NCCL keeps buffers for.
    """

    since: Version
    sampler_bytes: float
    other_gib: float
    other_error: float
    several_gib: float
    several_error: float
    state_bytes: float = 0.0
    context_inside: bool = False
    graphs_counted: bool = False
    graph_mib: float = 0.1
    lora_graph_mib: float = 0.12
    several_graph_mib: float = 0.1


_OLD_GRAPHS = {"graph_mib": 0.25, "lora_graph_mib": 1.3, "several_graph_mib": 0.86}

RULES = (
    MemoryRules((0, 8, 0), 16.0, 0.45, 0.12, 0.15, 0.15, context_inside=True, **_OLD_GRAPHS),  # type: ignore[arg-type]
    MemoryRules((0, 9, 0), SORTING, 0.15, 0.1, 0.4, 0.15, **_OLD_GRAPHS),  # type: ignore[arg-type]
    MemoryRules((0, 13, 0), SORTING, 0.3, 0.2, 0.3, 0.2),
    MemoryRules((0, 17, 0), NOT_SORTING, 0.25, 0.15, 0.3, 0.2),
    MemoryRules((0, 18, 0), NOT_SORTING, 0.42, 0.18, 1.68, 0.17),
    MemoryRules((0, 20, 0), NOT_SORTING, 0.42, 0.18, 1.68, 0.4, graphs_counted=True),
    MemoryRules((0, 27, 0), NOT_SORTING, 0.95, 0.25, 0.6, 0.5, graphs_counted=True),
)
"""Of the first model runner, oldest first."""

RULES_2 = (
    MemoryRules((0, 22, 0), 6.0, 0.45, 0.15, 0.6, 0.5),
    MemoryRules((0, 27, 0), 2.0, 0.95, 0.2, 0.6, 0.5, state_bytes=4.125),
    MemoryRules((0, 31, 0), 2.0, 0.95, 0.2, 0.6, 0.5, state_bytes=4.125, graphs_counted=True),
)
"""Of the second."""

_SECOND_RUNNER: tuple[tuple[Version, tuple[str, ...]], ...] = (
    ((0, 22, 0), ("qwen-3", "qwen3")),
    ((0, 23, 0), ("qwen-3", "qwen3", "llama", "mistral")),
)
"""Families that are served by it at first; from 0.25 on all that have no experts, states or encoder of images."""


def memory_rules(engine: str, llm: LlmShapes) -> MemoryRules:
    """Of the newest version that is not newer than this one, for the model runner that serves the LLM.

    Raises
    ------
    InputError
        No version of vLLM.
    """
    version = engine_version(engine)
    table = RULES_2 if second_runner(version, llm) else RULES
    return [rules for rules in table if rules.since <= version or rules is table[0]][-1]


def second_runner(version: Version, llm: LlmShapes) -> bool:
    """Whether a version serves an LLM by its second model runner (`config/vllm.py`)."""
    linears = [linear for kind in llm.kinds for linear in kind.linears]
    hybrid = any(cache.kind == "state" for kind in llm.kinds for cache in kind.attention.caches)
    if version >= (0, 31, 0):
        return True
    if hybrid or any(linear.experts for linear in linears):
        return False
    if version >= (0, 25, 0):
        return True
    families = [names for since, names in _SECOND_RUNNER if since <= version]
    called = (llm.family or llm.name).lower()
    return bool(families) and called.startswith(families[-1])


def sampler_bytes(rules: MemoryRules, sampler: Sampler | None) -> float:
    """Of one word of one sequence, with the sampler that the server has, or by default."""
    if sampler == "pytorch" and not rules.context_inside:
        return SORTING
    return min(rules.sampler_bytes, NOT_SORTING) if sampler == "flashinfer" else rules.sampler_bytes
