"""Rows become coefficients, with their errors."""
