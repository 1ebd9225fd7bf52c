"""Batches in phases on a vLLM in its own Python: all prompts first, then all decode, every step logged.

from loratwin.offline import batch_grid, measure_offline

measure_offline(batch_grid([1, 8], [64], [32], adapters=[0, 4]), "--model tiny", "records", python="vllm/bin/python")
"""

from loratwin.offline.batches import Batch, batch_grid
from loratwin.offline.measure import OfflineResult, measure_offline, offline_text

__all__ = ["Batch", "OfflineResult", "batch_grid", "measure_offline", "offline_text"]
