"""Data only: LLMs."""
