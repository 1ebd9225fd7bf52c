"""Decode steps that others published: what a profile assumed for the GPU and the LLM says of one, with its interval."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from loratwin.kernel import StepFeatures, step_time_s
from loratwin.perf import Profile
from loratwin.validate.cells import required, text
from loratwin.validate.public_rows import assumed_profile

LEVEL = 0.9
DRAWS = 200
"""Plausible profiles whose spread is that of the coefficients."""


class StepPrediction(NamedTuple):
    """Milliseconds of a decode step, and within what they lie in 90 % of such steps."""

    measured_ms: float  # named as the column that it predicts
    low: float
    high: float


def predict_step(row: Mapping[str, str]) -> StepPrediction:
    """Predict one row of `decode_steps.csv`, from its configuration columns alone.

    Parameters
    ----------
    row
        `gpu`, `engine`, `llm`, `tp`; `batch` (requests that decode, fractions allowed) and `context` (mean tokens of
        each in the KV cache). Other columns are not looked at.

    Raises
    ------
    DataError
        A column is missing, or a number is none or below what a step has.
    InputError
        A GPU, an LLM or an engine that is not known.
    """
    batch, context, gpus = (required(row, name, least) for name, least in (("batch", 1), ("context", 0), ("tp", 1)))
    profile = assumed_profile(text(row, "gpu"), text(row, "llm"), text(row, "engine"), int(gpus))
    rng = np.random.default_rng(0)
    drawn = [decode_ms(profile.sample(rng), batch, context) for _ in range(DRAWS)]
    middle = decode_ms(profile, batch, context)
    half_width = math.hypot(_half_width(drawn), _model_error(profile))
    return StepPrediction(middle, middle * math.exp(-half_width), middle * math.exp(half_width))


def decode_ms(profile: Profile, batch: float, context: float) -> float:
    """Milliseconds of a step without LoRA in which `batch` requests decode; between whole batches, a straight line."""
    lower = math.floor(batch)
    times = [_whole_decode_ms(profile, batch, context) for batch in (lower, lower + 1)]
    return times[0] + (batch - lower) * (times[1] - times[0])


def _whole_decode_ms(profile: Profile, batch: int, context: float) -> float:
    nothing = dict.fromkeys(StepFeatures._fields, 0)
    decoding = {"decode_requests": batch, "running": batch, "decode_context": round(context * batch)}
    cost = profile.step_time.resolve(0, 8, profile.behaviour, profile.limits.max_num_seqs)
    return 1e3 * float(step_time_s(cost, StepFeatures(**nothing | decoding)))


def _half_width(drawn: list[float]) -> float:
    """Of the logarithm, at `LEVEL`."""
    low, high = np.quantile(np.log(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(high - low) / 2


def _model_error(profile: Profile) -> float:
    """What no coefficient explains: a step without prefill is a time per output token."""
    return profile.uncertainty.error("tpot_mean_ms", "open", LEVEL) if profile.uncertainty else 0.0
