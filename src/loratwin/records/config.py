"""What a server is started with: the limits that decide how it serves adapters, and vLLM's own rules for them."""

from __future__ import annotations

from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

from loratwin.errors import InputError
from loratwin.records.plain import without_defaults
from loratwin.refusals import one_line

LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Values that every vLLM accepts for `--max-lora-rank`; from 0.13 on also 1."""

BLOCK_SIZES = (1, 8, 16, 32, 64, 128)
"""Values that vLLM accepts for `--block-size`: 16 unless told, 128 on CPU."""

SMALL_GPU_TOKENS, SMALL_GPU_SEQUENCES = 2048, 256
"""Tokens of a step and sequences that vLLM takes on a GPU below 70 GiB unless told (engine.md 1.3)."""

FIRST_UTILIZATION = 0.9
"""Part of a GPU's memory that vLLM fills unless told, up to 0.19 (all versions and GPUs: `engines.versions`)."""


KV_NUMBER_BYTES: dict[str, float | None] = {
    "auto": None, "bfloat16": 2.0, "float16": 2.0, "fp8": 1.0, "fp8_e4m3": 1.0, "fp8_e5m2": 1.0, "int8": 1.0
}  # fmt: skip
"""Bytes of a number of keys and values by `--kv-cache-dtype`; None: as the checkpoint says."""

SWITCHES = (
    "enforce_eager", "kv_cache_dtype", "kv_cache_memory_bytes", "fully_sharded_loras", "enable_prefix_caching", "dtype",
    "quantization",
)  # fmt: skip
"""Fields that say how a server differs from most."""


def ranks_that_hold(rank: int) -> tuple[int, ...]:
    """Values of `--max-lora-rank` that hold an adapter of this rank, ascending.

    The first is the one to take: all of a slot is allocated, and computed.

    Raises
    ------
    InputError
        The rank is above what vLLM allows.
    """
    fitting = tuple(allowed for allowed in LORA_RANKS if allowed >= rank)
    if not fitting:
        raise InputError(f"an adapter has rank {rank}; no vLLM holds more than {LORA_RANKS[-1]}")
    return fitting


class EngineConfig(BaseModel):
    """How one server (replica) is started; names and meanings are vLLM's, the rest is explained here.

    Parameters
    ----------
    max_loras
        Slots: adapters on the GPU at a time. 0 means a server without `--enable-lora`.
    max_cpu_loras
        Adapters in the host cache; None: all that are served (vLLM itself would take `max_loras`).
    max_lora_rank
        Every slot has room for this rank, and is computed at this rank.
    max_num_seqs
        Requests in a batch.
    max_num_batched_tokens
        Tokens in a step; at least `max_num_seqs`.
    max_model_len
        Longest prompt plus output, in tokens; None: what the LLM allows.
    gpu_memory_utilization
        Part of the GPU's memory that the server may fill.
    block_size
        Tokens in a block of the KV cache.
    max_in_flight
        Requests waiting or running beyond which arrivals are refused; None: no limit. Not a flag of vLLM: clients and
        gateways have it (one connection for each request in flight).
    enforce_eager
        No CUDA graphs, nothing compiled.
    kv_cache_dtype
        Numbers that keys and values are kept in: `auto` is what the checkpoint says, `fp8` and its kind have 8 bits.
    kv_cache_memory_bytes
        Size of the KV cache of each GPU, whatever is left; None: what is left.
    fully_sharded_loras
        GPUs that share the LLM share both halves of every adapter, not one.
    enable_prefix_caching
        Whether KV blocks are found again by what is in them (engine.md 1.9). None: not said; vLLM then does, and the
        twin where prompts share something. Where nothing is shared only preempted requests find what they had, which
        the twin leaves out unless this is True.
    dtype
        Numbers that weights without quantization are kept in, and computed in: `auto` is what the checkpoint says.
    quantization
        How the engine is told to quantize, or that weights are quantized; None: as the checkpoint says.

    Raises
    ------
    InputError
        A key is unknown, or a value breaks a rule of every vLLM; one line names the key, the value and the rule.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_loras: int = Field(ge=0)
    max_cpu_loras: int | None = Field(default=None, ge=1)
    max_lora_rank: int = 16
    max_num_seqs: int = Field(default=SMALL_GPU_SEQUENCES, ge=1)
    max_num_batched_tokens: int = Field(default=SMALL_GPU_TOKENS, ge=1)
    max_model_len: int | None = Field(default=None, ge=1)
    gpu_memory_utilization: float = Field(default=FIRST_UTILIZATION, gt=0, le=1)
    block_size: int = 16
    max_in_flight: int | None = Field(default=None, ge=1)
    enforce_eager: bool = False
    kv_cache_dtype: str = "auto"
    kv_cache_memory_bytes: int | None = Field(default=None, ge=1)
    fully_sharded_loras: bool = False
    enable_prefix_caching: bool | None = None
    dtype: str = "auto"
    quantization: str | None = None

    @model_serializer(mode="wrap")
    def _short(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Without switches that are as vLLM has them unless told, so that records of most servers stay as they are."""
        return without_defaults(self, write(self), SWITCHES)

    @model_validator(mode="wrap")
    @classmethod
    def _check(cls, data: Any, handler: ModelWrapValidatorHandler[EngineConfig]) -> EngineConfig:
        try:
            config = handler(data)
        except ValidationError as error:
            raise InputError(one_line(error, data, "engine configuration", tuple(cls.model_fields))) from None
        for problem in _broken_rules(config):
            raise InputError(f"engine configuration: {problem}")
        return config

    def host_cache(self, num_adapters: int) -> int:
        """Adapters that host memory holds when `num_adapters` are served."""
        return max(num_adapters, self.max_loras) if self.max_cpu_loras is None else self.max_cpu_loras

    def replace(self, **changes: Any) -> EngineConfig:
        """A copy with some values changed, checked again.

        Raises
        ------
        InputError
            As the constructor.
        """
        return EngineConfig(**{**self.model_dump(), **changes})


def _broken_rules(config: EngineConfig) -> list[str]:
    """Rules that tie two values or name a list of values in every version (`vllm/config.py`)."""
    problems = []
    if config.max_lora_rank not in (1, *LORA_RANKS):
        problems.append(f"max_lora_rank = {config.max_lora_rank}, but vLLM accepts {_listed(LORA_RANKS)}")
    if config.block_size not in BLOCK_SIZES:
        problems.append(f"block_size = {config.block_size}, but vLLM accepts {_listed(BLOCK_SIZES)}")
    if config.max_cpu_loras is not None and config.max_cpu_loras < config.max_loras:
        problems.append(
            f"max_cpu_loras = {config.max_cpu_loras}, but it must be at least max_loras = {config.max_loras}"
        )
    if config.max_num_batched_tokens < config.max_num_seqs:
        problems.append(
            f"max_num_batched_tokens = {config.max_num_batched_tokens}, "
            f"but it must be at least max_num_seqs = {config.max_num_seqs}"
        )
    if config.kv_cache_dtype not in KV_NUMBER_BYTES:
        problems.append(
            f"kv_cache_dtype = {config.kv_cache_dtype!r}, but it must be one of {', '.join(KV_NUMBER_BYTES)}"
        )
    return problems


def _listed(values: tuple[int, ...]) -> str:
    return ", ".join(str(value) for value in values)
