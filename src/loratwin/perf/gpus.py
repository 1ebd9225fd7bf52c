"""GPUs by their data sheets: what a profile without measurement starts from (tables/gpus.yaml)."""

from __future__ import annotations

import re
from functools import lru_cache

from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat, PositiveInt

from loratwin.errors import InputError, UnknownNameError
from loratwin.tables import read_yaml_table

MOST_GIB = 1024
"""More memory than any GPU has, GiB."""

TOLD_ERROR_GIB = 0.01
"""Standard error of memory that was told: two digits behind the point."""


class Gpu(BaseModel):
    """One GPU; peak figures, of which a real program reaches a part."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    memory_gib: PositiveFloat  # as CUDA shows it, GiB
    memory_error_gib: NonNegativeFloat = 0.06  # standard error of that: drivers differ
    memory_gb_per_s: PositiveFloat  # 1e9 bytes/s
    tflops: PositiveFloat  # dense bf16, 1e12 floating-point operations/s
    sms: PositiveInt  # streaming multiprocessors (compute units of AMD)
    cache_mib: NonNegativeFloat = 0.0  # second-level cache, MiB; 0: not told
    link_gb_per_s: PositiveFloat  # GPU to GPU, both directions, 1e9 bytes/s
    source: str
    printed: tuple[str, ...] = ()  # names that nvidia-smi (rocm-smi) prints
    labels: tuple[str, ...] = ()  # of nodes in Kubernetes, as GKE calls them (cloud.google.com/gke-accelerator)

    @property
    def memory_bytes_per_s(self) -> float:
        """Peak of the memory."""
        return self.memory_gb_per_s * 1e9

    @property
    def flops(self) -> float:
        """Peak of the tensor cores, floating-point operations per second."""
        return self.tflops * 1e12

    @property
    def has_nvlink(self) -> bool:
        """Whether GPUs of the kind talk to each other faster than PCIe lets them."""
        return self.link_gb_per_s > 128


@lru_cache(maxsize=1)
def _table() -> dict[str, Gpu]:
    return {name: Gpu(name=name, **row) for name, row in read_yaml_table("loratwin.perf.tables", "gpus.yaml").items()}


def gpu_names() -> list[str]:
    """Names of the GPUs in the table."""
    return sorted(_table())


@lru_cache(maxsize=1)
def _by_any_name() -> dict[str, str]:
    """Names of the table by the names that somebody may call them, in small letters and without blanks."""
    return {_plain(spelling): name for name, gpu in _table().items() for spelling in (name, *gpu.printed)}


@lru_cache(maxsize=1)
def _by_label() -> dict[str, str]:
    """Names of the table by labels, taken whole: GKE's nvidia-h100-80gb is SXM, another H100 of 80 GB may not be."""
    return {label: name for name, gpu in _table().items() for label in gpu.labels}


def _plain(name: str) -> str:
    words = [word for word in re.split(r"[\s_-]+", name.lower()) if word not in _MAKERS]
    return "".join(words)


_MAKERS = ("", "nvidia", "geforce", "tesla", "amd", "instinct", "generation", "blackwell")
"""Words that tell no GPU from another."""


def find_gpu(name: str, memory_gib: float | None = None) -> Gpu:
    """A GPU of the table.

    Parameters
    ----------
    name
        Of the table, or as nvidia-smi prints it: "NVIDIA H100 80GB HBM3", "NVIDIA GeForce RTX 4090"; or as GKE labels
        its nodes: "nvidia-h100-80gb".
    memory_gib
        What the driver shows of its memory, where that is known.

    Raises
    ------
    InputError
        It is not there; the names that are there are listed, only those of its kind if it is one, as h100. Or it is no
        memory.
    """
    table_name = _by_label().get(name.lower().strip()) or _by_any_name().get(_plain(name))
    if table_name is None:
        of_kind = [known for known in gpu_names() if _plain(known).startswith(_plain(name))]
        raise UnknownNameError("GPU", name.lower(), of_kind or gpu_names())
    return with_memory(_table()[table_name], memory_gib)


def with_memory(gpu: Gpu, memory_gib: float | None) -> Gpu:
    """The GPU with so much memory as its driver shows; None: what the table says.

    Raises
    ------
    InputError
        It is no amount of memory.
    """
    if memory_gib is None:
        return gpu
    if not 1 <= memory_gib <= MOST_GIB:
        raise InputError(f"GPU memory = {memory_gib:g} GiB: it must be 1 to {MOST_GIB}")
    return gpu.model_copy(update={"memory_gib": memory_gib, "memory_error_gib": TOLD_ERROR_GIB})
