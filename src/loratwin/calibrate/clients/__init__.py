"""Coefficients from what clients saw, where no steps were logged."""
