"""The regression's rows: what each coefficient of `StepTimeModel` is multiplied by, on average over a run's steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log2

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.hours.matching import Match, StepSample
from loratwin.calibrate.hours.micro import MicroPoint
from loratwin.kernel.cost import SMALL_STEP, TILE

F8 = NDArray[np.float64]

LINEAR = (
    "running_s",
    "context_s",
    "prefill_context_s",
    "prefill_step_s",
    "eager_s",
    "skipped_s",
    "lora_s",
    "slot_s",
    "slot_rank_s",
    "slot_tile_s",
    "adapter_s",
    "adapter_rank_s",
    "adapter_tile_s",
    "adapter_small_s",
    "lora_token_s",
    "lora_token_rank_s",
)
"""Coefficients that the step time is linear in, in the order of the columns."""


_ROOFLINE_STRIDE = 5
"""The roofline is averaged over every fifth sampled step: it hardly varies, and is evaluated often."""


@dataclass(frozen=True)
class Evidence:
    """Rows of the regression: arrays of shape (rows, ...), the micro measurements behind the serving runs."""

    features: F8  # (rows, len(LINEAR))
    duration_s: F8  # (rows,) mean step, measured or matched
    known_s: F8  # (rows,) of it, not to be explained: swap-ins
    tokens: tuple[F8, ...]  # per row, padded tokens of its steps: what the roofline is averaged over
    weight: F8  # (rows,)
    group: tuple[str, ...]  # workload of the row, or kind of micro measurement

    def without(self, group: str) -> Evidence:
        """The rows of all other groups."""
        keep = [i for i, name in enumerate(self.group) if name != group]
        return Evidence(
            self.features[keep],
            self.duration_s[keep],
            self.known_s[keep],
            tuple(self.tokens[i] for i in keep),
            self.weight[keep],
            tuple(self.group[i] for i in keep),
        )


def padded(tokens: F8, graph_tokens: float) -> F8:
    """`kernel.cost.padded_tokens` for arrays."""
    rounded = np.where(tokens <= 4, np.where(tokens <= 2, tokens, 4), np.ceil(tokens / 8) * 8)
    return np.where(tokens > graph_tokens, tokens, rounded)


def evidence(matches: Sequence[Match], micro: Sequence[MicroPoint], graph_tokens: float) -> Evidence:
    """Rows from matched serving runs and from micro measurements."""
    rows, tokens = [], []
    for m in matches:
        computed = padded(m.sample.decode_requests + m.sample.prefill_tokens, graph_tokens)
        rows.append(_with_server(_columns(computed, m.sample, graph_tokens), m.run.max_loras, m.run.max_lora_rank))
        tokens.append(computed[::_ROOFLINE_STRIDE])
    for p in micro:
        sample = _one_step(p)
        computed = padded(sample.decode_requests + sample.prefill_tokens, graph_tokens)
        rows.append(_with_server(_columns(computed, sample, graph_tokens), p.max_loras, p.max_lora_rank))
        tokens.append(computed)
    return Evidence(
        features=np.array(rows),
        duration_s=np.array([m.step_s for m in matches] + [p.step_s for p in micro]),
        known_s=np.array([m.swap_s for m in matches] + [0.0] * len(micro)),
        tokens=tuple(tokens),
        weight=np.array([1.0] * len(matches) + [p.weight for p in micro]),
        group=tuple([m.run.group for m in matches] + [p.kind for p in micro]),
    )


def _one_step(p: MicroPoint) -> StepSample:
    """A micro measurement as a sample of one step."""
    values = (
        p.decode_requests,
        p.prefill_tokens,
        p.running,
        0.0,
        p.distinct_adapters,
        p.decode_context,
        p.prefill_context,
    )
    return StepSample(*(np.array([value]) for value in values))


def _columns(computed: F8, s: StepSample, graph_tokens: float) -> dict[str, float]:
    """Means over steps of what does not depend on the server."""
    tiles, mixed, eager = np.ceil(computed / TILE), s.prefill_tokens > 0, computed > graph_tokens
    means = {
        "running": s.running,
        "context": s.decode_context,
        "prefill_context": s.prefill_context,
        "mixed": mixed,
        "eager": eager,
        "skipped": s.skipped,
        "tiles": tiles,
        "adapters": s.distinct_adapters,
        "adapter_tiles": mixed * s.distinct_adapters * tiles,
        "adapter_small": (computed < SMALL_STEP) * s.distinct_adapters,
        "prefill": s.prefill_tokens,
    }
    return {name: float(values.mean()) for name, values in means.items()}


def _with_server(c: dict[str, float], slots: int, rank: int) -> list[float]:
    """One row in the order of LINEAR; see `StepTimeModel.resolve`."""
    on, doublings = float(slots > 0), max(0.0, log2(rank / 8))
    return [
        c["running"],
        c["context"],
        c["prefill_context"],
        c["mixed"],
        c["eager"],
        c["skipped"],
        on,
        slots,
        slots * doublings,
        slots * c["tiles"],
        on * c["adapters"],
        on * c["adapters"] * doublings,
        on * c["adapter_tiles"],
        on * c["adapter_small"],
        on * c["prefill"],
        on * c["prefill"] * doublings,
    ]
