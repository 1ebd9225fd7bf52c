"""Distil measured operations into the tables that ship: `python -m loratwin.perf.operations.build DATA [-o FOLDER]`.

DATA is a folder of parquet files, one row for each measured call: `gemm`, `generation_attention`,
`context_attention`, `custom_allreduce`, `moe`, `gdn`, `mla_generation_module`, `mla_context_module` (NVIDIA
AIConfigurator, Apache-2.0). Needs pandas, pyarrow and scipy; the same files give the same tables.

Calls were measured again and again on the same operands: what fits into the GPU's second-level cache was read from
there, which no server does, since a layer comes back only after all others. So products of matrices are never taken as
faster than the memory, and attention is fitted where keys and values are twice the cache or more.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.extras import required
from loratwin.perf.gpus import Gpu, find_gpu
from loratwin.perf.operations.attention import ContextAttention, DecodeAttention, key_value_bytes
from loratwin.perf.operations.build_latent import latent_tables
from loratwin.perf.operations.experts import BITS, SPEED, Experts, touched
from loratwin.perf.operations.products import KINDS, STEP, K, M, N, Products, product_bound_s, weight_bits
from loratwin.perf.operations.states import LinearAttention

F8 = NDArray[np.float64]
Frame = Any


class MeasuredGpu(NamedTuple):
    """A GPU as the files name it."""

    name: str
    cache_bytes: float  # second-level cache, data sheets and architecture papers


SOURCES = {
    "a100-80gb": MeasuredGpu("a100_sxm", 40e6),
    "h100-sxm": MeasuredGpu("h100_sxm", 50e6),
    "h200": MeasuredGpu("h200_sxm", 50e6),
    "b200": MeasuredGpu("b200_sxm", 126e6),
    "b300": MeasuredGpu("b300_sxm", 126e6),
    "gb200": MeasuredGpu("gb200", 126e6),
    "gb300": MeasuredGpu("gb300", 126e6),
    "l40s": MeasuredGpu("l40s", 96e6),
    "rtx-pro-6000-server": MeasuredGpu("rtx_pro_6000_server", 128e6),
}
"""By the twin's names."""

SMOOTH, SMOOTH_SMALL = 0.25, 1.0
"""Octaves of tokens over which is averaged, as a standard deviation: over waves of blocks, and up to SMALL tokens,
where all take the time to read the weights, over the kernels that the library happens to choose."""

SMALL = 16

FEW_TOKENS, MANY_TILES = 16, 2048
"""Tokens of the shortest measured prompts, each within one tile of each head, and how many of these fill a GPU."""

LATENT = ("mla_generation_module", "mla_context_module")

LARGE_BYTES = 4
"""Times the cache that a matrix takes from which on it tells the memory's share."""


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path, help="folder of the parquet files")
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parent / "tables", help="folder to write")
    given = parser.parse_args()
    build(given.data, given.output)


def build(data: Path, out: Path) -> None:
    """Write `operations.json`, `products.npz` and `latent.npz` from the files of a folder."""
    pandas = required("pandas", "the build", "dev")
    files = ("gemm", "context_attention", "generation_attention", "custom_allreduce", "moe", "gdn")
    frames = [pandas.read_parquet(data / f"{name}.parquet") for name in (*files, *LATENT)]
    codes: dict[str, NDArray[np.uint8]] = {}
    latent_codes: dict[str, NDArray[np.uint8]] = {}
    gpus = {}
    for name, source in SOURCES.items():
        gpu = find_gpu(name)
        one = [frame[frame.gpu == source.name] for frame in frames]
        tables, described = _products(gpu, source, one[0])
        codes |= {f"{name}/{kind}": table for kind, table in tables.items()}
        plain = products_of(gpu, "bfloat16", tables["bfloat16"], described["bfloat16"])
        decode, latent = latent_tables(source.cache_bytes, plain, one[6], one[7])
        latent_codes |= {f"{name}/{kind}": table for kind, table in decode.items()}
        gpus[name] = {
            "measured_as": source.name,
            "engines": sorted({str(version) for frame in one for version in frame.engine_version}),
            "memory_bytes_per_s": gpu.memory_bytes_per_s,
            "flops": gpu.flops,
            "products": described,
            "decode": dict(_decode(gpu, source, one[2])),
            "context": dict(_context(gpu, one[1])),
            "all_reduce": _all_reduce(one[3]),
            "experts": dict(_experts(gpu, one[4])),
            "linear": _linear(gpu, one[5]),
            "latent": latent,
        }
    out.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(out / "products.npz", **codes)  # type: ignore[arg-type]
    np.savez_compressed(out / "latent.npz", **latent_codes)  # type: ignore[arg-type]
    (out / "operations.json").write_text(json.dumps(_rounded(gpus), indent=1) + "\n")


