"""Distil measured modules of latent attention: what they take beyond their products of matrices.

Each call is a whole module of DeepSeek-V3 with its four projections. Those are taken as the table of products says, and
what is left goes into a table by heads, requests and context (decode), or is fitted by four coefficients (prompts).
Only modules with weights of 16 bits are used; those of 8 and 4 bits say whether the parting is right (`check`).

Some GPUs were measured with the weights of few heads still in the second-level cache, where the products' table reads
them from memory: what is left is then too little, even negative. There nothing is taken as less than COLD of what calls
with larger weights leave at the shortest contexts, in proportion to tokens and heads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from loratwin.perf.operations.latent import CONTEXTS, HEADS, MEASURED, REQUESTS, STEP, UNIT_S
from loratwin.perf.operations.products import Products

F8 = NDArray[np.float64]
Frame = Any

HIDDEN, QUERY_RANK = 7168, 1536
"""Of DeepSeek-V3: inputs of a layer, and of the projection that makes the queries."""

COLD = 0.8
"""What one head leaves of what 128 leave, one request, where calls were measured with an empty cache (H100, H200)."""

LEAST_TOKENS = 64
"""Of a prompt; shorter ones are computed as decode requests are."""

_UNROTATED = MEASURED.key - (MEASURED.entry - MEASURED.latent)


def projections(heads: int) -> tuple[tuple[int, int], ...]:
    """(outputs, inputs) of the module's products; absorbed, the third is two halves of as many weights."""
    return (
        (QUERY_RANK + MEASURED.entry, HIDDEN),
        (heads * MEASURED.key, QUERY_RANK),
        (heads * (_UNROTATED + MEASURED.value), MEASURED.latent),
        (HIDDEN, heads * MEASURED.value),
    )


def projections_s(products: Products, heads: F8, tokens: F8) -> F8:
    """Seconds of the products of modules, arrays of one shape."""
    total = np.zeros(len(heads))
    for count in np.unique(heads):
        there = heads == count
        sizes, back = np.unique(tokens[there], return_inverse=True)
        each = (products.time_s(products.bytes_per_s, products.flops, sizes, n, k) for n, k in projections(int(count)))
        total[there] = sum(each)[back]  # type: ignore[index]
    return total


def latent_tables(
    cache_bytes: float, products: Products, decode: Frame, prompts: Frame
) -> tuple[dict[str, NDArray[np.uint8]], dict[str, float] | None]:
    """Codes of decode by type of numbers of the KV cache, and coefficients; of a GPU without such calls, nothing.

    Parameters
    ----------
    cache_bytes
        Of the second-level cache.
    products
        The GPU's table for 16 bits.
    decode, prompts
        Measured calls of this GPU.
    """
    plain = decode[decode.gemm_type == "bfloat16"]
    whole = {
        str(kind): rows for kind, rows in plain.groupby("kv_cache_dtype") if rows.num_heads.nunique() == len(HEADS)
    }
    if not whole:
        return {}, None
    tables = {kind: decode_table(cache_bytes, products, rows) for kind, rows in whole.items()}
    codes = {kind: np.round((table - np.log(UNIT_S)) / STEP) for kind, table in tables.items()}
    described = fit_prompts(products, prompts) | {"decode_error": max(map(_error_between, tables.values()))}
    return {kind: np.clip(code, 0, 255).astype(np.uint8) for kind, code in codes.items()}, described


def decode_table(cache_bytes: float, products: Products, rows: Frame) -> F8:
    """Logarithms of the seconds beyond the products, (heads, requests, contexts)."""
    heads, requests, context = (rows[name].to_numpy(float) for name in ("num_heads", "batch_size", "step"))
    seconds = rows.latency.to_numpy(float) * 1e-3
    beyond = seconds - projections_s(products, heads, requests)
    short = context <= CONTEXTS[0]
    least = COLD * _short_s(beyond, heads, requests, short & (module_bytes(heads) > 1.5 * cache_bytes))
    table = np.full((len(HEADS), len(REQUESTS), len(CONTEXTS)), np.nan)
    for i, head in enumerate(HEADS):
        for j, count in enumerate(REQUESTS):
            here = (heads == head) & (requests == count)
            for k, tokens in enumerate(CONTEXTS):
                there = here & (short if k == 0 else context == tokens)
                if there.any():
                    table[i, j, k] = np.median(np.maximum(beyond, least)[there])
    return np.log(_continued(table))


