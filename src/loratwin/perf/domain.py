"""Where a profile was measured. Beyond it, a prediction is an extrapolation and says so."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from loratwin.records import EngineConfig


class Domain(BaseModel):
    """Ranges that the measurements covered, both ends included."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    max_loras: tuple[int, int]
    max_lora_rank: tuple[int, int]
    max_num_seqs: tuple[int, int]
    max_num_batched_tokens: tuple[int, int]
    gpu_memory_utilization: tuple[float, float]
    served_adapters: tuple[int, int]
    prompt_tokens_mean: tuple[float, float]
    output_tokens_mean: tuple[float, float]

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
        found = []
        for name, value in values.items():
            low, high = getattr(self, name)
            if value < low or value > high:  # NaN, the mean of no requests, is not outside
                found.append(f"outside the profile's domain: {name} = {value:g}, measured {low:g} to {high:g}")
        return tuple(found)
