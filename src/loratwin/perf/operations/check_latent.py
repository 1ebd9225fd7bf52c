"""How far latent attention is off what was not used: `python -m loratwin.perf.operations.check_latent DATA`.

DATA is the folder that `build` takes. Whole modules are predicted, products included, and compared by regime:

- `between`: decode, at requests and contexts whose neighbours alone are known, and prompts of every second length;
- `other weights`: modules of FP8 in blocks or NVFP4, of whose latencies nothing was used;
- `other GPU`: decode by another GPU's table, scaled by the peaks.

Left out are modules that the second-level cache holds, which no server sees, and fewer than 8 heads.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from loratwin.extras import required
from loratwin.formatting import aligned
from loratwin.perf.gpus import find_gpu
from loratwin.perf.operations.build import LATENT, SOURCES
from loratwin.perf.operations.build_latent import (
    F8,
    LEAST_TOKENS,
    Frame,
    fit_prompts,
    module_bytes,
    projections_s,
    prompt_work,
)
from loratwin.perf.operations.latent import CONTEXTS, MEASURED, REQUESTS, LatentAttention, LatentDecode
from loratwin.perf.operations.tables import Operations, operations_of

LEAST_HEADS = 8
FEW, MANY = 8, 128
"""Requests up to the first, and beyond the second, are regimes of their own."""

SHORT = 1024
"""Tokens: contexts, or lengths of prompts, up to here are a regime of their own."""

WEIGHTS = {"fp8_block": "fp8", "nvfp4": "nvfp4"}
"""Measured type of the module's weights -> the table of products that steps take (`tables._PRODUCTS`)."""

ALIKE = {"h200": "h100-sxm", "h100-sxm": "h200", "gb200": "b300", "b300": "gb300", "b200": "b300",
         "rtx-pro-6000-server": "l40s", "l40s": "rtx-pro-6000-server"}  # fmt: skip
"""GPU -> the one whose table predicts it, as if it had none."""


class Errors(NamedTuple):
    """Of one kind of prediction in one regime: log(predicted / measured)."""

    gpu: str
    what: str
    regime: str
    rows: int
    mean: float  # of the absolute values
    bias: float
    worst: float


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the parquet files")
    cells = [
        [each.gpu, each.what, each.regime, str(each.rows), f"{each.mean:.1%}", f"{each.bias:+.1%}", f"{each.worst:.0%}"]
        for each in latent_errors(parser.parse_args().data)
    ]
    print(aligned([["GPU", "predicted", "regime", "rows", "mean", "bias", "worst"], *cells], left=3, width=120))


def latent_errors(data: Path) -> list[Errors]:
    """Of all GPUs with such tables, by what was predicted and regime."""
    pandas = required("pandas", "the check", "dev")
    frames = [pandas.read_parquet(data / f"{name}.parquet") for name in LATENT]
    known = [name for name in SOURCES if operations_of(find_gpu(name)).latent.like == name]
    return [
        errors
        for name in known
        for errors in _of_gpu(name, *(frame[frame.gpu == SOURCES[name].name] for frame in frames))
    ]


def _of_gpu(name: str, decode: Frame, prompts: Frame) -> Iterator[Errors]:
    operations, cache = operations_of(find_gpu(name)), SOURCES[name].cache_bytes
    decode, prompts = (frame[frame.num_heads >= LEAST_HEADS] for frame in (decode, prompts))
    plain = decode[(decode.gemm_type == "bfloat16") & (_read_bytes(decode) > cache)]
    latent = operations.latent
    thin = latent._replace(decode={kind: _thinned(table) for kind, table in latent.decode.items()})
    omitted = plain.batch_size.isin(REQUESTS[1:-1:2]) | plain.step.isin(CONTEXTS[2:-1:2])
    yield from _decode_errors(operations, "between", thin, plain[omitted])
    for weights, kind in WEIGHTS.items():
        if kind in operations.products:
            other = decode[(decode.gemm_type == weights) & (_read_bytes(decode) > 2 * cache)]
            yield from _decode_errors(operations, f"other weights, {weights}", latent, other, kind)
    if name in ALIKE:
        other_gpu = operations_of(find_gpu(ALIKE[name])).latent
        yield from _decode_errors(operations, f"other GPU, {ALIKE[name]}", other_gpu, plain)
    yield from _prompt_errors(operations, prompts)


