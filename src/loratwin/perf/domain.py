"""Where a profile was measured. Beyond it, a prediction is an extrapolation and says so."""

from __future__ import annotations

from typing import Annotated, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict

from loratwin.records import EngineConfig

_Number = TypeVar("_Number", int, float)


def _rising(ends: tuple[_Number, _Number]) -> tuple[_Number, _Number]:
    if ends[0] > ends[1]:
        raise ValueError(f"the lower end comes first, but {ends[0]:g} > {ends[1]:g}")
    return ends


Whole = Annotated[tuple[int, int], AfterValidator(_rising)]
Real = Annotated[tuple[float, float], AfterValidator(_rising)]


class Domain(BaseModel):
    """Ranges that the measurements covered, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_loras: Whole
    max_lora_rank: Whole
    max_num_seqs: Whole
    max_num_batched_tokens: Whole
    gpu_memory_utilization: Real
    served_adapters: Whole
    prompt_tokens_mean: Real
    output_tokens_mean: Real

    def departures(
        self, config: EngineConfig, served_adapters: int, prompt_tokens_mean: float, output_tokens_mean: float
    ) -> tuple[str, ...]:
        """What lies outside, one line each: name, value and the measured range."""
        values: dict[str, float] = {
            "max_loras": config.max_loras,
            "max_lora_rank": config.max_lora_rank,
            "max_num_seqs": config.max_num_seqs,
            "max_num_batched_tokens": config.max_num_batched_tokens,
            "gpu_memory_utilization": config.gpu_memory_utilization,
            "served_adapters": served_adapters,
            "prompt_tokens_mean": prompt_tokens_mean,
            "output_tokens_mean": output_tokens_mean,
        }
        if config.max_loras == 0:
            for name in ("max_loras", "max_lora_rank", "served_adapters"):
                values.pop(name)
        notes = []
        for name, value in values.items():
            low, high = getattr(self, name)
            if value < low or value > high:  # NaN, the mean of no requests, is not outside
                notes.append(f"outside the profile's domain: {name} = {value:g}, measured {low:g} to {high:g}")
        return tuple(notes)
