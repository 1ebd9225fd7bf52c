"""Batches in phases."""
