"""Measurements become profiles: what to measure (`design`), what counts (`evidence`), fits, and checks of them."""
