"""A scheduler with its log that lets nobody decode while a gate is closed: all prompts first, then all decode.

For engines in this very process (`offline.py`), which opens and closes the gate between steps.
"""

from __future__ import annotations

from typing import Any

from .steps import engine_scheduler, probed


class Gate:
    """Whether requests whose prompt is computed may go on."""

    open = True


class Scheduler:
    """Stands in for the engine's scheduler class; making one gives the engine's own with the gate and the log."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        config = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
        return probed(gated(engine_scheduler(config.scheduler_config)))(*args, **kwargs)


def gated(base: type[Any]) -> type[Any]:
    """A subclass of a scheduler class that obeys the gate."""
    return type(f"Gated{base.__name__}", (_Gated, base), {})


class _Gated:
    """Put before a scheduler class: what has its prompt done is not in `running` while the scheduler works."""

    running: list[Any]
    waiting: Any

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        if Gate.open:
            return super().schedule(*args, **kwargs)  # type: ignore[misc]
        held = [request for request in self.running if request.num_computed_tokens >= request.num_prompt_tokens]
        self.running = [request for request in self.running if request not in held]
        try:
            output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        finally:
            self.running = held + self.running
        if not output.num_scheduled_tokens and len(self.waiting):
            raise RuntimeError("prompts wait and none can be scheduled: the KV cache or max_num_seqs is too small")
        return output