def module_bytes(heads: F8) -> F8:
    """Of weights of 16 bits of modules with so many heads."""
    shared, *each = (2 * n * k for n, k in projections(1))
    return np.asarray(shared + heads * sum(each))


def _short_s(beyond: F8, heads: F8, requests: F8, cold: NDArray[np.bool_]) -> F8:
    """A launch, and a time for each request and head, fitted to calls that read little of the KV cache."""
    from scipy.optimize import least_squares

    def told(p: F8, rows: F8) -> F8:
        return np.asarray(np.exp(p[0]) + np.exp(p[1]) * rows)

    rows, positive = heads * requests, cold & (beyond > 0)
    fit = least_squares(
        lambda p: np.log(told(p, rows[positive]) / beyond[positive]), np.log([4e-5, 3e-9]), loss="soft_l1", f_scale=0.1
    )
    return told(fit.x, rows)


def _continued(table: F8) -> F8:
    """Contexts that did not fit the memory: in proportion to the longest that did."""
    for k in range(1, table.shape[2]):
        absent = np.isnan(table[:, :, k])
        table[:, :, k][absent] = table[:, :, k - 1][absent] * CONTEXTS[k] / CONTEXTS[k - 1]
    return table


def _error_between(table: F8) -> float:
    """Standard deviation of the log error at knots of requests and context when told by their neighbours."""
    along = table[:, 1:-1] - (table[:, :-2] + table[:, 2:]) / 2
    across = table[:, :, 2:-1] - (table[:, :, 1:-2] + table[:, :, 3:]) / 2  # the first two are no octave apart
    return float(np.sqrt((np.mean(along**2) + np.mean(across**2)) / 2))


def fit_prompts(products: Products, frame: Frame) -> dict[str, float]:
    """Coefficients of prompts, and their mean error for whole modules."""
    from scipy.optimize import least_squares

    plain = (frame.gemm_type == "bfloat16") & (frame.kv_cache_dtype == "bfloat16") & (frame.mla_dtype == "bfloat16")
    rows = frame[plain & (frame.isl >= LEAST_TOKENS)]
    heads, tokens, pairs = prompt_work(rows)
    seconds, inside = rows.latency.to_numpy(float) * 1e-3, projections_s(products, heads, tokens)
    size = MEASURED.key + MEASURED.value

    def off(p: F8) -> F8:
        launch, token, row, share = np.exp(p)
        beyond = launch + tokens * (token + row * heads) + 2 * size * heads * pairs / (share * products.flops)
        return np.asarray(np.log((inside + beyond) / seconds))

    start, ends = np.log([4e-5, 1e-8, 1e-9, 0.5]), np.log([[1e-6, 1e-12, 1e-12, 0.1], [1e-3, 1e-6, 1e-6, 0.95]])
    fit = least_squares(off, start, bounds=ends, loss="soft_l1", f_scale=0.1)
    names = ("launch_s", "token_s", "row_s", "share", "prompt_error")
    return dict(zip(names, [*map(float, np.exp(fit.x)), float(np.mean(np.abs(off(fit.x))))], strict=True))


def prompt_work(rows: Frame) -> tuple[F8, F8, F8]:
    """Heads, tokens and pairs of a token and one before it, of measured prompts."""
    heads, length = rows.num_heads.to_numpy(float), rows.isl.to_numpy(float)
    tokens = rows.batch_size.to_numpy(float) * length
    return heads, tokens, tokens * length / 2
