"""Duration of an engine step: the coefficients of one GPU, engine version and LLM, for any slots and rank.

    step = roofline(weights, tokens) + context + running + scheduler + LoRA        (the formula: kernel/cost.py)

The LoRA kernels of vLLM 0.8.5 launch a plane of their grid for every configured slot and work at `max_lora_rank`
whatever the adapters' ranks (engine.md 2.5): hence costs per slot, per slot and tile, per distinct adapter. Their
growth with the rank is logarithmic in the measured range of 8 to 32, where the kernels are bound by launches and
latency, not by bytes.

`TERMS` says which coefficient adds what to the kernel's, for a server's slots and rank. Whoever needs a coefficient's
factor in a step (the fits: `step_columns`) gets it from this table and the kernel's own formula.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log2
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, NonNegativeFloat, PositiveFloat

from loratwin import kernel  # its functions by this name: a profile is read without numba
from loratwin.engines.versions import EngineBehaviour
from loratwin.kernel.types import Count, StepCost, StepFeatures

F8 = NDArray[np.float64]
Scale = Callable[[Count], Count]


def _once(slots: Count) -> Count:
    return 1.0


def _if_lora(slots: Count) -> Count:
    return 1.0 * (slots > 0)


def _by_slots(slots: Count) -> Count:
    return 1.0 * slots


class Term(NamedTuple):
    """A coefficient of the profile, linear in the step time."""

    name: str  # in `StepTimeModel`
    unit: str  # seconds for each of these
    cost: str  # the kernel's coefficient that it adds to (`StepCost`), whose factor in a step is the kernel's to say
    scale: Scale  # times this, a function of the server's slots
    per_doubling: str = ""  # the coefficient's growth with each doubling of `max_lora_rank` beyond 8; "": none


TERMS = (
    Term("running_s", "running request", "running_s", _once),
    Term("context_s", "KV token that decode requests read", "context_s", _once),
    Term("prefill_context_s", "prompt token x token of its context", "prefill_context_s", _once),
    Term("prefill_step_s", "step that holds prefill", "prefill_step_s", _once),
    Term("eager_s", "step beyond the captured graphs", "eager_s", _once),
    Term("skipped_s", "waiting request passed over", "skipped_s", _once),
    Term("lora_s", "step of a server with LoRA on", "lora_s", _if_lora),
    Term("slot_s", "configured slot", "lora_s", _by_slots, "slot_rank_s"),
    Term("slot_tile_s", "configured slot x tile of 64 tokens", "lora_tile_s", _by_slots),
    Term("adapter_s", "distinct adapter", "adapter_s", _if_lora, "adapter_rank_s"),
    Term("adapter_tile_s", "distinct adapter x tile of 64 tokens, in steps with prefill", "adapter_tile_s", _if_lora),
    Term("adapter_small_s", "distinct adapter, in steps of fewer than 128 tokens", "adapter_small_s", _if_lora),
    Term("lora_token_s", "prefill token of a request with an adapter", "lora_token_s", _if_lora, "lora_token_rank_s"),
    Term("lora_decode_s", "decode request with an adapter", "lora_decode_s", _if_lora, "lora_decode_rank_s"),
)
"""The linear part of the step time; the rest is the roofline's (`kernel.cost.roofline_s`)."""

COEFFICIENTS = tuple(name for term in TERMS for name in (term.name, term.per_doubling) if name)
"""Coefficients that the step time is linear in, in the order of all columns."""

OF_SLOTS = frozenset(name for term in TERMS if term.scale is _by_slots for name in (term.name, term.per_doubling))
"""Coefficients whose cost grows with the server's slots."""


def roofline_s(weights_s: float, token_s: float, power: float, tokens: F8) -> F8:
    """Seconds in the dense layers by computed tokens, padding included (the kernel's own formula); their shape."""
    return np.asarray(kernel.source(kernel.roofline_s)(weights_s, token_s, power, tokens))


def roofline_slopes(weights_s: float, token_s: float, power: float, tokens: F8) -> tuple[F8, F8]:
    """Derivatives of `roofline_s` by `weights_s` and `token_s`. It is their sum, each times its coefficient (Euler)."""
    dense = roofline_s(weights_s, token_s, power, tokens)
    return (weights_s / dense) ** (power - 1), tokens * (token_s * tokens / dense) ** (power - 1)


_COSTS = tuple(dict.fromkeys(term.cost for term in TERMS))
_UNIT = dict(zip(_COSTS, np.eye(len(_COSTS))[:, :, None], strict=True))
"""Each linear coefficient of the kernel as 1 while the others are 0: the formula's value is then its factor."""


def doublings(rank: int) -> float:
    """Of `max_lora_rank`, beyond 8."""
    return max(0.0, log2(rank / 8))


class StepColumns(NamedTuple):
    """The step time of some steps as a linear model: `linear` x coefficients + roofline of `tokens`."""

    linear: F8  # (num_steps, len(COEFFICIENTS))
    tokens: F8  # (num_steps,) computed, padding included


def step_columns(
    features: StepFeatures, slots: int, rank: int, behaviour: EngineBehaviour, graph_tokens: float, max_num_seqs: int
) -> StepColumns:
    """What the kernel multiplies each coefficient by, found by asking it.

    A walk that is hidden behind the step before (asynchronous scheduling) is not linear: its column is empty.

    Parameters
    ----------
    features
        Of the steps: arrays of shape (num_steps,), means allowed.
    slots, rank, max_num_seqs
        What the server was started with (0 slots: LoRA off).
    behaviour
        Of the engine's version.
    graph_tokens
        The largest step that the engine replays as a graph, unless `max_num_seqs` says less.
    """
    work = kernel.works(StepCost(**_NOTHING, **_switches(behaviour, graph_tokens, max_num_seqs)), features)
    unit = StepCost(**{**_NOTHING, **_UNIT}, graph_tokens=0.0)
    factor = dict(zip(_COSTS, kernel.sum_s(unit, work, 0.0), strict=True))
    columns = []
    for term in TERMS:
        column = term.scale(slots) * factor[term.cost]
        columns += [column, column * doublings(rank)] if term.per_doubling else [column]
    return StepColumns(np.column_stack(columns), np.asarray(work.tokens))


