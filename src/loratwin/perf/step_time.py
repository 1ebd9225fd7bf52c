"""Duration of an engine step: the coefficients of one GPU, engine version and LLM, for any slots and rank.

    step = roofline(weights, tokens) + context + running + scheduler + LoRA        (the formula: kernel/cost.py)

The LoRA kernels of vLLM 0.8.5 launch a plane of their grid for every configured slot and work at `max_lora_rank`
whatever the adapters' ranks (engine.md 2.5): hence costs per slot, per slot and tile, per distinct adapter. Their
growth with the rank is logarithmic in the measured range of 8 to 32, where the kernels are bound by launches and
latency, not by bytes.
"""

from __future__ import annotations

from math import log2

from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from loratwin.kernel import StepCost
from loratwin.perf.engines import EngineBehaviour


class StepTimeModel(BaseModel):
    """Coefficients in seconds, never negative: more work never takes less time, but for one step of the kernels' own.

    At 128 tokens the LoRA kernels change their settings (`adapter_small_s` ends), and a step may get cheaper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weights_s: PositiveFloat  # read all weights, launch all layers
    token_s: PositiveFloat  # per token in the dense layers where compute binds
    roofline_power: float = Field(ge=1)
    running_s: NonNegativeFloat
    context_s: NonNegativeFloat  # per KV token read by decode
    prefill_context_s: NonNegativeFloat
    prefill_step_s: NonNegativeFloat
    graph_tokens: NonNegativeFloat
    eager_s: NonNegativeFloat
    skipped_s: NonNegativeFloat
    lora_s: NonNegativeFloat  # LoRA on at all
    slot_s: NonNegativeFloat  # per configured slot
    slot_rank_s: NonNegativeFloat  # per configured slot x doubling of max_lora_rank beyond 8
    slot_tile_s: NonNegativeFloat  # per configured slot x tile of 64 tokens
    adapter_s: NonNegativeFloat  # per distinct adapter
    adapter_rank_s: NonNegativeFloat  # per distinct adapter x doubling
    adapter_tile_s: NonNegativeFloat  # per distinct adapter x tile of 64 tokens in steps with prefill
    adapter_small_s: NonNegativeFloat  # per distinct adapter in steps of fewer than 128 tokens
    lora_token_s: NonNegativeFloat  # per prefill token with an adapter
    lora_token_rank_s: NonNegativeFloat  # ... x doubling
    lora_decode_s: NonNegativeFloat = 0.0  # per decode request with an adapter: without a GPU, each token pays
    lora_decode_rank_s: NonNegativeFloat = 0.0  # ... x doubling

    def scaled(self, factor: float) -> StepTimeModel:
        """All durations times a factor."""
        pure = {"roofline_power", "graph_tokens"}
        return StepTimeModel(**{k: v if k in pure else v * factor for k, v in self.model_dump().items()})

    def resolve(
        self, slots: int, rank: int, behaviour: EngineBehaviour | None = None, max_num_seqs: int = 0
    ) -> StepCost:
        """The kernel's coefficients for a server with so many slots (0: LoRA off) of this `max_lora_rank`.

        `behaviour` (None: vLLM 0.8.5) says which graphs there are; in later versions that depends on `max_num_seqs`.
        """
        on = float(slots > 0)
        engine = behaviour or EngineBehaviour()
        doublings = max(0.0, log2(rank / 8))
        return StepCost(
            weights_s=self.weights_s,
            token_s=self.token_s,
            roofline_power=self.roofline_power,
            running_s=self.running_s,
            context_s=self.context_s,
            prefill_context_s=self.prefill_context_s,
            prefill_step_s=self.prefill_step_s,
            graph_tokens=engine.graph_tokens(self.graph_tokens, max_num_seqs),
            eager_s=self.eager_s,
            skipped_s=self.skipped_s,
            lora_s=on * self.lora_s + slots * (self.slot_s + self.slot_rank_s * doublings),
            lora_tile_s=slots * self.slot_tile_s,
            adapter_s=on * (self.adapter_s + self.adapter_rank_s * doublings),
            adapter_tile_s=on * self.adapter_tile_s,
            adapter_small_s=on * self.adapter_small_s,
            lora_token_s=on * (self.lora_token_s + self.lora_token_rank_s * doublings),
            graph_fine_tokens=float(engine.graph_fine_tokens),
            base_graphs=float(engine.base_graphs),
            hidden_walk=float(engine.async_scheduling),
            lora_decode_s=on * (self.lora_decode_s + self.lora_decode_rank_s * doublings),
        )
