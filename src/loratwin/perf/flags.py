"""A profile as flags change it: weights that are quantized, keys and values of 8 bits, and GPUs in a row."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from loratwin.errors import InputError
from loratwin.llms import LlmShapes, find_llm, quantized_name
from loratwin.perf.assume import assume
from loratwin.perf.gpus import find_gpu
from loratwin.perf.operations.step import StepSum
from loratwin.perf.operations.tables import operations_of
from loratwin.perf.profile import Profile, load_profile
from loratwin.perf.step_overhead import reference_gpu
from loratwin.perf.step_time import StepTimeModel
from loratwin.records import EngineConfig
from loratwin.records.config import KV_NUMBER_BYTES

REQUESTS, SHORT, LONG = 64.0, 1024.0, 4096.0
"""Where reading a cache of other numbers is compared: requests of a step, and tokens of each."""


def served_profile(name: str, quantization: str | None = None, pipeline_parallel: int = 1) -> Profile:
    """The profile of this name or file, for a server with these flags.

    Parameters
    ----------
    quantization
        As vLLM's flag: fp8, awq, gptq, ...; None: as the profile's LLM has its weights.
    pipeline_parallel
        Stages of layers.

    Raises
    ------
    InputError
        As `load_profile`; a fitted profile, which knows its own weights alone; more stages than one, of which the
        memory alone is known.
    """
    profile = load_profile(name)
    if pipeline_parallel != 1:
        raise InputError(
            f"pipeline_parallel = {pipeline_parallel}: how fast stages are is not known, it must be 1; what they take "
            "of memory, says `loratwin memory GPU LLM --pipeline-parallel-size`"
        )
    return profile if quantization is None else _with_weights(profile, quantization)


def _with_weights(profile: Profile, quantization: str) -> Profile:
    """The same GPU and engine with the LLM's weights quantized, assumed anew."""
    llm = quantized_name(profile.llm.name, quantization)
    gpu, gpus = reference_gpu(profile), profile.memory.tensor_parallel
    if profile.origin != "assumed":
        raise InputError(
            f"quantization = {quantization}: {profile.name} was fitted to weights as they are; assume another: "
            f"`loratwin profiles assume --gpu {gpu.name} --llm {llm} --engine {profile.engine}`"
        )
    shapes = find_llm(llm, profile.engine).model_copy(update={"given": profile.llm.given or profile.llm.repository})
    return assume(find_gpu(gpu.name, profile.memory.gpu_gib), shapes, profile.engine, gpus)


_APART = dict.fromkeys(("mixed_context_s", "mixed_request_s", "reread_context_s"), 0.0)
"""Other numbers go to FlashInfer where FlashAttention is version 2; it decodes apart (engine.md 1.10)."""


def step_time_of(profile: Profile, config: EngineConfig) -> tuple[StepTimeModel, tuple[str, ...]]:
    """The coefficients with this server's KV cache, and what is to be said of them."""
    factor, model, notes = _cache_factor(profile, config.kv_cache_dtype), profile.step_time, []
    if config.quantization and not profile.llm.quantization:
        notes.append(f"quantization = {config.quantization}: the profile knows weights as the checkpoint has them")
    if factor != 1.0:
        model = model.model_copy(update={"context_s": model.context_s * factor, **_APART})
        notes.append(
            f"kv_cache_dtype = {config.kv_cache_dtype}: reading the cache takes {factor:.2f} times as long, as "
            "measured operations say; no such server was compared"
        )
    return model, tuple(notes)


def _cache_factor(profile: Profile, kv_cache_dtype: str) -> float:
    """Times as long as with the profile's numbers it takes to read keys and values of these."""
    number, usual = KV_NUMBER_BYTES[kv_cache_dtype], profile.llm.kv_number_bytes or float(profile.llm.dtype_bytes)
    if number is None or number == usual:
        return 1.0
    try:
        gpu = reference_gpu(profile).name
    except InputError:
        return number / usual  # a GPU without tables: the bytes
    return _read_s(gpu, profile.llm, number) / _read_s(gpu, profile.llm, usual)


@lru_cache(maxsize=32)
def _read_s(gpu: str, llm: LlmShapes, number_bytes: float) -> float:
    """Seconds more that requests of many tokens take than those of few."""
    of = StepSum(operations_of(find_gpu(gpu)), llm.model_copy(update={"kv_number_bytes": number_bytes}), 1, 0.0)
    short, long = of.decode_s(np.array([REQUESTS, REQUESTS]), np.array([SHORT, LONG]))
    return float(long - short)
