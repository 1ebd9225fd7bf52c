"""loratwin: a digital twin of LLM servers with many LoRA adapters, and the planner built on it."""

__version__ = "0.1.0"