_NOT_FITTED = (
    "weights_s", "token_s", "roofline_power", "expert_s", "expert_share",
    "mixed_context_s", "mixed_request_s", "reread_context_s", "reread_beyond",
)  # fmt: skip
"""Coefficients that are the kernel's as they are: the roofline's, and those that only operations tell."""

_SWITCHES = ("graph_tokens", "graph_fine_tokens", "base_graphs", "hidden_walk")
_NOTHING = {name: 0.0 for name in StepCost._fields if name not in _SWITCHES}


def _switches(engine: EngineBehaviour, graph_tokens: float, max_num_seqs: int) -> dict[str, float]:
    """What the engine's version says of its steps, for `StepCost`."""
    return {
        "graph_tokens": float(engine.graph_tokens(graph_tokens, max_num_seqs)),  # the kernel compiled once for all
        "graph_fine_tokens": float(engine.graph_fine_tokens),
        "base_graphs": float(engine.base_graphs),
        "hidden_walk": float(engine.async_scheduling),
    }


NO_TIMES = frozenset({"roofline_power", "graph_tokens", "expert_share", "reread_beyond"})
"""Fields of `StepTimeModel` that are no seconds."""


class StepTimeModel(BaseModel):
    """Coefficients in seconds, never negative: more work never takes less time, but for one step of the kernels' own.

    At 128 tokens the LoRA kernels change their settings (`adapter_small_s` ends), and a step may get cheaper.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    weights_s: PositiveFloat  # read all weights, launch all layers
    token_s: PositiveFloat  # per token in the dense layers where compute binds
    roofline_power: float = Field(ge=1)  # 1 adds the two, large takes the maximum
    # The following, but for `graph_tokens` and the last six, are linear: seconds for each unit that `TERMS` says.
    running_s: NonNegativeFloat
    context_s: NonNegativeFloat
    prefill_context_s: NonNegativeFloat
    prefill_step_s: NonNegativeFloat
    graph_tokens: NonNegativeFloat  # the largest step that is padded and replayed as a graph
    eager_s: NonNegativeFloat
    skipped_s: NonNegativeFloat
    lora_s: NonNegativeFloat
    slot_s: NonNegativeFloat
    slot_rank_s: NonNegativeFloat
    slot_tile_s: NonNegativeFloat
    adapter_s: NonNegativeFloat
    adapter_rank_s: NonNegativeFloat
    adapter_tile_s: NonNegativeFloat
    adapter_small_s: NonNegativeFloat
    lora_token_s: NonNegativeFloat
    lora_token_rank_s: NonNegativeFloat
    lora_decode_s: NonNegativeFloat = 0.0  # without a GPU each token pays for its adapter
    lora_decode_rank_s: NonNegativeFloat = 0.0
    expert_s: NonNegativeFloat = 0.0  # of an LLM with experts: to read all of them
    expert_share: float = Field(default=0.0, ge=0, lt=1)  # part of them that one token is sent to
    mixed_context_s: NonNegativeFloat = 0.0  # per KV token that decode requests read in a step with prefill, more
    mixed_request_s: NonNegativeFloat = 0.0  # per running request of such a step, more
    reread_context_s: NonNegativeFloat = 0.0  # per KV token beyond so many, where that is more than both
    reread_beyond: NonNegativeFloat = 0.0  # tokens

    def scaled(self, factor: float) -> StepTimeModel:
        """All durations times a factor."""
        return StepTimeModel(**{k: v if k in NO_TIMES else v * factor for k, v in self.model_dump().items()})

    def resolve(
        self, slots: int | NDArray[Any], rank: int, behaviour: EngineBehaviour | None = None, max_num_seqs: int = 0
    ) -> StepCost:
        """The kernel's coefficients for a server with so many slots (0: LoRA off) of this `max_lora_rank`.

        Parameters
        ----------
        slots
            Of one server, or of several: then the coefficients that depend on it have its shape.
        behaviour, max_num_seqs
            Which graphs there are (None: those of vLLM 0.8.5); in later versions that depends on the sequences.
        """
        switches = _switches(behaviour or EngineBehaviour(), self.graph_tokens, max_num_seqs)
        return StepCost(**self._costs(slots, rank), **switches)

    def _costs(self, slots: Count, rank: int) -> dict[str, Count]:
        costs: dict[str, Count] = {name: getattr(self, name) for name in _NOT_FITTED}
        costs |= dict.fromkeys(_COSTS, 0.0)
        for term in TERMS:
            value = float(getattr(self, term.name))
            if term.per_doubling:
                value += getattr(self, term.per_doubling) * doublings(rank)
            costs[term.cost] = costs[term.cost] + term.scale(slots) * value
        return costs

    @property
    def linear(self) -> F8:
        """The coefficients of `COEFFICIENTS`, in their order."""
        return np.array([getattr(self, name) for name in COEFFICIENTS])

    def dense_s(self, tokens: F8) -> F8:
        """Seconds in the dense layers for numbers of computed tokens, padding included; the shape is theirs."""
        experts = kernel.source(kernel.experts_s)(self.expert_s, self.expert_share, tokens)
        return np.asarray(roofline_s(self.weights_s, self.token_s, self.roofline_power, tokens) + experts)
