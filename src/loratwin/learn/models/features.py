"""Features: the eight published ones of a workload, better ones with physical meaning, and those of a configuration."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from loratwin.learn.cases.case import F8, Mix
from loratwin.learn.cases.physics import FEW_SLOTS, I8, Steady, kv_tokens, most_adapters, steady
from loratwin.perf import Profile

PUBLISHED = (
    "rate_max",
    "rate_min",
    "rate_mean",
    "rate_std",
    "rank_max",
    "rank_min",
    "rank_mean",
    "rank_std",
)
"""Of the rate values and of the rank values of a workload (arXiv 2508.08343)."""

WORKLOAD = (
    "tokens_per_s",  # offered by the average adapter
    "rate_mean",
    "rate_cv",
    "rank_max",
    "rank_mean",
    "prompt_mean",
    "output_mean",
    "context_mean",
    "arrivals_cv",
    "distinct_of_100",  # adapters among 100 requests, when there are 100 adapters
    "kv_per_adapter",  # KV tokens that the average adapter's requests hold, at 30 ms a step
    "kv_tokens",  # with few slots
    "estimated_adapters",  # with a full batch, by the estimate of `physics`
    "estimated_distinct",  # of them in this batch
)
"""Of a workload on a server of some profile, whatever the number of adapters and slots."""

CONFIGURATION = (
    "log_utilization",
    "log_seats_used",
    "log_running",
    "log_step_s",
    "log_full_step_s",
    "slot_pressure",  # distinct adapters / slots
    "slot_room",  # slots left over, in standard deviations of the distinct adapters
    "log_slots_per_adapter",
    "stalled",
    "log_slot_wait",
    "log_requests_per_s",
    "log_adapters",
    "log_slots",
    "log_kv_tokens",
    "rate_cv",
    "arrivals_cv",
    "log_prompt_mean",
    "log_output_mean",
    "log_rank_max",
    "context_ratio",  # KV tokens of a running request / what fixed lengths would hold
)
"""Of a workload on a server with so many adapters and slots."""

STEP_S = 0.03
"""A usual step, for `kv_per_adapter`."""


def published_features(mix: Mix) -> F8:
    """The eight of `PUBLISHED`, shape (8,); the values count equally, as published."""
    rates = mix.rate_per_s
    return np.array(
        [rates.max(), rates.min(), rates.mean(), rates.std(), mix.rank_max, mix.rank_min, mix.rank_mean, mix.rank_std]
    )


def workload_features(mix: Mix, profile: Profile) -> F8:
    """Those of `WORKLOAD`, shape (14,)."""
    most = most_adapters(mix, profile)
    rate, share = mix.mean_rate, mix.rate_per_s / mix.mean_rate
    return np.array(
        [
            rate * (mix.prompt_mean + mix.output_mean),
            rate,
            mix.rate_cv,
            mix.rank_max,
            mix.rank_mean,
            mix.prompt_mean,
            mix.output_mean,
            mix.context_mean,
            mix.arrivals_cv,
            100 * float((1 - np.exp(-share)) @ mix.weight),
            rate * mix.output_mean * STEP_S * mix.context_mean,
            max(1, kv_tokens(profile, FEW_SLOTS, mix.max_lora_rank)),
            most.adapters,
            most.distinct,
        ]
    )


def configuration_features(
    mix: Mix, profile: Profile, adapters: Sequence[int] | I8, slots: Sequence[int] | I8
) -> tuple[F8, Steady]:
    """Those of `CONFIGURATION` for each configuration, shape (num_configs, 20), and the estimates behind them.

    Rows of servers that do not start mean nothing.
    """
    n, g = np.asarray(adapters, dtype=np.int64), np.asarray(slots, dtype=np.int64)
    s = steady(mix, profile, n, g)
    return np.column_stack([*_estimated(s, n, g), *_given(mix, len(n))]), s


def _estimated(s: Steady, n: I8, g: I8) -> list[F8]:
    """What differs between configurations, in the order of `CONFIGURATION`."""
    return [
        np.log(np.maximum(s.utilization, 1e-6)),
        np.log(np.maximum(s.seats_used, 1e-6)),
        np.log(np.maximum(s.running, 1e-3)),
        np.log(s.step_s),
        np.log(s.full_step_s),
        s.distinct / g,
        (g - s.distinct) / np.sqrt(s.distinct + 1),
        np.log(g / n),
        s.stalled,
        np.log(s.slot_wait_s),
        np.log(s.requests_per_s),
        np.log(n),
        np.log(g),
        np.log(np.maximum(s.kv_tokens, 1.0)),
    ]


def _given(mix: Mix, num: int) -> list[F8]:
    """What all configurations of a workload share, in the order of `CONFIGURATION`."""
    values = (
        mix.rate_cv,
        mix.arrivals_cv,
        np.log(mix.prompt_mean),
        np.log(mix.output_mean),
        np.log(mix.max_lora_rank),
        mix.context_mean / (mix.prompt_mean + mix.output_mean / 2),
    )
    return [np.full(num, value) for value in values]


_AS_IS = ("rate_cv", "arrivals_cv", "distinct_of_100")

LOG_WORKLOAD = tuple(name if name in _AS_IS else f"log_of_{name}" for name in WORKLOAD)
"""The features of a workload as models see them: ratios count, so most are logarithms."""


def log_workload_features(features: F8) -> F8:
    """`WORKLOAD` as `LOG_WORKLOAD`; the last axis has the features."""
    plain = np.array([name in _AS_IS for name in WORKLOAD])
    return np.where(plain, features, np.log(np.maximum(features, 1e-12)))
