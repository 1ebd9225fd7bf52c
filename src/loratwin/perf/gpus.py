"""GPUs by their data sheets: what a profile without measurement starts from (tables/gpus.yaml)."""

from __future__ import annotations

from functools import lru_cache

from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt

from loratwin.errors import UnknownNameError
from loratwin.tables import read_yaml_table


class Gpu(BaseModel):
    """One GPU; peak figures, of which a real program reaches a part."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    name: str
    memory_gib: PositiveFloat  # as CUDA shows it, GiB
    memory_gb_per_s: PositiveFloat  # 1e9 bytes/s
    tflops: PositiveFloat  # dense bf16, 1e12 floating-point operations/s
    sms: PositiveInt  # streaming multiprocessors (compute units of AMD)
    link_gb_per_s: PositiveFloat  # GPU to GPU, both directions, 1e9 bytes/s
    source: str

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


def find_gpu(name: str) -> Gpu:
    """A GPU of the table.

    Raises
    ------
    UnknownNameError
        It is not there; the names that are there are listed, only those of its kind if it is one, as h100.
    """
    wanted = name.lower()
    if wanted not in _table():
        of_kind = [each for each in gpu_names() if each.startswith(f"{wanted}-")]
        raise UnknownNameError("GPU", wanted, of_kind or gpu_names())
    return _table()[wanted]
