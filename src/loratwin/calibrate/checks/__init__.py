"""Workloads that a profile has not seen: chosen, predicted, scored, learned from."""
