"""A scheduler that is the engine's own and logs each step: what was in it, when it began, when its tokens came out."""

from __future__ import annotations

import copy
import importlib
import time
from collections import deque
from itertools import compress
from typing import Any

from .files import RowFile, note

COLUMNS = (
    ("step", "q"),
    ("start_s", "d"),  # CLOCK_MONOTONIC: the later of the end of the step before and the start of schedule()
    ("end_s", "d"),  # update_from_output() has returned
    ("schedule_start_s", "d"),
    ("schedule_s", "d"),
    ("decode_requests", "i"),
    ("prefill_tokens", "i"),
    ("decode_context", "q"),
    ("prefill_context", "q"),
    ("running", "i"),
    ("waiting", "i"),
    ("skipped", "i"),  # -1: this version does not tell
    ("distinct_adapters", "i"),
    ("kv_blocks", "i"),  # -1: this version does not tell
    ("preemptions", "i"),
    ("output_tokens", "i"),
)


class Scheduler:
    """Stands in for the engine's scheduler class; making one gives the engine's own with the log around it."""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        config = kwargs["vllm_config"] if "vllm_config" in kwargs else args[0]
        return probed(engine_scheduler(config.scheduler_config))(*args, **kwargs)


def engine_scheduler(config: Any) -> type[Any]:
    """The class that the engine would take by itself: the asynchronous one where steps overlap."""
    if hasattr(config, "get_scheduler_cls"):
        own = copy.copy(config)
        object.__setattr__(own, "scheduler_cls", None)
        found: type[Any] = own.get_scheduler_cls()
        if found is not Scheduler:
            return found
    overlapping = getattr(config, "async_scheduling", False)
    module, name = ("async_scheduler", "AsyncScheduler") if overlapping else ("scheduler", "Scheduler")
    plain: type[Any] = getattr(importlib.import_module(f"vllm.v1.core.sched.{module}"), name)
    return plain


def probed(base: type[Any]) -> type[Any]:
    """A subclass of a scheduler class that logs its steps."""
    return type(f"Probed{base.__name__}", (_Probed, base), {})


