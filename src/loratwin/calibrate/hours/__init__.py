"""Profiles from tables of measured hours: averages over serving runs, and micro measurements."""
