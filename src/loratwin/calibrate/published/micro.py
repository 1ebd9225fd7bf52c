"""Micro measurements: steps of one known kind, from `backbone_latency.csv` and `adapter_overhead.csv`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from loratwin.calibrate.published.tables import Row, number, read_table
from loratwin.kernel import StepFeatures


@dataclass(frozen=True)
class MicroPoint:
    """One kind of step and its measured duration."""

    kind: str
    step_s: float
    decode_requests: float
    prefill_tokens: float
    running: float
    distinct_adapters: float
    decode_context: float
    prefill_context: float
    max_loras: int
    max_lora_rank: int
    weight: float

    @property
    def step(self) -> StepFeatures:
        """The step, as arrays of shape (1,); all requests use an adapter where the server has LoRA on."""
        return StepFeatures(
            decode_requests=np.array([self.decode_requests]),
            prefill_tokens=np.array([self.prefill_tokens]),
            decode_context=np.array([self.decode_context]),
            prefill_context=np.array([self.prefill_context]),
            distinct_adapters=np.array([self.distinct_adapters]),
            lora_decode_requests=np.array([self.decode_requests]),
            lora_prefill_tokens=np.array([self.prefill_tokens]),
            waiting=np.zeros(1),
            skipped=np.zeros(1),
            running=np.array([self.running]),
        )


_BACKBONE = ("model", "kind", "num_prompts", "input_tokens", "output_tokens", "mean_running", "step_median_ms")
_OVERHEAD = (
    *("model", "kind", "served_adapters", "max_num_seqs", "max_loras", "max_lora_rank", "output_tokens"),
    "median_itl_ms",
)


def read_micro(folder: Path, model: str, max_num_batched_tokens: int = 2048) -> list[MicroPoint]:
    """All micro measurements of an LLM."""
    points = []
    for row in read_table(folder / "backbone_latency.csv", _BACKBONE):
        if row["model"] == model and number(row, "step_median_ms") > 0:
            points.append(_prompts(row, max_num_batched_tokens) if row["kind"] == "input" else _decode(row))
    for row in read_table(folder / "adapter_overhead.csv", _OVERHEAD):
        if row["model"] == model and row["kind"] == "lora":
            points.append(_with_adapters(row))
    return points


def _decode(row: Row) -> MicroPoint:
    """Prompts of one token, so that all steps decode; on average half of the output is in the KV cache."""
    running, context = number(row, "mean_running"), 1 + number(row, "output_tokens") / 2
    return MicroPoint(
        "decode", number(row, "step_median_ms") / 1e3, running, 0, running, 0, running * context, 0, 0, 8, 1.0
    )


def _prompts(row: Row, budget: int) -> MicroPoint:
    """Outputs of one token, all requests at once: steps are full of prompts, as far as there are prompts."""
    length = number(row, "input_tokens")
    tokens = min(budget, number(row, "num_prompts") * length)
    return MicroPoint(
        "prompts",
        number(row, "step_median_ms") / 1e3,
        0,
        tokens,
        tokens / length,
        0,
        0,
        tokens * length / 2,
        0,
        8,
        2.0,
    )


def _with_adapters(row: Row) -> MicroPoint:
    """Requests choose their adapter uniformly: n (1 - (1 - 1/n)^B) distinct ones in a batch of B."""
    served, batch = number(row, "served_adapters"), number(row, "max_num_seqs")
    distinct = served * (1 - (1 - 1 / served) ** batch)
    context = 1 + number(row, "output_tokens") / 2
    slots, rank = int(number(row, "max_loras")), int(number(row, "max_lora_rank"))
    return MicroPoint(
        "adapters", number(row, "median_itl_ms") / 1e3, batch, 0, batch, distinct, batch * context, 0, slots, rank, 0.5
    )
