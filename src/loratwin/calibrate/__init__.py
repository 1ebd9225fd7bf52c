"""Measurements become profiles: what to measure (`design`), what counts (`run_evidence`), fits, and checks of them."""
