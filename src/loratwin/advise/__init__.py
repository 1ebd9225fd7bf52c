"""Advice from a sweep of the batch: the batch beyond which memory buys nothing, and replicas for what it frees."""

from loratwin.advise.batch import BatchAdvice, advise_batch, efficiency
from loratwin.advise.replicas import (
    ReplicaAdvice,
    Replicas,
    advise_replicas,
    best_replicas,
    cycle_s,
    predict_replicas,
)
from loratwin.advise.slots import SlotPrice, SlotPrices, price_slots
from loratwin.advise.sources import find_sweep, known_shapes
from loratwin.advise.sweep import BatchPoint, BatchSweep, read_sweeps, sweep_of_runs, sweep_twin

__all__ = [
    "BatchAdvice",
    "BatchPoint",
    "BatchSweep",
    "ReplicaAdvice",
    "Replicas",
    "SlotPrice",
    "SlotPrices",
    "advise_batch",
    "advise_replicas",
    "best_replicas",
    "cycle_s",
    "efficiency",
    "find_sweep",
    "known_shapes",
    "predict_replicas",
    "price_slots",
    "read_sweeps",
    "sweep_of_runs",
    "sweep_twin",
]
