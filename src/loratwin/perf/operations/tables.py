"""The measured operations of a GPU, or of the one that is most like it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from importlib.resources import files
from math import hypot, log
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.perf.gpus import Gpu, find_gpu
from loratwin.perf.operations.attention import ContextAttention, DecodeAttention
from loratwin.perf.operations.experts import MEASURED_AS, SPEED, Experts
from loratwin.perf.operations.latent import STEP as LATENT_STEP
from loratwin.perf.operations.latent import UNIT_S, LatentAttention, LatentDecode
from loratwin.perf.operations.products import STEP, Products
from loratwin.perf.operations.states import LinearAttention

F8 = NDArray[np.float64]

_GRAPHICS = re.compile(r"rtx|gtx|l\d|a10g?$|a16$|a40$|a[2-6]000|t4$|gb10")
"""GPUs whose memory is no HBM."""

_WITHOUT_ECC = re.compile(r"rtx-[2-5]0[5-9]0(-|$)")
"""GeForce, whose memory has no error correction. With it L40S reaches 0.83 of its bandwidth; RTX PRO 6000, whose chips
correct by themselves, 0.93."""


_TILES_QUERIES = re.compile(r"a\d|l\d|rtx")
"""GPUs whose attention is FlashAttention 2 in vLLM: neither Hopper (version 3) nor Blackwell of data centres
(FlashInfer, which computes decode requests apart); `fa_utils.py` and `platforms/cuda.py`, 0.11 to 0.33. They have
Triton's kernel for latent attention, too."""


class Operations(NamedTuple):
    """What single operations take on a GPU."""

    gpu: Gpu
    like: str  # the GPU that they were measured on
    products: Mapping[str, Products]  # by type of numbers
    decode: Mapping[str, DecodeAttention]  # by type of numbers, head size, and whether heads share keys
    context: Mapping[str, ContextAttention]  # by type of numbers and head size
    all_reduces: Mapping[int, tuple[F8, F8]]  # by number of GPUs: elements, seconds
    experts: Mapping[str, Experts]  # by type of numbers
    linear: LinearAttention
    latent: LatentAttention

    @property
    def measured(self) -> bool:
        """Whether they were measured on this very GPU."""
        return self.like == self.gpu.name

    @property
    def peaks(self) -> tuple[float, float]:
        """Of the memory, bytes/s, and operations/s with 16 bits."""
        return self.gpu.memory_bytes_per_s, self.gpu.flops

    @property
    def tiles_queries(self) -> bool:
        """Whether a decode request beside a prompt is computed as a whole tile of queries (`step.mixed_context_s`)."""
        return bool(_TILES_QUERIES.match(self.gpu.name))

    def product_s(self, numbers: str, bits: float, m: F8, n: int, k: int) -> F8:
        """Seconds of a product of matrices; types of numbers without a table compute in 16 bits.

        Parameters
        ----------
        numbers, bits
            What weights are kept in (`loratwin.llms.numbers`), and bits of one, scales included.
        m
            Tokens, shape (sizes,).
        """
        kind = _PRODUCTS.get(numbers, "")
        table = self.products.get(kind) or self.products["bfloat16"]
        weight_bits = bits if table.kind == "bfloat16" and kind != "bfloat16" else 0.0
        return table.time_s(self.gpu.memory_bytes_per_s, self.gpu.flops, m, n, k, weight_bits)

    def knows(self, numbers: str) -> bool:
        """Whether products with such weights were measured."""
        return _PRODUCTS.get(numbers, "") in self.products

    def experts_s(self, numbers: str, num_bytes: F8, operations: F8) -> F8:
        """Seconds of one layer of experts that reads so many bytes of weights and computes so many operations."""
        wanted = "int4_wo" if numbers.startswith("int4") else MEASURED_AS.get(numbers, "")
        kind = wanted if wanted in self.experts else "bfloat16"
        speed = self.gpu.flops * SPEED[kind]
        return self.experts[kind].time_s(num_bytes, operations, self.gpu.memory_bytes_per_s, speed)

    def decode_attention(self, head_size: int, group: float, number_bytes: float = 2) -> DecodeAttention:
        """Of heads of this size, or the nearest measured, `group` of which share keys."""
        sharing = "shared" if group > 1 else "own"
        return self.decode[_nearest(self.decode, number_bytes, head_size, f"/{sharing}")]

    def context_attention(self, head_size: int, number_bytes: float = 2) -> ContextAttention:
        """The same for prompts."""
        return self.context[_nearest(self.context, number_bytes, head_size, "")]

    def all_reduce_s(self, gpus: int, elements: F8) -> F8:
        """Seconds of an all-reduce of so many numbers of 16 bits on each GPU, shape of `elements`.

        Between and beyond the measured numbers of GPUs the nearest is taken; beyond the largest message, time is in
        proportion.
        """
        if gpus == 1:
            return np.zeros_like(elements, float)
        sizes, seconds = self.all_reduces[min(self.all_reduces, key=lambda count: abs(log(count / gpus)))]
        within = np.exp(np.interp(np.log(np.maximum(elements, 1.0)), np.log(sizes), np.log(seconds)))
        beyond = np.maximum(elements / sizes[-1], 1.0)
        return np.asarray(within * beyond)