def _read_bytes(rows: Frame) -> F8:
    """Of a decode module: weights of 16 bits and the KV cache, the least that it reads."""
    number = np.where(rows.kv_cache_dtype == "fp8", 1, 2)
    cached = rows.batch_size * rows.step * MEASURED.entry * number
    return np.asarray(module_bytes(rows.num_heads.to_numpy(float)) + cached)


def _thinned(table: LatentDecode) -> LatentDecode:
    """The table as it would be with every second of its requests and contexts."""
    log_s = table.log_s.copy()
    log_s[:, 1:-1:2] = (log_s[:, :-2:2] + log_s[:, 2::2]) / 2
    log_s[:, :, 2:-1:2] = (log_s[:, :, 1:-2:2] + log_s[:, :, 3::2]) / 2
    return table._replace(log_s=log_s)


def _decode_errors(
    operations: Operations, what: str, latent: LatentAttention, rows: Frame, kind: str = "bfloat16"
) -> Iterator[Errors]:
    heads, requests, context = (rows[name].to_numpy(float) for name in ("num_heads", "batch_size", "step"))
    told = projections_s(operations.products[kind], heads, requests)
    for count in np.unique(heads):
        for number_bytes, cache in ((2, "bfloat16"), (1, "fp8")):
            there = (heads == count) & (rows.kv_cache_dtype == cache).to_numpy()
            told[there] += latent.decode_s(
                int(count), requests[there], context[there], number_bytes, MEASURED, operations.peaks
            )
    batches = {f"{FEW} requests or fewer": requests <= FEW, f"{FEW} to {MANY}": (requests > FEW) & (requests <= MANY),
               f"more than {MANY}": requests > MANY}  # fmt: skip
    contexts = {f"{SHORT} tokens": context <= SHORT, "more": context > SHORT}
    regimes = {f"{b}, {c}": few & short for b, few in batches.items() for c, short in contexts.items()}
    yield from _by_regime(operations.gpu.name, f"decode, {what}", regimes, told, rows)


def _prompt_errors(operations: Operations, prompts: Frame) -> Iterator[Errors]:
    rows = prompts[(prompts.isl >= LEAST_TOKENS) & (prompts.mla_dtype == "bfloat16")]
    lengths = np.sort(rows.isl.unique())
    half = fit_prompts(operations.products["bfloat16"], rows[rows.isl.isin(lengths[::2])])
    halved = operations.latent._replace(
        launch_s=half["launch_s"], token_s=half["token_s"], row_s=half["row_s"], share=half["share"]
    )
    plain = rows[(rows.gemm_type == "bfloat16") & rows.isl.isin(lengths[1::2])]
    yield from _of_prompts(operations, "between", halved, plain, "bfloat16")
    for weights, kind in WEIGHTS.items():
        if kind in operations.products:
            other = rows[rows.gemm_type == weights]
            yield from _of_prompts(operations, f"other weights, {weights}", operations.latent, other, kind)


def _of_prompts(operations: Operations, what: str, latent: LatentAttention, rows: Frame, kind: str) -> Iterator[Errors]:
    heads, tokens, pairs = prompt_work(rows)
    told = projections_s(operations.products[kind], heads, tokens)
    for count in np.unique(heads):
        there = heads == count
        none = np.zeros(int(there.sum()))
        told[there] += latent.prompt_s(int(count), tokens[there], pairs[there], none, MEASURED, operations.peaks)
    length = rows.isl.to_numpy(float)
    regimes = {f"prompts of {SHORT} tokens": length <= SHORT, "longer": length > SHORT}
    yield from _by_regime(operations.gpu.name, f"prompts, {what}", regimes, told, rows)


def _by_regime(gpu: str, what: str, regimes: dict[str, Any], told: F8, rows: Frame) -> Iterator[Errors]:
    error = np.log(told / (rows.latency.to_numpy(float) * 1e-3))
    for regime, there in regimes.items():
        if there.any():
            of = error[there]
            yield Errors(gpu, what, regime, len(of), *map(float, (abs(of).mean(), of.mean(), abs(of).max())))


if __name__ == "__main__":
    main()