def products_of(gpu: Gpu, kind: str, codes: NDArray[np.uint8], described: dict[str, float]) -> Products:
    """A table as it ships."""
    return Products(kind, codes * STEP, gpu.memory_bytes_per_s, gpu.flops, **described)


def _rounded(value: Any) -> Any:
    """Floats to four digits."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {key: _rounded(number) for key, number in value.items()}
    return [_rounded(number) for number in value] if isinstance(value, list | tuple) else value


def _products(gpu: Gpu, source: MeasuredGpu, frame: Frame) -> tuple[dict[str, NDArray[np.uint8]], dict[str, Any]]:
    """Codes by type of numbers, and what is said of each: the memory's share, the error between the knots."""
    tables, described = {}, {}
    for kind, rows in frame.groupby("gemm_dtype"):
        if kind not in KINDS or len(rows) < 5000:  # of one or two sizes only
            continue
        grid, share = _grid(gpu, source, str(kind), rows)
        tables[str(kind)] = np.clip(np.round(grid / STEP), 0, 255).astype(np.uint8)
        described[str(kind)] = {"memory_share": share, "error": _error_between(grid)}
    return tables, described


def _grid(gpu: Gpu, source: MeasuredGpu, kind: str, rows: Frame) -> tuple[F8, float]:
    """Log of the time over the bound at M x N x K, waves averaged, and the share of the memory that weights reach."""
    m, n, k = (rows[name].to_numpy(float) for name in "mnk")
    seconds = rows.latency.to_numpy(float) * 1e-3
    weights_s = n * k * weight_bits(kind) / 8 / gpu.memory_bytes_per_s
    large = (n * k * weight_bits(kind) / 8 > LARGE_BYTES * source.cache_bytes) & (m <= 16)
    share = float(np.median(weights_s[large] / seconds[large]))
    seconds = np.maximum(seconds, weights_s / share)
    over = np.log(seconds / product_bound_s(gpu.memory_bytes_per_s, gpu.flops, kind, m, n, k))
    grid = np.full((len(M), len(N), len(K)), np.nan)
    for (each_n, each_k), part in _by_size(n, k):
        if each_n in N and each_k in K:
            grid[:, N.index(each_n), K.index(each_k)] = _smoothed(np.log2(m[part]), over[part])
    return _filled(grid), share


def _by_size(n: F8, k: F8) -> Iterator[tuple[tuple[int, int], NDArray[np.int64]]]:
    order = np.lexsort((k, n))
    edges = np.flatnonzero(np.diff(n[order]) + np.diff(k[order]) * 1e-6) + 1
    for part in np.split(order, edges):
        yield (int(n[part[0]]), int(k[part[0]])), part


def _smoothed(log_m: F8, values: F8) -> F8:
    """At the knots of M, averaged over their neighbours."""
    knots = np.log2(np.array(M, float))[:, None]
    few = (knots <= np.log2(SMALL)) & (log_m <= np.log2(SMALL))
    distance = (knots - log_m) / np.where(few, SMOOTH_SMALL, SMOOTH)
    weight = np.exp(-(distance**2) / 2)
    nearest = np.abs(distance).argmin(axis=1)
    weight[np.arange(len(M)), nearest] += 1e-9  # a knot far from all takes the nearest
    return np.asarray((weight * values).sum(axis=1) / weight.sum(axis=1))


def _filled(grid: F8) -> F8:
    """Sizes that were not measured take the nearest."""
    known = np.argwhere(~np.isnan(grid[0]))
    n, k = np.log2(np.array(N, float)), np.log2(np.array(K, float))
    for i, j in np.argwhere(np.isnan(grid[0])):
        nearest = known[np.argmin((n[known[:, 0]] - n[i]) ** 2 + (k[known[:, 1]] - k[j]) ** 2)]
        grid[:, i, j] = grid[:, nearest[0], nearest[1]]
    return grid


