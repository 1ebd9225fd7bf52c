"""Profiles from published tables: averages over serving runs, and micro measurements."""
