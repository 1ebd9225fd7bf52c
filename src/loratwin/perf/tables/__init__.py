"""Data only: GPUs."""