def _error_between(grid: F8) -> float:
    """Standard deviation of the log error at knots of n and k, of 1,024 or more, when told by their neighbours."""
    large = grid[:, N.index(1024) :, K.index(1024) :]
    along_n = large[:, 1:-1] - (large[:, :-2] + large[:, 2:]) / 2
    along_k = large[:, :, 1:-1] - (large[:, :, :-2] + large[:, :, 2:]) / 2
    return float(np.sqrt((np.mean(along_n**2) + np.mean(along_k**2)) / 2))


def _decode(gpu: Gpu, source: MeasuredGpu, frame: Frame) -> Iterator[tuple[str, Any]]:
    """Attention of decode steps by type of numbers, head size and whether heads share keys."""
    whole = frame[frame.window_size.fillna(0) == 0]
    for (kind, size), rows in whole.groupby(["kv_cache_dtype", "head_dim"]):
        group = rows.num_heads / rows.num_key_value_heads
        for name, part in (("own", rows[group == 1]), ("shared", rows[(group > 1) & (group <= 16)])):
            if len(part) >= 100:
                yield f"{kind}/{size}/{name}", _fit_decode(gpu, source, str(kind), int(size), part)


def _fit_decode(gpu: Gpu, source: MeasuredGpu, kind: str, size: int, rows: Frame) -> dict[str, Any]:
    from scipy.optimize import least_squares

    pairs = (rows.batch_size * rows.num_key_value_heads).to_numpy(float)
    context = (rows.isl + rows.step).to_numpy(float)
    seconds = rows.latency.to_numpy(float) * 1e-3
    octave = np.round(np.log2(pairs)).astype(int)
    short = context <= 32
    floor = tuple(float(np.median(seconds[short & (octave == power)])) for power in range(int(octave[short].max()) + 1))
    num_bytes = key_value_bytes(kind, size) * pairs * context
    cold = num_bytes > 2 * source.cache_bytes

    def off(p: F8) -> F8:
        model = DecodeAttention(floor, float(p[0]), float(p[1]))
        return np.asarray(np.log(model.time_s(pairs[cold], num_bytes[cold], gpu.memory_bytes_per_s) / seconds[cold]))

    fit = least_squares(off, [0.8, 1.4], bounds=([0.1, 1.0], [1.05, 6.0]), loss="soft_l1", f_scale=0.1)
    error = float(np.mean(np.abs(off(fit.x))))
    return DecodeAttention(floor, float(fit.x[0]), float(fit.x[1]), error)._asdict()


def _context(gpu: Gpu, frame: Frame) -> Iterator[tuple[str, Any]]:
    """Attention over prompts by type of numbers and head size."""
    whole = frame[(frame.window_size.fillna(0) == 0) & (frame.isl >= 16)]
    for (kind, size), rows in whole.groupby(["kv_cache_dtype", "head_dim"]):
        yield f"{kind}/{size}", _fit_context(gpu, int(size), rows)


def _fit_context(gpu: Gpu, size: int, rows: Frame) -> dict[str, Any]:
    from scipy.optimize import least_squares

    tokens = (rows.batch_size * rows.isl).to_numpy(float)
    heads, kv_heads = (rows[name].to_numpy(float) for name in ("num_heads", "num_key_value_heads"))
    pairs = tokens * rows.isl.to_numpy(float) / 2
    seconds = rows.latency.to_numpy(float) * 1e-3

    def model(p: F8) -> ContextAttention:
        return ContextAttention(*(float(coefficient) for coefficient in np.exp(p)))

    def off(p: F8) -> F8:
        return np.asarray(np.log(model(p).time_s(tokens, pairs, heads * size, kv_heads * size, gpu.flops) / seconds))

    fit = least_squares(off, np.log([1e-5, 1e-12, 1e-12, 0.5]), loss="soft_l1", f_scale=0.1)
    long = pairs * heads * size * 4 > 1e11
    tiles = rows.batch_size.to_numpy(float) * heads
    few = (rows.isl == FEW_TOKENS).to_numpy() & (heads > kv_heads) & (tiles >= MANY_TILES)
    tile_s = float(np.median(seconds[few] / tiles[few])) if few.any() else 0.0
    return model(fit.x)._replace(error=float(np.mean(np.abs(off(fit.x)[long]))), tile_s=tile_s)._asdict()