class _Probed:
    """Put before a scheduler class. Whatever fails in the log ends the log only."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._loratwin_steps: _StepLog | None = None
        try:
            self._loratwin_steps = _StepLog(self)
        except Exception as error:
            note(f"no steps are logged: {error!r}")

    def schedule(self, *args: Any, **kwargs: Any) -> Any:
        log = self._loratwin_steps
        if log is None:
            return super().schedule(*args, **kwargs)  # type: ignore[misc]
        try:
            log.before_schedule()
        except Exception as error:
            self._loratwin_end(error)
        start = time.monotonic()
        output = super().schedule(*args, **kwargs)  # type: ignore[misc]
        end = time.monotonic()
        try:
            log.after_schedule(output, start, end)
        except Exception as error:
            self._loratwin_end(error)
        return output

    def update_from_output(self, scheduler_output: Any, *args: Any, **kwargs: Any) -> Any:
        result = super().update_from_output(scheduler_output, *args, **kwargs)  # type: ignore[misc]
        end = time.monotonic()
        if self._loratwin_steps is not None:
            try:
                self._loratwin_steps.after_update(scheduler_output, result, end)
            except Exception as error:
                self._loratwin_end(error)
        return result

    def shutdown(self, *args: Any, **kwargs: Any) -> Any:
        if self._loratwin_steps is not None:
            self._loratwin_steps.file.flush()
        return super().shutdown(*args, **kwargs)  # type: ignore[misc]

    def _loratwin_end(self, error: Exception) -> None:
        if self._loratwin_steps is not None:
            self._loratwin_steps.file.flush()
            self._loratwin_steps = None
            note(f"the step log ends: {error!r}")


class _StepLog:
    """What is known of the requests between the steps, and the rows of the steps whose tokens are not out yet."""

    def __init__(self, scheduler: Any) -> None:
        self._scheduler = scheduler
        self._engine = time.monotonic_ns()  # tells this engine from another that writes into the same folder
        self._steps = 0
        self._last_end = float("-inf")
        self._running_before = 0
        self._adapter_of: dict[str, int] = {}  # 0: none
        self._prefilling: set[str] = set()  # requests with prompt (or tokens lost by preemption) still to compute
        self._pending: dict[int, tuple[Any, ...]] = {}
        self._skips = _count_skips(scheduler)
        self._pool = _block_pool(scheduler)
        self.file = RowFile("steps", COLUMNS, {"engine": self._engine, **_facts(scheduler)})

    def before_schedule(self) -> None:
        self._running_before = len(self._scheduler.running)
        if self._skips is not None:
            self._skips.skipped = 0

    def after_schedule(self, output: Any, start: float, end: float) -> None:
        scheduler, tokens = self._scheduler, output.num_scheduled_tokens
        resumed, computed = _cached(output.scheduled_cached_reqs)
        for request_id in output.finished_req_ids:
            self._adapter_of.pop(request_id, None)
            self._prefilling.discard(request_id)
        for new in output.scheduled_new_reqs:
            self._adapter_of[new.req_id] = new.lora_request.lora_int_id if new.lora_request else 0
            self._prefilling.add(new.req_id)
        self._prefilling.update(resumed)
        if not tokens:
            return  # nothing is computed: the worker is only told who has finished
        num_prefills, prefill_tokens, prefill_context, before = self._prefills(output)
        adapters = set(map(self._adapter_of.get, tokens))
        running = len(scheduler.running)
        admitted = len(output.scheduled_new_reqs) + len(resumed)
        self._pending[self._steps] = (
            start,
            end - start,
            len(tokens) - num_prefills,
            prefill_tokens,
            computed - before,
            prefill_context,
            running,
            _num_waiting(scheduler),
            -1 if self._skips is None else self._skips.skipped,
            len(adapters - {0, None}),
            -1 if self._pool is None else self._pool.num_gpu_blocks - 1 - self._pool.get_num_free_blocks(),
            self._running_before + admitted - running,  # nothing else leaves the running list while scheduling
        )
        output.loratwin_step = (self._engine, self._steps)  # travels to the worker: its loads name their step
        self._steps += 1

    def _prefills(self, output: Any) -> tuple[int, int, int, int]:
        """Requests with prompt tokens in this step, those tokens, tokens x context, and what running ones had before.

        The context is as in loratwin: a chunk of n tokens after c computed ones counts n * c + n * n // 2.
        """
        tokens, requests = output.num_scheduled_tokens, self._scheduler.requests
        new = {request.req_id for request in output.scheduled_new_reqs}
        ids = [request_id for request_id in self._prefilling if request_id in tokens]
        num_tokens = context = before = 0
        for request_id in ids:
            request, n = requests[request_id], tokens[request_id]
            computed = request.num_computed_tokens - n  # schedule() has already added n
            num_tokens += n
            context += n * computed + n * n // 2
            before += 0 if request_id in new else computed
            if request.num_computed_tokens >= request.num_tokens:
                self._prefilling.discard(request_id)
        return len(ids), num_tokens, context, before

    def after_update(self, output: Any, result: Any, end: float) -> None:
        name = getattr(output, "loratwin_step", None)
        row = self._pending.pop(name[1], None) if name is not None else None
        if name is None or row is None:
            return
        start = max(self._last_end, row[0])
        self._last_end = end
        self.file.add(name[1], start, end, *row, _num_output_tokens(result))


def _cached(cached: Any) -> tuple[Any, int]:
    """Of the requests that are not new: who comes back after preemption, and the sum of computed tokens."""
    if hasattr(cached, "num_computed_tokens"):
        resumed = getattr(cached, "resumed_req_ids", None)
        if resumed is None:  # until 0.11 a flag for each
            resumed = list(compress(cached.req_ids, cached.resumed_from_preemption))
        return resumed, sum(cached.num_computed_tokens)
    return [c.req_id for c in cached if c.resumed_from_preemption], sum(c.num_computed_tokens for c in cached)


def _num_waiting(scheduler: Any) -> int:
    if hasattr(scheduler, "get_request_counts"):
        return int(scheduler.get_request_counts()[1])
    return len(scheduler.waiting) + len(getattr(scheduler, "skipped_waiting", ()))


def _num_output_tokens(result: Any) -> int:
    """Tokens given out: one group for each client, or only one group (0.8)."""
    groups = result.values() if isinstance(result, dict) else [result]
    return sum([len(one.new_token_ids) for group in groups for one in group.outputs])


def _block_pool(scheduler: Any) -> Any:
    pool = getattr(getattr(scheduler, "kv_cache_manager", None), "block_pool", None)
    if hasattr(pool, "num_gpu_blocks") and hasattr(pool, "get_num_free_blocks"):
        return pool
    note("this version does not tell its KV blocks")
    return None


class _Skips:
    """How many waiting requests the scheduler passed over: it puts them back to the front of its queue all at once."""

    skipped = 0


def _count_skips(scheduler: Any) -> _Skips | None:
    skips, queue = _Skips(), scheduler.waiting
    if hasattr(scheduler, "skipped_waiting"):  # 0.18 to 0.25 keep them in a queue of their own
        queue = scheduler.skipped_waiting
    if type(queue) is deque:  # 0.8
        scheduler.waiting = _counting_deque(queue, skips)
    elif hasattr(queue, "prepend_requests"):
        _count_calls(queue, skips)
    else:
        note("this version does not tell which waiting requests it passed over")
        return None
    return skips


def _counting_deque(queue: deque[Any], skips: _Skips) -> deque[Any]:
    class Counting(deque):  # type: ignore[type-arg]
        def extendleft(self, items: Any) -> None:
            skips.skipped += len(items)
            super().extendleft(items)

    return Counting(queue)


def _count_calls(queue: Any, skips: _Skips) -> None:
    original = queue.prepend_requests

    def prepend_requests(requests: Any) -> None:
        skips.skipped += len(requests)
        original(requests)

    queue.prepend_requests = prepend_requests


def _facts(scheduler: Any) -> dict[str, Any]:
    """What the engine was started with, for the first line of the file; None: this version does not tell."""
    config = getattr(scheduler, "vllm_config", None)
    lora, cache = getattr(scheduler, "lora_config", None), getattr(scheduler, "cache_config", None)
    return {
        "engine_version": getattr(importlib.import_module("vllm"), "__version__", None),
        "async_scheduling": getattr(getattr(config, "scheduler_config", None), "async_scheduling", None),
        "max_loras": getattr(lora, "max_loras", None),
        "block_size": getattr(cache, "block_size", None),
        "num_kv_blocks": getattr(cache, "num_gpu_blocks", None),
    }
