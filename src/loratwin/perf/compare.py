"""Two profiles side by side: coefficients in readable units, KV capacity, and times of a decode step."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from loratwin import kernel
from loratwin.kernel.types import StepFeatures
from loratwin.perf.account import kv_capacity
from loratwin.perf.profile import PARTS, Profile
from loratwin.records import EngineConfig

SLOTS = (0, 8, 32, 128)
BATCHES = (1, 32, 128, 256)
CONTEXT_TOKENS = 300
RANK = 16


class ComparedFigure(NamedTuple):
    """One figure of both profiles; None where there is none."""

    group: str
    name: str
    unit: str
    first: float | None
    second: float | None

    @property
    def difference(self) -> float | None:
        """Second / first - 1; None where that says nothing."""
        if not self.first or self.second is None:
            return None
        return self.second / self.first - 1


def compare_profiles(first: Profile, second: Profile) -> list[ComparedFigure]:
    """KV capacity and step times first, then every coefficient."""
    return [*_capacities(first, second), *_steps(first, second), *_coefficients(first, second)]


def _capacities(first: Profile, second: Profile) -> Iterator[ComparedFigure]:
    for slots in SLOTS:
        config = EngineConfig(max_loras=slots, max_lora_rank=RANK, max_num_seqs=256, max_num_batched_tokens=2048)
        tokens = [_tokens(profile, config) for profile in (first, second)]
        yield ComparedFigure(
            f"KV cache, rank {RANK}, 256 sequences, 0.9 of the memory", f"{slots} slots", "tokens", *tokens
        )


def _tokens(profile: Profile, config: EngineConfig) -> float | None:
    capacity = kv_capacity(profile.llm, profile.memory, config)
    return float(capacity.tokens) if capacity.tokens else None


def decode_step_s(profile: Profile, batch: int, slots: int) -> float:
    """Seconds of a step in which `batch` requests with 300 tokens each decode; as many adapters as there can be."""
    adapters = min(batch, slots)
    nothing = dict.fromkeys(StepFeatures._fields, 0)
    features = StepFeatures(
        **nothing | {"decode_requests": batch, "running": batch, "decode_context": CONTEXT_TOKENS * batch,
                     "distinct_adapters": adapters, "lora_decode_requests": batch if slots else 0}
    )  # fmt: skip
    return float(kernel.step_time_s(profile.step_time.resolve(slots, RANK, profile.behaviour, 256), features))


def _steps(first: Profile, second: Profile) -> Iterator[ComparedFigure]:
    for slots in (0, 32):
        for batch in BATCHES:
            what = "no LoRA" if slots == 0 else f"{min(batch, slots)} adapters in {slots} slots"
            times = [1e3 * decode_step_s(profile, batch, slots) for profile in (first, second)]
            yield ComparedFigure(
                f"decode step, {CONTEXT_TOKENS} tokens of context", f"{batch} requests, {what}", "ms", *times
            )


def _coefficients(first: Profile, second: Profile) -> Iterator[ComparedFigure]:
    for part in PARTS:
        values = [getattr(profile, part).model_dump() for profile in (first, second)]
        for name in values[0]:
            pair = [value[name] for value in values]
            if any(isinstance(value, bool | int | float) for value in pair):
                unit, factor, label = _readable(name, max(abs(value or 0.0) for value in pair))
                scaled = [None if value is None else value * factor for value in pair]
                yield ComparedFigure(part.replace("_", " "), label, unit, *scaled)


def _readable(name: str, largest: float) -> tuple[str, float, str]:
    """Unit, factor to it and the name without its unit."""
    if name.endswith("_gib"):
        return "GiB", 1.0, name.removesuffix("_gib")
    if not name.endswith("_s"):
        return "", 1.0, name
    label = name.removesuffix("_s")
    if largest >= 1e-3:
        return "ms", 1e3, label
    return ("us", 1e6, label) if largest >= 1e-6 else ("ns", 1e9, label)
