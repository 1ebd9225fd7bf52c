"""The twin: `simulate` one run, `replicate` it over seeds, `sweep` it over configurations."""

from loratwin.simulate.engine import served_capacity, simulate

__all__ = ["served_capacity", "simulate"]
