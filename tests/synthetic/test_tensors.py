"""Random weights: what the library reads is what was asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loratwin.synthetic.tensors import DTYPE_BYTES, Dtype, Tensor, safetensors_file
from tests.synthetic.weights import read

TENSORS = {"a.weight": Tensor((64, 96), 0.1), "norm": Tensor((5,), 1.0, constant=True), "b": Tensor((33, 7), 3e-3)}


def made(tmp_path: Path, dtype: Dtype, seed: int = 0) -> dict[str, np.ndarray]:
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_file(TENSORS, dtype, np.random.default_rng(seed)))
    return read(path)


@pytest.mark.parametrize("dtype", DTYPE_BYTES)
def test_the_library_reads_the_shapes_and_the_sizes_asked_for(dtype: Dtype, tmp_path: Path) -> None:
    found = made(tmp_path, dtype)
    assert {name: values.shape for name, values in found.items()} == {name: t.shape for name, t in TENSORS.items()}
    assert np.array_equal(found["norm"], np.ones(5))
    for name in ("a.weight", "b"):
        size = np.sqrt(np.mean(found[name] ** 2))
        assert TENSORS[name].size / 1.5 < size < TENSORS[name].size * 1.5  # to the nearest power of two
        assert np.all(np.isfinite(found[name])) and np.all(found[name] != 0)
        assert abs(np.mean(found[name])) < 0.2 * size  # both signs


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_every_dtype_holds_the_same_numbers(dtype: Dtype, tmp_path: Path) -> None:
    other = made(tmp_path, dtype)
    for name, values in made(tmp_path, "bfloat16").items():
        assert np.array_equal(values, other[name])


def test_another_seed_gives_other_numbers(tmp_path: Path) -> None:
    assert np.mean(made(tmp_path, "bfloat16")["b"] == made(tmp_path, "bfloat16", seed=1)["b"]) < 0.1
