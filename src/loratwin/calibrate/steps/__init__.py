"""Coefficients from logged engine steps."""