def _all_reduce(frame: Frame) -> dict[str, Any]:
    """Seconds by the number of GPUs and the logarithm of the elements, kernels in a graph."""
    table: dict[str, Any] = {}
    graph = frame[frame.backend == "vllm_graph"]
    for gpus, rows in graph.groupby("num_gpus"):
        ordered = rows.sort_values("message_size")
        table["elements"] = [int(size) for size in ordered.message_size]
        table[str(gpus)] = [float(latency_ms) * 1e-3 for latency_ms in ordered.latency]
    return table


def _experts(gpu: Gpu, frame: Frame) -> Iterator[tuple[str, Any]]:
    """Layers of gated experts, all on one GPU or each shared by up to eight; tokens go to some more than to others."""
    gated = ~((frame.topk == 22) | (frame.hidden_size == 2688))  # Nemotron's have no gate: two matrices, not three
    rows = frame[gated & (frame.moe_ep_size == 1) & (frame.moe_tp_size <= 8) & (frame.num_tokens <= 16384)]
    for kind, part in rows[rows.distribution == "power_law_1.01"].groupby("moe_dtype"):
        if kind in BITS and len(part) >= 50:
            yield str(kind), _fit_experts(gpu, str(kind), part)


def _fit_experts(gpu: Gpu, kind: str, rows: Frame) -> dict[str, Any]:
    from scipy.optimize import least_squares

    tokens, experts, used = (rows[name].to_numpy(float) for name in ("num_tokens", "num_experts", "topk"))
    weights = 3 * (rows.hidden_size * rows.inter_size / rows.moe_tp_size).to_numpy(float)  # of one expert
    num_bytes = touched(experts, used, tokens) * weights * BITS[kind] / 8
    operations = 2 * tokens * used * weights
    seconds = rows.latency.to_numpy(float) * 1e-3
    peaks = gpu.memory_bytes_per_s, gpu.flops * SPEED[kind]

    def off(p: F8) -> F8:
        return np.asarray(np.log(Experts(*np.exp(p)).time_s(num_bytes, operations, *peaks) / seconds))

    fit = least_squares(off, np.log([3e-5, 0.7, 0.4]), loss="soft_l1", f_scale=0.1)
    launch, memory, share = (float(coefficient) for coefficient in np.exp(fit.x))
    return Experts(launch, memory, share, float(np.mean(np.abs(off(fit.x)))))._asdict()


STATE_BYTES = 2 * 4 * 128 * 128
"""Read and written for each head of a request that decodes: a matrix of float32, where it is not in the cache."""


def _linear(gpu: Gpu, frame: Frame) -> dict[str, Any] | None:
    """Linear attention: the convolution and the delta rule of the same call, added; None where it was not measured."""
    if not len(frame):
        return None
    keys = ["phase", "batch_size", "seq_len", "num_tokens", "num_v_heads", "model_name"]
    whole = frame.groupby(keys).latency.sum().reset_index()
    decode, prompt = (whole[whole.phase == phase] for phase in ("generation", "context"))
    prompt = prompt[(prompt.batch_size == 1) & (prompt.seq_len >= 64)]
    one, heads, tokens = np.ones(len(prompt)), prompt.num_v_heads, prompt.num_tokens
    decoding, decode_error = _line(decode, [np.ones(len(decode)), decode.batch_size * decode.num_v_heads])
    prompting, prompt_error = _line(prompt, [one, tokens, tokens * heads])
    decoding[1] = max(decoding[1], STATE_BYTES / (0.85 * gpu.memory_bytes_per_s))
    coefficients = (*decoding, *prompting, max(decode_error, prompt_error))
    return dict(zip(LinearAttention._fields, coefficients, strict=True))


def _line(rows: Frame, factors: list[Any]) -> tuple[list[float], float]:
    """Seconds for each of the factors, nearest in the logarithm; the mean error."""
    from scipy.optimize import least_squares

    work, seconds = np.column_stack(factors).astype(float), rows.latency.to_numpy(float) * 1e-3

    def off(p: F8) -> F8:
        return np.asarray(np.log(work @ np.exp(p) / seconds))

    fit = least_squares(off, np.log([1e-5, *[1e-8] * (len(factors) - 1)]), loss="soft_l1", f_scale=0.1)
    return [float(value) for value in np.exp(fit.x)], float(np.mean(np.abs(off(fit.x))))


if __name__ == "__main__":
    main()
