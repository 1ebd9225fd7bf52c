"""Interpretable models and rules distilled from the twin."""
