"""Bringing an adapter from disk into host memory, and from there into a slot. Both stop the engine (engine.md 2.3)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat

from loratwin.kernel import AdapterCosts


class LoadingModel(BaseModel):
    """Seconds to load one adapter.

    The copy into a slot is bound by the number of tensors, not by bytes: the adapter's rank does not matter, but one
    below the slot's rank needs a staging copy for each strided tensor. Reading from disk grows with the rank.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    swap_in_s: NonNegativeFloat  # host memory to slot, rank = max_lora_rank
    swap_in_padded_s: NonNegativeFloat  # rank below max_lora_rank
    disk_load_s: NonNegativeFloat  # disk (warm file cache) to host memory, at rank 0
    disk_load_per_rank_s: NonNegativeFloat

    def costs(self, ranks: NDArray[np.int32], max_lora_rank: int) -> AdapterCosts:
        """Seconds for each adapter; `ranks` has shape (num_adapters,)."""
        swap_in = np.where(ranks < max_lora_rank, self.swap_in_padded_s, self.swap_in_s).astype(np.float64)
        return AdapterCosts(swap_in, self.disk_load_s + self.disk_load_per_rank_s * ranks.astype(np.float64))
