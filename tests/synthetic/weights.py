"""Read safetensors files with the library of that name, as float32."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import safetensors
from numpy.typing import NDArray

KINDS = {"BF16": "<u2", "F16": "<f2", "F32": "<f4"}


def read(path: Path) -> dict[str, NDArray[np.float32]]:
    """All tensors of a file."""
    deserialize: Any = safetensors.deserialize  # its stub says nothing of what it takes
    return {name: as_float32(tensor) for name, tensor in deserialize(path.read_bytes())}


def as_float32(tensor: dict[str, Any]) -> NDArray[np.float32]:
    """The numbers that the bytes mean."""
    raw = np.frombuffer(tensor["data"], KINDS[tensor["dtype"]])
    if tensor["dtype"] == "BF16":
        raw = (raw.astype(np.uint32) << 16).view(np.float32)
    return np.asarray(raw.astype(np.float32).reshape(tensor["shape"]))
