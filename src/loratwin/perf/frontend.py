"""What lies between the engine and the client: a constant, the first use of an adapter, and scrapes of `/metrics`.

vLLM 0.8.5 serves HTTP from one event loop. Each scrape of `/metrics` formats every series, and the gauge
`lora_requests_info` makes a new series for each new combination of running and waiting adapters (engine.md 2.7): with
many adapters tens of thousands in an hour. While the loop formats, tokens wait and are delivered together: gaps between
deliveries are longer than the engine's gaps between tokens, and first tokens come late. TPOT hardly changes.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, NonNegativeFloat, PositiveFloat

F8 = NDArray[np.float64]


class Frontend(BaseModel):
    """Coefficients of the API server and the client."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    overhead_s: NonNegativeFloat  # added to every TTFT: HTTP, tokenizer, first delivery
    first_use_s: NonNegativeFloat  # added to the first request of an adapter: its tokenizer is looked up
    scrape_interval_s: PositiveFloat
    series_s: NonNegativeFloat  # per metric series that a scrape formats
    series_name_s: NonNegativeFloat  # per adapter name in those series
    stall_ttft: NonNegativeFloat  # TTFT that a stall of length L adds on average, in units of L^2 / interval
    generated_share: PositiveFloat  # output tokens that the measured server generated per token asked for

    def stall_s(self, num_series: F8, num_names: F8) -> F8:
        """Seconds that one scrape stops the event loop; arrays of any one shape."""
        return self.series_s * num_series + self.series_name_s * num_names

    def delivery_gap_s(self, itl_s: float, stall_s: F8) -> float:
        """Mean gap between deliveries when the engine's gap is `itl_s`: tokens of a stall arrive as one.

        A stall of length L swallows L / itl - 1 deliveries, so the gap is itl / (1 - (L - itl) / interval).
        """
        lost = np.maximum(0.0, stall_s - itl_s) / self.scrape_interval_s
        return itl_s / max(0.2, float(np.mean(1.0 - lost)))

    def extra_ttft_s(self, stall_s: F8) -> float:
        """Mean seconds that scrapes add to TTFT."""
        return self.stall_ttft * float(np.mean(stall_s**2)) / self.scrape_interval_s
