"""The reference with asynchronous scheduling: literally, a step is scheduled while the one before it computes.

vLLM 0.32 (`v1/engine/core.py` step_with_batch_queue, `v1/core/sched/async_scheduler.py`), two batches under way: as
soon as step m - 1 was sent to the GPU the engine drains its input and schedules step m, with placeholders for the
tokens that step m - 1 will bring. Then it waits for them. So step m does not see what arrives, finishes or becomes free
meanwhile:

- a request whose last token is on its way stays in `running` and is not scheduled again;
- a request preempted while its token is on its way still gets it, and if it was the last one it leaves the queue;
- a step in which nothing can be scheduled takes no time.

Everything that a schedule did counts only once its step starts: one that would start after the window is forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field

from loratwin.kernel.types import StepFeatures
from tests.reference.engine import (
    Event,
    Place,
    ReferenceEngine,
    ReferenceTrace,
    Request,
    StepRecord,
)


@dataclass
class Plan:
    """A scheduled step: who computes how much, and what its features are, as far as they are known."""

    tokens: dict[Request, int]
    num_skipped: int
    emitters: list[Request] = field(default_factory=list)  # in running order
    prefill: dict[Request, tuple[int, int]] = field(default_factory=dict)  # tokens, computed before
    decode: dict[Request, int] = field(default_factory=dict)  # computed before
    end_s: float = math.nan


class AsyncReferenceEngine(ReferenceEngine):
    """A server that schedules one step ahead."""

    under_way: Plan | None = None

    def run(self) -> ReferenceTrace:
        """Alternate between scheduling a step and waiting for the one before it."""
        self.check = False  # the invariants are those of a server that waits
        while self.now_s < self.limits.window_s:
            num_events = len(self.events)
            self.drain_arrivals()
            if not self.waiting and not self.running:
                if not self.future or self.future[0].arrival_s >= self.limits.window_s:
                    break
                self.now_s = self.future[0].arrival_s
                continue
            counted = self.prefix_queries, self.prefix_hits
            plan = self.plan()
            self.wait()
            if self.now_s >= self.limits.window_s:
                self.prefix_queries, self.prefix_hits = counted
                for kind, index, _ in self.events[num_events:]:
                    follower = self.requests[index].follower
                    if kind == Event.REFUSE and follower is not None:
                        follower.arrival_s = math.inf
                for request in plan.tokens:
                    request.cached_tokens *= not math.isnan(request.admitted_s)
                self.events = [event for event in self.events[:num_events]] + [
                    event for event in self.events[num_events:] if event[0] in (Event.FIRST_TOKEN, Event.FINISH)
                ]
                break
            if plan.tokens:
                self.start(plan)
        if self.under_way:
            self.wait()
        return self.ordered_trace()

    def plan(self) -> Plan:
        """Schedule the next step; its tokens count as computed at once."""
        tokens, num_skipped = self.schedule()
        plan = Plan(tokens, num_skipped)
        for request, n in tokens.items():
            prompt_left = request.known + request.placeholders - request.computed
            first = request.generated + request.placeholders == 0
            again = request.recomputing and request.placeholders == 0
            if prompt_left > 1 or first or again:
                plan.prefill[request] = (n, request.computed)
            else:
                plan.decode[request] = request.computed
        for request, n in tokens.items():
            request.computed += n
            if request.computed == request.known + request.placeholders:
                plan.emitters.append(request)
        for request in tokens:
            request.placeholders += request in plan.emitters
        return plan

    def schedule_running(self, scheduled: dict[Request, int], budget: int) -> tuple[int, int]:
        """As the serial engine, but for requests that have all their tokens computed or on the way."""
        num_preempted = 0
        i = 0
        while i < len(self.running) and budget > 0:
            request = self.running[i]
            if request.generated + request.placeholders == request.output_tokens:
                i += 1
                continue
            num_tokens = min(request.known + request.placeholders - request.computed, budget)
            while self.new_blocks(request, num_tokens) > self.free_blocks:
                victim = self.running.pop()
                self.preempt(victim, by=request)
                victim.placeholders = 0
                num_preempted += 1
                if victim is request:
                    break
            if request.place is Place.WAITING:
                break
            self.take_blocks(request, num_tokens)
            scheduled[request] = num_tokens
            budget -= num_tokens
            i += 1
        return budget, num_preempted

    def schedule_waiting(self, scheduled: dict[Request, int], budget: int) -> int:
        """As the serial engine; the adapters that hold a place are those of the scheduled, or of all that run."""
        holders = self.running if self.limits.rules.lora_set_of_running else list(scheduled)
        loras = {request.adapter for request in holders if request.adapter >= 0}
        skipped: deque[Request] = deque()
        while self.waiting and budget > 0 and len(self.running) < self.limits.max_num_seqs:
            request = self.waiting[0]
            if request.adapter >= 0 and request.adapter not in loras and len(loras) == self.limits.max_loras:
                skipped.append(self.waiting.popleft())
                continue
            found = self.find_prefix(request)
            num_tokens = min(request.known - found, budget)
            if self.blocks_to_admit(request, num_tokens, found) > self.free_blocks:
                break
            self.waiting.popleft()
            self.admit(request)
            self.adopt_prefix(request)
            if request.adapter >= 0:
                loras.add(request.adapter)
            self.take_blocks(request, num_tokens)
            scheduled[request] = num_tokens
            budget -= num_tokens
        self.waiting = skipped + self.waiting
        return len(skipped)

    def start(self, plan: Plan) -> None:
        """Send a step to the GPU; what it reports of the queue is as of now."""
        step = len(self.steps)
        for request in plan.tokens:
            if math.isnan(request.admitted_s):
                request.admitted_s = self.now_s
        features = StepFeatures(
            decode_requests=len(plan.decode),
            prefill_tokens=sum(n for n, _ in plan.prefill.values()),
            decode_context=sum(plan.decode.values()),
            prefill_context=sum(n * before + n * n // 2 for n, before in plan.prefill.values()),
            distinct_adapters=len({request.adapter for request in plan.tokens if request.adapter >= 0}),
            lora_decode_requests=sum(request.adapter >= 0 for request in plan.decode),
            lora_prefill_tokens=sum(n for request, (n, _) in plan.prefill.items() if request.adapter >= 0),
            waiting=len(self.waiting),
            skipped=plan.num_skipped,
            running=len(self.running),
        )
        used = self.limits.num_blocks - self.free_blocks
        loads = self.apply_adapters(plan.tokens)
        duration_s = self.step_time_s(features) + self.loading_s(loads)
        swap_ins = sum(event == Event.SWAP_IN for event, _ in loads)
        self.steps.append(StepRecord(self.now_s, duration_s, features, used, swap_ins, len(loads) - swap_ins))
        assert len(self.steps) == step + 1
        plan.end_s = self.now_s + duration_s
        self.under_way = plan

    def wait(self) -> None:
        """Wait for the step under way, if there is one, and take its tokens."""
        if self.under_way is None:
            return
        plan, self.under_way = self.under_way, None
        self.now_s = plan.end_s
        step = len(self.steps) - 1
        for request in plan.emitters:
            request.generated += 1
            if request.place is Place.RUNNING:
                request.placeholders -= 1
                request.recomputing = False
                self.token_came(request)
            if request.generated == 1:
                request.first_token_s = self.now_s
                self.events.append((int(Event.FIRST_TOKEN), request.index, step))
            if request.generated == request.output_tokens:
                self.leave(request, step)

    def token_came(self, request: Request) -> None:
        """A running request knows a token more."""

    def leave(self, request: Request, step: int) -> None:
        """Forget a request that has its last token, wherever it is."""
        (self.running if request.place is Place.RUNNING else self.waiting).remove(request)
        request.finish_s, request.place = self.now_s, Place.FINISHED
        self.give_back_blocks(request)
        self.events.append((int(Event.FINISH), request.index, step))
        self.next_turn(request, self.now_s)

    def ordered_trace(self) -> ReferenceTrace:
        """The trace with events by step, and counts of only what came to pass."""
        self.events.sort(key=lambda event: event[2])  # stable: what is scheduled, then what is emitted
        trace = self.trace()
        preempted = [index for kind, index, _ in self.events if kind == Event.PREEMPT]
        refused = {index for kind, index, _ in self.events if kind == Event.REFUSE}
        num = len(self.requests)
        return trace._replace(
            num_preemptions=[preempted.count(i) for i in range(num)], refused=[i in refused for i in range(num)]
        )


class SkippedFirst(ReferenceEngine):
    """vLLM 0.18 to 0.25: requests passed over stay in a queue of their own, `skipped_waiting`, tried before `waiting`.

    `waiting` here holds both, one behind the other; `skipped_waiting` says which are in the first.
    """

    def run(self) -> ReferenceTrace:
        self.check = False  # a preempted request can be passed over here
        self.skipped_waiting: set[Request] = set()
        return super().run()

    def preempt(self, victim: Request, by: Request) -> None:
        """To the front of the second queue."""
        super().preempt(victim, by)
        assert self.waiting.popleft() is victim
        self.waiting.insert(len(self.skipped_waiting), victim)

    def admit(self, request: Request) -> None:
        """Out of whichever queue it is in."""
        super().admit(request)
        self.skipped_waiting.discard(request)

    def schedule_waiting(self, scheduled: dict[Request, int], budget: int) -> int:
        """Those passed over in this step go to the first queue, or stay there."""
        num_skipped = super().schedule_waiting(scheduled, budget)
        self.skipped_waiting |= set(list(self.waiting)[:num_skipped])
        assert set(list(self.waiting)[: len(self.skipped_waiting)]) == self.skipped_waiting
        return num_skipped


class AsyncSkippedFirst(SkippedFirst, AsyncReferenceEngine):
    """Both."""


ENGINES: dict[tuple[int, int], type[ReferenceEngine]] = {
    (0, 0): ReferenceEngine, (1, 0): AsyncReferenceEngine, (0, 1): SkippedFirst, (1, 1): AsyncSkippedFirst,
}  # fmt: skip
"""By the rules of asynchronous scheduling and of requests passed over."""