_PRODUCTS = {name: kind for name, kind in MEASURED_AS.items() if kind != "w4a16_mxfp4"} | {"fp8-block": "fp8"}
"""Types of numbers of weights -> those that single products were measured with.

FP8 in blocks is taken as FP8 with one scale: in graphs, as modules of latent attention were measured, both take as
long. Alone, blocks were measured as the host launches them, 60 to 330 us each, so that no table is made of them.
"""


def _nearest(known: Mapping[str, Any], number_bytes: float, head_size: int, ending: str) -> str:
    wanted = "fp8" if number_bytes < 2 else "bfloat16"
    names = [name for name in known if name.endswith(ending) and name.startswith(wanted)]
    names = names or [name for name in known if name.endswith(ending)]
    return min(names, key=lambda name: abs(log(int(name.split("/")[1]) / head_size)))


@lru_cache(maxsize=64)
def operations_of(gpu: Gpu) -> Operations:
    """The tables of a GPU; without any, those of the GPU whose peaks are nearest, to be scaled by the peaks."""
    known = _described()
    like = _like(gpu, known)
    table = known[like]
    return Operations(
        gpu=gpu,
        like=like,
        products={kind: _products(like, kind, measured) for kind, measured in table["products"].items()},
        decode={
            name: DecodeAttention(**{**measured, "floor_s": tuple(measured["floor_s"])})
            for name, measured in table["decode"].items()
        },
        context={
            name: ContextAttention(**measured).on(gpu.flops, table["flops"])
            for name, measured in table["context"].items()
        },
        all_reduces=_all_reduces(known, gpu, like),
        experts={kind: Experts(**measured) for kind, measured in table["experts"].items()},
        linear=_linear(known, gpu, like),
        latent=_latent(_latent_like(known, gpu, like)),
    )


def _like(gpu: Gpu, known: Mapping[str, Any]) -> str:
    """The GPU whose tables are taken: itself, or the one whose peaks are nearest."""
    if gpu.name in known:
        return gpu.name
    if _WITHOUT_ECC.match(gpu.name):
        return "rtx-pro-6000-server"
    alike = [name for name in known if bool(_GRAPHICS.match(name)) == bool(_GRAPHICS.match(gpu.name))]
    return min(alike, key=lambda name: _distance(gpu, known[name]))


def _distance(gpu: Gpu, table: Mapping[str, Any]) -> float:
    return hypot(log(gpu.memory_bytes_per_s / table["memory_bytes_per_s"]), log(gpu.flops / table["flops"]))


def _products(like: str, kind: str, measured: Mapping[str, Any]) -> Products:
    table = _described()[like]
    over = _codes()[f"{like}/{kind}"].astype(np.float64) * STEP
    return Products(
        kind, over, table["memory_bytes_per_s"], table["flops"], measured["memory_share"], measured["error"]
    )


def _linear(known: Mapping[str, Any], gpu: Gpu, like: str) -> LinearAttention:
    """Of the GPU it is like, or of H100 where that was not measured, in proportion to the memory's speed."""
    source = like if known[like]["linear"] else "h100-sxm"
    slower = known[source]["memory_bytes_per_s"] / gpu.memory_bytes_per_s
    return LinearAttention(**known[source]["linear"]).scaled(slower)


def _latent_like(known: Mapping[str, Any], gpu: Gpu, like: str) -> str:
    """The GPU whose latent attention is taken: of those with tables the nearest that runs the same kernels."""
    if known[like]["latent"]:
        return like
    alike = bool(_TILES_QUERIES.match(gpu.name))
    measured = [name for name in known if known[name]["latent"] and bool(_TILES_QUERIES.match(name)) == alike]
    return min(measured, key=lambda name: _distance(gpu, known[name]))


@lru_cache(maxsize=16)
def _latent(name: str) -> LatentAttention:
    table = _described()[name]
    codes = {key.split("/")[1]: code for key, code in _latent_codes().items() if key.startswith(f"{name}/")}
    decode = {
        kind: LatentDecode(code.astype(np.float64) * LATENT_STEP + log(UNIT_S), 1 if kind == "fp8" else 2)
        for kind, code in codes.items()
    }
    return LatentAttention(name, decode, table["memory_bytes_per_s"], table["flops"], **table["latent"])


def _all_reduces(known: Mapping[str, Any], gpu: Gpu, like: str) -> dict[int, tuple[F8, F8]]:
    """Of the GPU, or of one with the same kind of link."""
    nvlink = find_gpu(like).has_nvlink
    source = like if gpu.has_nvlink == nvlink else ("h100-sxm" if gpu.has_nvlink else "l40s")
    table = known[source]["all_reduce"]
    elements = np.array(table["elements"], float)
    return {int(gpus): (elements, np.array(table[gpus])) for gpus in table if gpus != "elements"}


@lru_cache(maxsize=1)
def _described() -> dict[str, Any]:
    tables: dict[str, Any] = json.loads(_folder().joinpath("operations.json").read_text())
    return tables


@lru_cache(maxsize=1)
def _codes() -> Mapping[str, NDArray[np.uint8]]:
    with _folder().joinpath("products.npz").open("rb") as file:
        return dict(np.load(file))


@lru_cache(maxsize=1)
def _latent_codes() -> Mapping[str, NDArray[np.uint8]]:
    with _folder().joinpath("latent.npz").open("rb") as file:
        return dict(np.load(file))


def _folder() -> Any:
    return files("loratwin.perf.operations").joinpath("tables")
