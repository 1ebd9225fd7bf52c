"""The lengths of the ShareGPT requests, rescaled to a given mean.

All measured runs that the profiles were fitted on drew their requests from ShareGPT (its first two turns, after vLLM's
filter: prompt 4..1024 tokens, prompt and output together at most 2048). The counts are in ``data/sharegpt.json``.
"""

from __future__ import annotations

import json
import math
from functools import lru_cache
from importlib.resources import files
from typing import Any, Literal

import numpy as np
from pydantic import Field

from loratwin.traces import MAX_TOKENS
from loratwin.workload.arrays import F8, I4
from loratwin.workload.strict import Strict
from loratwin.workload.tables import (
    TABLE_SIZE,
    draw_indices,
    levels,
    normal_quantiles,
    scaled_to_mean,
    whole_tokens,
)

MAX_TOGETHER = 2048
"""Prompt and output tokens of a request of the original set, at most."""


CORRELATION = -0.36
"""Long prompts have short answers: a running request held 361 KV tokens on average in the open runs of both LLMs
(`kv_usage_mean x kv_tokens / running_mean` of `serving_*.csv`), where independent lengths would give 425. The two agree
at this correlation; `loratwin calibrate fit` prints the figures."""


class ShareGpt(Strict):
    """Prompts and outputs as in the ShareGPT set, rescaled to the means asked for."""

    kind: Literal["sharegpt"] = Field("sharegpt", description="Lengths of the ShareGPT set after vLLM's filter.")
    prompt_mean: float = Field(
        250.9, gt=1, le=MAX_TOKENS / 100, description="Mean prompt tokens; all are scaled to reach it."
    )
    output_mean: float = Field(
        231.5, gt=1, le=MAX_TOKENS / 100, description="Mean output tokens; all are scaled to reach it."
    )

    correlation: float = Field(
        CORRELATION, gt=-1, lt=1, description="Of prompt with output (of the normal scores of their ranks)."
    )

    def draw(self, prompt_rng: np.random.Generator, output_rng: np.random.Generator, num: int) -> tuple[I4, I4]:
        """Prompt and output tokens of `num` requests, each of shape (num,).

        Of the few pairs that would be longer than 2048 tokens before rescaling, the output is cut.
        """
        prompt_table, output_table = scaled_table("prompt", self.prompt_mean), scaled_table("output", self.output_mean)
        i = draw_indices(prompt_rng, len(prompt_table), num)
        j = correlated_indices(i, draw_indices(output_rng, len(output_table), num), self.correlation)
        prompt, output = prompt_table[i], output_table[j]
        _cut_to_filter(i, j, output, self.output_mean)
        return prompt, output


def correlated_indices(first: Any, second: Any, correlation: float) -> Any:
    """Turn two independent uniform indices of tables of TABLE_SIZE into the second of a correlated pair.

    A Gaussian copula: normal scores of both indices, mixed, and back to an index. Shapes (num,).
    """
    if correlation == 0:
        return second
    quantiles, index_of = _normal_scores()
    score = correlation * quantiles[first]
    score += math.sqrt(1 - correlation**2) * quantiles[second]
    score += _SCORE_RANGE
    score *= _SCORE_STEPS
    return index_of[score.astype(np.int32)]


_SCORE_RANGE, _SCORE_STEPS = 7.0, 8192
"""Normal scores are looked up in steps of 1/8192 over -7..7 (a 16-bit index reaches 4.4)."""


@lru_cache(maxsize=1)
def _normal_scores() -> tuple[Any, Any]:
    """Normal score of each index, float32; index of each score, in steps."""
    quantiles = normal_quantiles()
    grid = np.arange(-_SCORE_RANGE, _SCORE_RANGE, 1 / _SCORE_STEPS)
    index_of = np.interp(grid, quantiles, np.arange(TABLE_SIZE)).astype(np.uint16)
    return quantiles.astype(np.float32), index_of


def _cut_to_filter(i: Any, j: Any, output: I4, output_mean: float) -> None:
    prompts, outputs = original_lengths("prompt"), original_lengths("output")
    first_long = np.searchsorted(prompts, MAX_TOGETHER - outputs[-1], side="right")
    if first_long == len(prompts):
        return
    long = np.flatnonzero(i >= first_long)  # only beside such a prompt can an output be too long
    room = MAX_TOGETHER - prompts[i[long]]
    too_long = outputs[j[long]] > room
    scale = scaled_table("output", output_mean)[-1] / outputs[-1]
    output[long[too_long]] = np.maximum(room[too_long] * scale, 1).astype(np.int32)


@lru_cache(maxsize=64)
def scaled_table(side: Literal["prompt", "output"], mean: float) -> I4:
    """TABLE_SIZE equally likely lengths of the rescaled set, ascending but for rounding; read-only."""
    table: I4 = whole_tokens(scaled_to_mean(original_lengths(side), mean, 1, MAX_TOKENS))
    table.flags.writeable = False
    return table


@lru_cache(maxsize=2)
def original_lengths(side: Literal["prompt", "output"]) -> F8:
    """TABLE_SIZE equally likely lengths of the set itself, ascending, before rounding.

    The distribution function is a monotone cubic (`monotone_cubic`) through the histogram's cumulative counts and the
    published 25th percentile, which lies inside the wide first bin (a third of all prompts is in 4..38). Its means are
    253.1 and 231.8 tokens where 250.9 and 231.5 are published; with equal density inside each bin it would be 254.5 and
    237.3.
    """
    data = json.loads(files("loratwin.workload").joinpath("data/sharegpt.json").read_text())[side]
    edges, counts = np.array(data["edges"], dtype=float), np.array(data["counts"], dtype=float)
    cumulative = np.concatenate([[0.0], np.cumsum(counts) / counts.sum()])
    edges, cumulative = np.insert(edges, 1, data["quarter"] + 1.0), np.insert(cumulative, 1, 0.25)
    grid = np.linspace(edges[0], edges[-1], 8192)
    lengths: F8 = np.interp(levels(), monotone_cubic(edges, cumulative, grid), grid)
    lengths = np.maximum(lengths - 0.5, edges[0])  # n tokens are counted on [n, n + 1): the middle stands for n
    lengths.flags.writeable = False
    return lengths


def monotone_cubic(x: F8, y: F8, at: F8) -> F8:
    """Interpolate increasing data without overshoot (Fritsch and Butland 1984, SIAM J. Sci. Stat. Comput. 5).

    Parameters
    ----------
    x, y : shape (k,), increasing
    at : shape (n,), within x

    Returns
    -------
    shape (n,)
    """
    h, slope = np.diff(x), np.diff(y) / np.diff(x)
    weight = (h[:-1] + 2 * h[1:]) / (3 * (h[:-1] + h[1:]))
    inner = slope[:-1] * slope[1:] / (weight * slope[1:] + (1 - weight) * slope[:-1])
    tangent = np.concatenate([slope[:1], inner, slope[-1:]])
    k = np.clip(np.searchsorted(x, at, side="right") - 1, 0, len(h) - 1)
    t = (at - x[k]) / h[k]
    value: F8 = (
        (1 + 2 * t) * (1 - t) ** 2 * y[k]
        + t * (1 - t) ** 2 * h[k] * tangent[k]
        + t**2 * (3 - 2 * t) * y[k + 1]
        - t**2 * (1 - t) * h[k] * tangent[k + 1]
    )
    return value
