"""Memory of a server that nobody has started yet: GPU, LLM, version and flags in, an account out; no workload."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast, get_args

from loratwin.engines.flags import DTYPES
from loratwin.engines.versions import (
    check_config,
    default_limits,
    generation_of,
    limits_beside,
    profile_run_of,
    told_version,
)
from loratwin.errors import InputError
from loratwin.llms import LlmShapes, find_llm, quantized_name
from loratwin.perf.account import MemoryAccount, memory_account
from loratwin.perf.assume import assume_memory
from loratwin.perf.gpus import Gpu, find_gpu
from loratwin.perf.memory_rules import Sampler
from loratwin.records import EngineConfig
from loratwin.records.config import FIRST_UTILIZATION


class ServerMemory(NamedTuple):
    """A server and where the memory of each of its GPUs goes.

    Attributes
    ----------
    gpu, llm, engine
        As they are called in the tables, and the version.
    num_gpus
        That share the LLM.
    config
        What it is started with, defaults of the version filled in.
    account
        Where the memory goes, and whether it starts.
    notes
        What a reader must know.
    """

    gpu: str
    llm: str
    engine: str
    num_gpus: int
    config: EngineConfig
    account: MemoryAccount
    notes: tuple[str, ...]

    def as_plain(self) -> dict[str, Any]:
        """As dictionaries, lists, numbers and text: for JSON."""
        account, capacity = self.account, self.account.capacity
        return {
            "gpu": self.gpu,
            "llm": self.llm,
            "engine": self.engine,
            "num_gpus": self.num_gpus,
            "config": self.config.model_dump(),
            "gpu_gib": account.gpu_gib,
            "granted_gib": account.granted_gib,
            "parts": [part._asdict() for part in account.parts],
            "kv_gib": [account.kv_gib, account.kv_low_gib, account.kv_high_gib],
            "kv_tokens": [capacity.tokens, capacity.low, capacity.high],
            "concurrency": account.concurrency,
            "max_model_len": account.max_model_len,
            "after": [part._asdict() for part in account.after],
            "room_gib": account.room_gib,
            "starts": capacity.starts,
            "reason": capacity.reason,
            "notes": list(self.notes),
        }


def server_memory(
    gpu: str,
    llm: str,
    engine: str | None = None,
    *,
    gpu_memory_gib: float | None = None,
    tensor_parallel: int = 1,
    pipeline_parallel: int = 1,
    dtype: str = "auto",
    quantization: str | None = None,
    sampler: str | None = None,
    **settings: Any,
) -> ServerMemory:
    """Where the memory of a server goes, and whether it starts.

    Parameters
    ----------
    gpu
        A name of the table, or as nvidia-smi prints it.
    llm
        A name, a repository, or a folder with a config.json.
    engine
        Version of vLLM; None: `engines.versions.UNTOLD`, which a note says.
    gpu_memory_gib
        What the driver shows of the GPU's memory; None: as usual.
    tensor_parallel, pipeline_parallel
        GPUs that share each layer, and stages of layers.
    dtype, quantization
        vLLM's, as float32; as fp8, awq, gptq, of an LLM by its name; None: the LLM's own.
    sampler
        `pytorch` or `flashinfer` (`VLLM_USE_FLASHINFER_SAMPLER`); None: the version's own.
    settings
        Fields of `EngineConfig` by name; others are as the version has them on this GPU. Without `max_loras`: no
        adapters.

    Returns
    -------
    ServerMemory
        The server with its defaults filled in, and the account: parts with errors, KV tokens, what is short.

    Raises
    ------
    InputError
        Something is not known, or vLLM refuses it.
    """
    (engine, said), device = told_version(engine), find_gpu(gpu, gpu_memory_gib)
    shapes = _of_dtype(find_llm(quantized_name(llm, quantization) if quantization else llm, engine), dtype)
    stage = stage_of(shapes, pipeline_parallel)
    memory = assume_memory(device, stage, engine, tensor_parallel, sampler=_sampler(sampler))
    config = config_with_defaults(device, engine, settings)
    notes = () if profile_run_of(engine) else generation_of(engine).notes
    account = memory_account(stage, memory, config)
    return ServerMemory(
        device.name, shapes.name, engine, tensor_parallel * pipeline_parallel, config, account, (*said, *notes)
    )


def _sampler(name: str | None) -> Sampler | None:
    if name is not None and name not in get_args(Sampler):
        raise InputError(f"sampler = {name!r}, but it must be one of {', '.join(get_args(Sampler))}")
    return cast("Sampler | None", name)


def config_with_defaults(gpu: Gpu, engine: str, given: Mapping[str, Any]) -> EngineConfig:
    """Fields of `EngineConfig` that are given; of others what the version takes on the GPU, and no adapters.

    Raises
    ------
    InputError
        As `EngineConfig`, or what the version refuses.
    """
    chosen = {name: value for name, value in given.items() if value is not None}
    if profile_run_of(engine):  # vLLM's first engine, of which defaults were not read
        return EngineConfig(**{"max_loras": 0, "gpu_memory_utilization": FIRST_UTILIZATION} | chosen)
    limits = limits_beside(default_limits(engine, gpu.memory_gib, gpu.name), chosen)
    config = EngineConfig(**limits._asdict() | {"max_loras": 0} | chosen)
    check_config(config, engine)
    return config


def stage_of(llm: LlmShapes, stages: int) -> LlmShapes:
    """The part of an LLM that the fullest of so many stages has: its share of the layers, and embedding or head.

    Raises
    ------
    InputError
        More stages than layers, or fewer than one.
    """
    if stages == 1:
        return llm
    if not 1 <= stages <= llm.num_layers:
        raise InputError(f"pipeline_parallel = {stages}: it must be 1 to {llm.num_layers}, the layers of {llm.name}")
    kinds = tuple(kind.model_copy(update={"count": -(-kind.count // stages)}) for kind in llm.layers)
    layers = -(-llm.num_layers // stages)
    return llm.model_copy(update={"num_layers": layers, "layers": kinds, "tied_embeddings": True})


def _of_dtype(llm: LlmShapes, dtype: str) -> LlmShapes:
    if dtype not in DTYPES:
        raise InputError(f"dtype = {dtype!r}, but it must be one of {', '.join(DTYPES)}")
    numbers = DTYPES[dtype]
    if numbers is None:
        return llm
    kinds = tuple(
        kind.model_copy(
            update={
                "linears": tuple(
                    linear.model_copy(update={"numbers": numbers}) if linear.numbers == "bfloat16" else linear
                    for linear in kind.linears
                )
            }
        )
        for kind in llm.kinds
    )
    return llm.model_copy(update={"layers": kinds, "dtype_bytes": 4, "head_numbers": numbers})
