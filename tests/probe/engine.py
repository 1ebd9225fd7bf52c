"""A scheduler with vLLM's names, small and literal, that keeps the truth about each step beside what it returns."""

from __future__ import annotations

from collections import deque
from types import SimpleNamespace
from typing import Any

BLOCK = 16


class Clock:
    """Stands in for the module `time`: it moves when it is told to."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now

    def monotonic_ns(self) -> int:
        return int(self.now * 1e9)

    def sleep(self, seconds: float) -> None:
        raise AssertionError("nothing here sleeps on this clock")


class Request:
    """`cached`: prompt tokens that the prefix cache holds when it is admitted for the first time."""

    def __init__(self, request_id: str, prompt: int, output: int, adapter: int, cached: int = 0) -> None:
        self.cached = cached
        self.request_id, self.num_prompt_tokens, self.max_tokens = request_id, prompt, output
        self.adapter = adapter  # 0: none
        self.lora_request = SimpleNamespace(lora_int_id=adapter) if adapter else None
        self.num_computed_tokens = self.num_outputs = self.num_output_placeholders = 0
        self.preempted = False

    @property
    def num_tokens(self) -> int:
        return self.num_prompt_tokens + self.num_outputs

    @property
    def known(self) -> int:
        return self.num_tokens + self.num_output_placeholders


class Pool:
    def __init__(self, scheduler: OldScheduler, num_blocks: int) -> None:
        self._scheduler, self.num_gpu_blocks = scheduler, num_blocks

    def get_num_free_blocks(self) -> int:
        return self.num_gpu_blocks - 1 - sum(self._scheduler.owned.values())


class OldScheduler:
    """The life of a request as engine.md 1.2 tells it, with the data structures of vLLM 0.8.

    Parameters
    ----------
    overlapping
        Asynchronous scheduling: a step may be scheduled before the one before it is out.
    """

    def __init__(
        self, *, clock: Clock, budget: int = 64, slots: int = 2, blocks: int = 1000, overlapping: bool = False
    ) -> None:
        self.budget, self.slots, self.overlapping, self.clock = budget, slots, overlapping, clock
        self.running: list[Request] = []
        self.waiting: Any = deque()
        self.requests: dict[str, Request] = {}
        self.owned: dict[str, int] = {}
        self.finished: set[str] = set()
        self.kv_cache_manager = SimpleNamespace(block_pool=Pool(self, blocks))
        self.lora_config = SimpleNamespace(max_loras=slots)
        self.truth: list[dict[str, int]] = []

    def add(self, request: Request) -> None:
        self.requests[request.request_id] = request
        self.waiting.append(request)

    def schedule(self) -> Any:
        self.clock.now += 0.001
        tokens: dict[Request, int] = {}
        preempted = self._walk_running(tokens)
        new, resumed, skipped = ([], [], 0) if preempted else self._walk_waiting(tokens)
        return self._output(tokens, new, resumed, preempted, skipped)

    def _walk_running(self, tokens: dict[Request, int]) -> int:
        preempted = 0
        for request in list(self.running):
            if request not in self.running:
                break
            n = min(request.known - request.num_computed_tokens, self.budget - sum(tokens.values()))
            if n == 0 or request.known - request.num_prompt_tokens >= request.max_tokens:
                continue
            while request in self.running and not self._take_blocks(request, n):
                preempted += 1
                self._preempt_last()
            if request in self.running:
                tokens[request] = n
        return preempted

    def _walk_waiting(self, tokens: dict[Request, int]) -> tuple[list[Request], list[Request], int]:
        new: list[Request] = []
        resumed: list[Request] = []
        skipped: list[Request] = []
        while self.waiting and (left := self.budget - sum(tokens.values())):
            request = self.waiting[0]
            if request.adapter and len(_adapters(tokens) - {request.adapter}) == self.slots:
                skipped.append(self.waiting.popleft())
                continue
            request.num_computed_tokens = 0 if request.preempted else request.cached
            n = min(request.known - request.num_computed_tokens, left)
            if not self._take_blocks(request, n):
                break
            self.running.append(self.waiting.popleft())
            (resumed if request.preempted else new).append(request)
            tokens[request] = n
        if skipped:
            self._put_back(skipped[::-1])
        return new, resumed, len(skipped)

    def _put_back(self, requests: list[Request]) -> None:
        self.waiting.extendleft(requests)

    def _take_blocks(self, request: Request, n: int) -> bool:
        more = -(-(request.num_computed_tokens + n) // BLOCK) - self.owned.get(request.request_id, 0)
        if more > self.kv_cache_manager.block_pool.get_num_free_blocks():
            return False
        self.owned[request.request_id] = self.owned.get(request.request_id, 0) + more
        return True

    def _preempt_last(self) -> None:
        request = self.running.pop()
        self.owned.pop(request.request_id)
        request.num_computed_tokens, request.preempted = 0, True
        self.waiting.appendleft(request)

    def _output(self, tokens: dict[Request, int], new: Any, resumed: Any, preempted: int, skipped: int) -> Any:
        if tokens:
            self._note_truth(tokens, preempted, skipped)
        output = SimpleNamespace(
            scheduled_new_reqs=[SimpleNamespace(req_id=r.request_id, lora_request=r.lora_request) for r in new],
            scheduled_cached_reqs=self._cached([request for request in tokens if request not in new], resumed),
            num_scheduled_tokens={request.request_id: n for request, n in tokens.items()},
            finished_req_ids=self.finished,
            emitting=[],
        )
        self.finished = set()
        for request, n in tokens.items():
            request.num_computed_tokens += n
            if request.num_computed_tokens == request.known:
                output.emitting.append(request)
                request.num_output_placeholders += self.overlapping
        return output

    def _cached(self, cached: list[Request], resumed: list[Request]) -> Any:
        return [
            SimpleNamespace(
                req_id=r.request_id, num_computed_tokens=r.num_computed_tokens, resumed_from_preemption=r in resumed
            )
            for r in cached
        ]

    def _note_truth(self, tokens: dict[Request, int], preempted: int, skipped: int) -> None:
        """A token past the prompt that is the only one missing is decode, all others are prefill."""
        row = dict.fromkeys(("decode_requests", "prefill_tokens", "decode_context", "prefill_context"), 0)
        for request, n in tokens.items():
            before = request.num_computed_tokens
            if before >= request.num_prompt_tokens and before + 1 == request.known:
                row["decode_requests"] += 1
                row["decode_context"] += before
            else:
                row["prefill_tokens"] += n
                row["prefill_context"] += n * before + n * n // 2
        row |= {"running": len(self.running), "waiting": len(self.waiting), "skipped": skipped}
        row |= {"distinct_adapters": len(_adapters(tokens)), "preemptions": preempted}
        self.truth.append({**row, "kv_blocks": sum(self.owned.values())})

    def update_from_output(self, output: Any, sampled: object = None) -> Any:
        for request in output.emitting:
            request.num_outputs += 1
            request.num_output_placeholders -= self.overlapping
            if request.num_outputs == request.max_tokens:
                self._finish(request)
        self.clock.now += 0.002
        return SimpleNamespace(outputs=[SimpleNamespace(new_token_ids=[7]) for _ in output.emitting])

    def _finish(self, request: Request) -> None:
        self.running.remove(request)
        self.owned.pop(request.request_id)
        del self.requests[request.request_id]
        self.finished.add(request.request_id)

    def shutdown(self) -> None:
        """As the engine's own: called when the server stops."""


class Queue(deque):  # type: ignore[type-arg]
    def prepend_requests(self, requests: list[Request]) -> None:
        self.extendleft(requests)


class Scheduler(OldScheduler):
    """The same with the data structures of today's vLLM."""

    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.waiting = Queue()

    def get_request_counts(self) -> tuple[int, int]:
        return len(self.running), len(self.waiting)

    def schedule(self, throttle_prefills: bool = False) -> Any:
        return super().schedule()

    def _put_back(self, requests: list[Request]) -> None:
        self.waiting.prepend_requests(requests)

    def _cached(self, cached: list[Request], resumed: list[Request]) -> Any:
        return SimpleNamespace(
            req_ids=[r.request_id for r in cached],
            resumed_req_ids={r.request_id for r in resumed},
            num_computed_tokens=[r.num_computed_tokens for r in cached],
        )

    def update_from_output(self, output: Any, sampled: object = None) -> Any:
        return {0: super().update_from_output(output, sampled)}


def _adapters(tokens: dict[Request, int]) -> set[int]:
    return {request.adapter for request in tokens if request.adapter}
