"""The engine, slow and literal: the specification that the fast kernel is compared with.

One `ReferenceEngine` is one vLLM 0.8.5 server. Every request is an object that is visited at every step; there are no
calendars, no running sums and no arrays. Read `run`, then `step`, then the methods in the order in which
`step` calls them: that is DESIGN.md, "Contract: kernel", line by line.

All times are seconds from the start of the run; a time that never came is NaN.
"""

from __future__ import annotations

import math
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import TYPE_CHECKING, NamedTuple

from loratwin.kernel.types import AdapterCosts, EngineLimits, Requests, StepFeatures

if TYPE_CHECKING:
    from tests.reference.prefix_cache import Block

StepTime = Callable[[StepFeatures], float]
"""Seconds that a step with these features takes, without loading adapters."""


class Event(IntEnum):
    """What can happen to a request (or, for DISK_LOAD and SWAP_IN, to an adapter)."""

    ARRIVE = 0
    REFUSE = 1
    PREEMPT = 2
    ADMIT = 3
    DISK_LOAD = 4
    SWAP_IN = 5
    FIRST_TOKEN = 6
    FINISH = 7


class Corner(Enum):
    """Rare situations, noted where they occur so that tests can prove that they were reached."""

    CHUNKED_PREFILL = "a prompt does not fit the budget of one step"
    BUDGET_SPENT = "the budget ends before the waiting queue does"
    SEQS_LIMIT = "max_num_seqs stops admission"
    KV_BLOCKED = "the head of the queue lacks KV blocks"
    KV_BLOCKED_OTHERS = "... and others wait behind it"
    PREEMPTION = "a running request is preempted"
    DOUBLE_PREEMPTION = "two or more are preempted in one step"
    TRIPLE_PREEMPTION = "three or more are preempted in one step"
    SELF_PREEMPTION = "a request preempts itself"
    SELF_PREEMPTION_MID_PREFILL = "... in the middle of its prompt"
    SELF_PREEMPTION_MID_RECOMPUTE = "... in the middle of its recomputation"
    PREEMPTED_BEFORE_FIRST_TOKEN = "a request is preempted before it emitted anything"
    PREEMPTED_TWICE = "a request is preempted for the second time"
    ADMISSION_HELD_BACK = "somebody would have fitted, had nobody been preempted in this step"
    RESUMED = "a preempted request is admitted again"
    RESUMED_ONE_TOKEN_LEFT = "the last chunk of a recomputation is one token: still prefill"
    ARRIVES_BEHIND_VICTIMS = "an arrival finds only preempted requests of its adapter waiting"
    ARRIVES_BEHIND_OLD_VICTIMS = "... and the one of them admitted last has long finished"
    SKIP = "a waiting request is skipped because the slots are taken"
    STOP_AFTER_SKIP = "the walk ends after a skip, with requests that it did not look at"
    OVERTAKEN = "a skipped request is overtaken by a younger one"
    OVERTAKEN_BY_BASE = "... by one without adapter"
    SWAP_IN = "an adapter is copied into a slot"
    SLOT_CASCADE = "an adapter of this very step is evicted from its slot and comes back"
    DISK_LOAD = "an adapter is loaded from disk"
    HOST_EVICTION_FREES_SLOT = "an adapter leaves the host cache and its slot"
    HOST_CASCADE = "an adapter of this very step is evicted from the host cache and comes back"
    MIXED_BATCH = "requests with and without adapter in one step"
    REFUSAL = "an arrival finds too many requests in flight"
    ARRIVES_AS_STEP_ENDS = "an arrival at the very end of a step"
    IDLE = "the engine waits for an arrival"
    CUT_BY_WINDOW = "the window ends while requests are in flight"
    NEVER_ENQUEUED = "the window ends before an arrival is looked at"


class StepRecord(NamedTuple):
    """One engine step."""

    start_s: float
    duration_s: float  # with loading of adapters
    features: StepFeatures
    kv_blocks_used: int  # after scheduling, before anything finishes
    num_swap_ins: int
    num_disk_loads: int


class ReferenceTrace(NamedTuple):
    """What happened to each request (lists of length num_requests), in each step, and in which order."""

    admitted_s: list[float]  # start of the step in which it was first scheduled
    first_token_s: list[float]
    finish_s: list[float]
    num_preemptions: list[int]
    refused: list[bool]
    steps: list[StepRecord]
    events: list[tuple[int, int, int]]  # kind, request or adapter, index of the step
    corners: set[Corner]
    arrival_s: list[float]  # infinite: the request before it has not ended
    cached_tokens: list[int]  # found in the prefix cache at the first admission
    prefix_queries: int  # tokens looked up in the prefix cache, as the server counts them
    prefix_hits: int  # tokens found


class Place(Enum):
    """Where a request is."""

    FUTURE = "not arrived"
    REFUSED = "refused"
    WAITING = "waiting"
    RUNNING = "running"
    FINISHED = "finished"


@dataclass(eq=False, slots=True)
class Request:
    """One request and all that the engine knows of it."""

    index: int
    arrival_s: float
    adapter: int  # -1: none
    prompt_tokens: int
    output_tokens: int
    place: Place = Place.FUTURE
    generated: int = 0  # tokens emitted; kept when preempted
    computed: int = 0  # tokens in the KV cache; lost when preempted
    num_blocks: int = 0  # KV blocks owned
    recomputing: bool = False  # preempted, and nothing emitted since
    placeholders: int = 0  # tokens that a step under way will emit (async_engine.py)
    blocks: list[Block] = field(default_factory=list)  # that it owns, with a prefix cache (prefix_cache.py)
    cached_tokens: int = 0
    follower: Request | None = None  # who waits for its end
    think_s: float = 0.0  # from the end of the one before to its own arrival
    num_preemptions: int = 0
    admitted_s: float = math.nan
    first_token_s: float = math.nan
    finish_s: float = math.nan

    @property
    def known(self) -> int:
        """Tokens whose values are known: prompt and generated ones."""
        return self.prompt_tokens + self.generated

    @property
    def is_prefill(self) -> bool:
        """Whether its next tokens count as prefill (True) or as one decode token."""
        return self.known - self.computed > 1 or self.generated == 0 or self.recomputing


class AdapterTiers:
    """The adapters in host memory and those in slots: two LRU orders, oldest first (LRUCacheWorkerLoRAManager)."""

    def __init__(self, num_adapters: int, max_loras: int, max_cpu_loras: int) -> None:
        self.max_loras = max_loras
        self.max_cpu_loras = max_cpu_loras
        self.registered: OrderedDict[int, None] = OrderedDict()
        self.active: OrderedDict[int, None] = OrderedDict()
        for adapter in range(num_adapters):  # as if each had been used once, in index order, before the run
            if adapter >= num_adapters - max_cpu_loras:
                self.registered[adapter] = None
            if adapter >= num_adapters - max_loras:
                self.active[adapter] = None

    def apply(self, batch: set[int], note: Callable[[Corner], None]) -> list[tuple[Event, int]]:
        """Bring the adapters of a step into slots, in ascending order; the loads and swap-ins in the order done."""
        done: list[tuple[Event, int]] = []
        for adapter in sorted(batch):
            if self._register(adapter, batch, note):
                done.append((Event.DISK_LOAD, adapter))
            if self._activate(adapter, batch, note):
                done.append((Event.SWAP_IN, adapter))
        return done

    def _register(self, adapter: int, batch: set[int], note: Callable[[Corner], None]) -> bool:
        """Have the adapter in host memory as the most recently used; whether it came from disk."""
        if adapter in self.registered:
            self.registered.move_to_end(adapter)
            return False
        if len(self.registered) == self.max_cpu_loras:
            evicted, _ = self.registered.popitem(last=False)
            if evicted in batch:
                note(Corner.HOST_CASCADE)
            if evicted in self.active:
                note(Corner.HOST_EVICTION_FREES_SLOT)
                del self.active[evicted]
        self.registered[adapter] = None
        return True

    def _activate(self, adapter: int, batch: set[int], note: Callable[[Corner], None]) -> bool:
        """Have the adapter in a slot as the most recently used; whether it had to be copied there."""
        if adapter in self.active:
            self.active.move_to_end(adapter)
            return False
        if len(self.active) == self.max_loras:
            evicted, _ = self.active.popitem(last=False)
            if evicted in batch:
                note(Corner.SLOT_CASCADE)
        self.active[adapter] = None
        return True


class ReferenceEngine:
    """One server: a clock, the requests by place, the KV blocks and the adapters."""

    def __init__(
        self,
        requests: Requests,
        limits: EngineLimits,
        costs: AdapterCosts,
        num_adapters: int,
        step_time_s: StepTime,
        check: bool = True,
    ) -> None:
        self.limits = limits
        self.swap_in_s: list[float] = costs.swap_in_s.tolist()
        self.disk_load_s: list[float] = costs.disk_load_s.tolist()
        self.step_time_s = step_time_s
        self.check = check
        columns = (requests.arrival_s, requests.adapter, requests.prompt_tokens, requests.output_tokens)
        rows = zip(*(column.tolist() for column in columns), strict=True)
        self.requests = [Request(index, *row) for index, row in enumerate(rows)]
        self.now_s = 0.0
        self.future = deque(self.requests)
        self.wait_for_others(requests)
        self.waiting: deque[Request] = deque()
        self.running: list[Request] = []
        self.free_blocks = limits.num_blocks
        self.adapters = AdapterTiers(num_adapters, limits.max_loras, limits.max_cpu_loras)
        self.steps: list[StepRecord] = []
        self.events: list[tuple[int, int, int]] = []
        self.corners: set[Corner] = set()

        self.prefix_queries = self.prefix_hits = 0

    def wait_for_others(self, requests: Requests) -> None:
        """Those that follow others have no time of their own."""
        for request, before in zip(self.requests, requests.follows.tolist(), strict=False):
            if before >= 0:
                request.think_s = float(requests.think_s[request.index])
                request.arrival_s = math.inf
                self.requests[before].follower = request
                self.future.remove(request)

    # The clock

    def run(self) -> ReferenceTrace:
        """Step until the window ends or nothing is left to do."""
        window_s = self.limits.window_s
        while self.now_s < window_s:
            self.drain_arrivals()
            if self.waiting or self.running:
                self.step()
                continue
            if not self.future or self.future[0].arrival_s >= window_s:
                break
            self.now_s = self.future[0].arrival_s
            self.note(Corner.IDLE)
        self.check_end()
        return self.trace()

    def drain_arrivals(self) -> None:
        """Enqueue, or refuse, what arrived up to now."""
        limit = self.limits.max_in_flight
        while self.future and self.future[0].arrival_s <= self.now_s:
            request = self.future.popleft()
            self.note(Corner.ARRIVES_AS_STEP_ENDS, self.running and request.arrival_s == self.now_s)
            if limit > 0 and len(self.waiting) + len(self.running) >= limit:
                request.place = Place.REFUSED
                self.record(Event.REFUSE, request.index)
                self.note(Corner.REFUSAL)
                self.next_turn(request, request.arrival_s)
            else:
                self.note_behind_victims(request)
                request.place = Place.WAITING
                self.waiting.append(request)
                self.record(Event.ARRIVE, request.index)

    def next_turn(self, request: Request, end_s: float) -> None:
        """A request has ended (refused: as it arrived): who waited for it will arrive."""
        follower = request.follower
        if follower is not None:
            follower.arrival_s = end_s + follower.think_s
            self.future.append(follower)
            self.future = deque(sorted(self.future, key=lambda other: (other.arrival_s, other.index)))

    def step(self) -> None:
        """Schedule, bring adapters into slots, compute, emit."""
        scheduled, num_skipped = self.schedule()
        self.check_schedule(scheduled)
        kv_blocks_used = self.limits.num_blocks - self.free_blocks
        features = self.features(scheduled, num_skipped)
        loads = self.apply_adapters(scheduled)
        start_s, duration_s = self.now_s, self.step_time_s(features) + self.loading_s(loads)
        for request in scheduled:
            if math.isnan(request.admitted_s):
                request.admitted_s = start_s
        self.now_s += duration_s
        self.advance(scheduled)
        self.emit_tokens(scheduled)
        self.check_state()
        num_swap_ins = sum(event == Event.SWAP_IN for event, _ in loads)
        num_disk_loads = sum(event == Event.DISK_LOAD for event, _ in loads)
        self.steps.append(StepRecord(start_s, duration_s, features, kv_blocks_used, num_swap_ins, num_disk_loads))

    # Scheduling: who computes how many tokens in this step

    def schedule(self) -> tuple[dict[Request, int], int]:
        """Tokens to compute for each scheduled request, in running order; how many waiting ones were skipped."""
        scheduled: dict[Request, int] = {}
        num_skipped = 0
        budget = self.limits.max_num_batched_tokens
        budget, num_preempted = self.schedule_running(scheduled, budget)
        if num_preempted == 0:
            num_skipped = self.schedule_waiting(scheduled, budget)
        else:
            self.note_held_back(scheduled, budget)
        return scheduled, num_skipped

    def schedule_running(self, scheduled: dict[Request, int], budget: int) -> tuple[int, int]:
        """Contract 3A: in admission order; who needs a block that is not there preempts from the back."""
        num_preempted = 0
        i = 0
        while i < len(self.running) and budget > 0:
            request = self.running[i]
            num_tokens = min(request.known - request.computed, budget)
            while self.new_blocks(request, num_tokens) > self.free_blocks:
                victim = self.running.pop()
                self.preempt(victim, by=request)
                num_preempted += 1
                if victim is request:
                    break
            if request.place is Place.WAITING:  # it preempted itself
                break
            self.take_blocks(request, num_tokens)
            scheduled[request] = num_tokens
            budget -= num_tokens
            i += 1
        self.note(Corner.DOUBLE_PREEMPTION, num_preempted >= 2)
        self.note(Corner.TRIPLE_PREEMPTION, num_preempted >= 3)
        return budget, num_preempted

    def preempt(self, victim: Request, by: Request) -> None:
        """Take all blocks of a request just removed from running and put it in front of the queue."""
        self.note_preemption(victim, by)
        self.give_back_blocks(victim)
        victim.computed = 0
        victim.recomputing = True
        victim.num_preemptions += 1
        victim.place = Place.WAITING
        self.waiting.appendleft(victim)
        self.record(Event.PREEMPT, victim.index)

    def schedule_waiting(self, scheduled: dict[Request, int], budget: int) -> int:
        """Contract 3B and 3C: in queue order; a missing slot skips one request, a missing KV block stops all.

        Returns the number of requests skipped before the walk ended, whatever ended it.
        """
        loras = {request.adapter for request in scheduled if request.adapter >= 0}
        skipped: deque[Request] = deque()
        while self.waiting and budget > 0:
            if len(self.running) == self.limits.max_num_seqs:
                self.note(Corner.SEQS_LIMIT)
                break
            request = self.waiting[0]
            if request.adapter >= 0 and request.adapter not in loras and len(loras) == self.limits.max_loras:
                # A preempted request had a slot and returns before any new adapter can take it: it is never skipped.
                assert not (self.check and request.recomputing)
                skipped.append(self.waiting.popleft())
                self.note(Corner.SKIP)
                continue
            found = self.find_prefix(request)
            num_tokens = min(request.known - found, budget)
            if self.blocks_to_admit(request, num_tokens, found) > self.free_blocks:
                self.note(Corner.KV_BLOCKED)
                self.note(Corner.KV_BLOCKED_OTHERS, len(self.waiting) > 1)
                break
            self.waiting.popleft()
            self.admit(request)
            self.adopt_prefix(request)
            if request.adapter >= 0:
                loras.add(request.adapter)
            self.take_blocks(request, num_tokens)
            scheduled[request] = num_tokens
            budget -= num_tokens
            self.note(Corner.OVERTAKEN, skipped)
            self.note(Corner.OVERTAKEN_BY_BASE, skipped and request.adapter < 0)
            self.note(Corner.CHUNKED_PREFILL, num_tokens < request.known - found)
        self.note(Corner.BUDGET_SPENT, self.waiting and budget == 0)
        self.note(Corner.STOP_AFTER_SKIP, skipped and self.waiting)
        self.waiting = skipped + self.waiting  # a skipped request keeps its place
        return len(skipped)

    def admit(self, request: Request) -> None:
        """Append a request just removed from waiting to running."""
        request.place = Place.RUNNING
        self.running.append(request)
        self.record(Event.ADMIT, request.index)
        self.note(Corner.RESUMED, request.recomputing)

    def find_prefix(self, request: Request) -> int:
        """Tokens of a waiting request that are in the KV cache already: none without a prefix cache."""
        return 0

    def adopt_prefix(self, request: Request) -> None:
        """Give an admitted request the blocks that were found."""

    def blocks_to_admit(self, request: Request, num_tokens: int, found: int) -> int:
        """KV blocks that must be free to admit a request with so many tokens in its first step, `found` before them."""
        rules = self.limits.rules
        num_tokens = request.known if rules.reserve_full_prompt else found + num_tokens
        watermark = rules.watermark_blocks if self.running else 0
        return self.new_blocks(request, num_tokens) + watermark

    def new_blocks(self, request: Request, num_tokens: int) -> int:
        """KV blocks that a request must get before it can compute so many tokens more."""
        return math.ceil((request.computed + num_tokens) / self.limits.block_size) - request.num_blocks

    def take_blocks(self, request: Request, num_tokens: int) -> None:
        """Give a request the blocks that it needs for so many tokens more."""
        num_blocks = self.new_blocks(request, num_tokens)
        self.free_blocks -= num_blocks
        request.num_blocks += num_blocks

    def give_back_blocks(self, request: Request) -> None:
        """All blocks of a request are free again."""
        self.free_blocks += request.num_blocks
        request.num_blocks = 0

    # Computing: how long the step takes and what comes out of it

    def features(self, scheduled: dict[Request, int], num_skipped: int) -> StepFeatures:
        """What the step computes, before any of it is counted as computed."""
        prefill = {request: n for request, n in scheduled.items() if request.is_prefill}
        decode = [request for request in scheduled if not request.is_prefill]
        self.note(Corner.RESUMED_ONE_TOKEN_LEFT, any(r.recomputing and r.known - r.computed == 1 for r in prefill))
        return StepFeatures(
            decode_requests=len(decode),
            prefill_tokens=sum(prefill.values()),
            decode_context=sum(request.computed for request in decode),
            prefill_context=sum(n * request.computed + n * n // 2 for request, n in prefill.items()),
            distinct_adapters=len(adapters_of(scheduled)),
            lora_decode_requests=sum(request.adapter >= 0 for request in decode),
            lora_prefill_tokens=sum(n for request, n in prefill.items() if request.adapter >= 0),
            waiting=len(self.waiting),
            skipped=num_skipped,
            running=len(self.running),
        )

    def apply_adapters(self, scheduled: dict[Request, int]) -> list[tuple[Event, int]]:
        """Contract 4: loads and swap-ins that this step has to wait for."""
        loads = self.adapters.apply(adapters_of(scheduled), self.note)
        for event, adapter in loads:
            self.record(event, adapter)
            self.note(Corner.DISK_LOAD if event == Event.DISK_LOAD else Corner.SWAP_IN)
        self.note(Corner.MIXED_BATCH, len({request.adapter >= 0 for request in scheduled}) == 2)
        return loads

    def loading_s(self, loads: list[tuple[Event, int]]) -> float:
        """Seconds that loads and swap-ins take, one after the other."""
        return sum(self.disk_load_s[a] if event == Event.DISK_LOAD else self.swap_in_s[a] for event, a in loads)

    def advance(self, scheduled: dict[Request, int]) -> None:
        """Count the tokens of the step as computed."""
        for request, num_tokens in scheduled.items():
            request.computed += num_tokens

    def emit_tokens(self, scheduled: dict[Request, int]) -> None:
        """Contract 6: a request with all known tokens computed emits one more, and finishes with its last."""
        for request in list(self.running):
            if request not in scheduled or request.computed < request.known:
                continue
            request.generated += 1
            request.recomputing = False
            if request.generated == 1:
                request.first_token_s = self.now_s
                self.record(Event.FIRST_TOKEN, request.index)
            if request.generated == request.output_tokens:
                self.finish(request)

    def finish(self, request: Request) -> None:
        """Let a request leave with all its blocks freed."""
        request.finish_s = self.now_s
        request.place = Place.FINISHED
        self.running.remove(request)
        self.give_back_blocks(request)
        self.record(Event.FINISH, request.index)
        self.next_turn(request, self.now_s)

    # What is reported

    def record(self, kind: Event, index: int) -> None:
        """Record that something happened in the current step, or in the drain before it."""
        self.events.append((int(kind), index, len(self.steps)))

    def trace(self) -> ReferenceTrace:
        """Everything that happened."""
        self.note(Corner.CUT_BY_WINDOW, self.waiting or self.running)
        self.note(Corner.NEVER_ENQUEUED, self.future)
        return ReferenceTrace(
            admitted_s=[request.admitted_s for request in self.requests],
            first_token_s=[request.first_token_s for request in self.requests],
            finish_s=[request.finish_s for request in self.requests],
            num_preemptions=[request.num_preemptions for request in self.requests],
            refused=[request.place is Place.REFUSED for request in self.requests],
            steps=self.steps,
            events=self.events,
            corners=self.corners,
            arrival_s=[request.arrival_s for request in self.requests],
            cached_tokens=[request.cached_tokens for request in self.requests],
            prefix_queries=self.prefix_queries,
            prefix_hits=self.prefix_hits,
        )

    def note(self, corner: Corner, reached: object = True) -> None:
        """Remember that a corner was reached; changes nothing else."""
        if reached:
            self.corners.add(corner)

    def note_preemption(self, victim: Request, by: Request) -> None:
        """Remember which kind of preemption this is; changes nothing else."""
        mid_prefill = 0 < victim.computed < victim.known - 1
        self.note(Corner.PREEMPTION)
        self.note(Corner.PREEMPTED_TWICE, victim.num_preemptions == 1)
        self.note(Corner.PREEMPTED_BEFORE_FIRST_TOKEN, victim.generated == 0)
        self.note(Corner.SELF_PREEMPTION, victim is by)
        self.note(Corner.SELF_PREEMPTION_MID_PREFILL, victim is by and victim.generated == 0)
        self.note(Corner.SELF_PREEMPTION_MID_RECOMPUTE, victim is by and victim.recomputing and mid_prefill)

    def note_behind_victims(self, arrival: Request) -> None:
        """Remember if all that wait for the arrival's adapter were preempted; changes nothing else."""
        ahead = (request.recomputing for request in self.waiting if request.adapter == arrival.adapter)
        if not next(ahead, False) or not all(ahead):
            return
        self.note(Corner.ARRIVES_BEHIND_VICTIMS)
        admitted = [self.requests[index] for kind, index, _ in self.events if kind == Event.ADMIT]
        last = [request for request in admitted if request.adapter == arrival.adapter][-1]
        self.note(Corner.ARRIVES_BEHIND_OLD_VICTIMS, last.place is Place.FINISHED)

    def note_held_back(self, scheduled: dict[Request, int], budget: int) -> None:
        """Remember if the head of the queue would have been admitted without the preemption; changes nothing else."""
        head = self.waiting[0]
        loras = adapters_of(scheduled)
        has_slot = head.adapter < 0 or head.adapter in loras or len(loras) < self.limits.max_loras
        has_blocks = self.new_blocks(head, min(head.known, budget)) <= self.free_blocks
        self.note(Corner.ADMISSION_HELD_BACK, budget > 0 and has_slot and has_blocks)

    # What always holds

    def check_end(self) -> None:
        """Assert what must hold of the requests that are not in flight when the run ends."""
        if not self.check:
            return
        for request in self.requests:
            if request.place is Place.FINISHED:
                assert request.generated == request.output_tokens
                assert request.computed == request.known - 1
                assert request.admitted_s < request.first_token_s <= request.finish_s <= self.now_s
            elif request.place in (Place.FUTURE, Place.REFUSED):
                assert request.computed == request.generated == request.num_preemptions == 0
                assert math.isnan(request.admitted_s)
            else:
                assert math.isnan(request.finish_s)
            assert request.place is Place.RUNNING or request.num_blocks == 0

    def check_schedule(self, scheduled: dict[Request, int]) -> None:
        """Assert what must hold once a step is scheduled."""
        if not self.check:
            return
        limits = self.limits
        assert scheduled, "a step computes something"
        assert all(n >= 1 for n in scheduled.values())
        assert sum(scheduled.values()) <= limits.max_num_batched_tokens
        assert len(self.running) <= limits.max_num_seqs
        assert list(scheduled) == self.running, "the budget reaches everybody that runs, in admission order"
        assert len(adapters_of(scheduled)) <= limits.max_loras
        for request, num_tokens in scheduled.items():
            assert request.computed + num_tokens <= request.known
            assert request.num_blocks == math.ceil((request.computed + num_tokens) / limits.block_size)
        partial = [request for request, n in scheduled.items() if request.computed + n < request.known]
        assert partial in ([], self.running[-1:]), "only the last admitted can be in the middle of its prompt"

    def check_state(self) -> None:
        """Assert what must hold after every step."""
        if not self.check:
            return
        self.check_places()
        self.check_blocks()
        self.check_adapters()

    def check_places(self) -> None:
        """Every request is in exactly one place, and those in flight are as far as their place says."""
        lists = ((Place.FUTURE, self.future), (Place.WAITING, self.waiting), (Place.RUNNING, self.running))
        for place, members in lists:
            assert all(request.place is place for request in members)
        num_gone = sum(request.place in (Place.REFUSED, Place.FINISHED) for request in self.requests)
        num_hidden = sum(request.arrival_s == math.inf for request in self.requests)  # they follow one that goes on
        assert sum(len(members) for _, members in lists) + num_gone + num_hidden == len(self.requests)
        for request in self.waiting:
            assert request.computed == 0
            assert request.recomputing == (request.num_preemptions > 0)
            assert math.isnan(request.admitted_s) == (not request.recomputing)
        for request in self.running:
            assert 0 < request.computed < request.known
            assert request.generated < request.output_tokens
            assert request.arrival_s <= request.admitted_s <= self.now_s
            assert math.isnan(request.first_token_s) == (request.generated == 0)

    def check_blocks(self) -> None:
        """Every KV block is free or owned, and nobody owns more or fewer than its computed tokens fill."""
        assert self.free_blocks >= 0
        assert self.free_blocks + sum(request.num_blocks for request in self.requests) == self.limits.num_blocks
        for request in self.running:
            assert request.num_blocks == math.ceil(request.computed / self.limits.block_size)
        for request in self.waiting:
            assert request.num_blocks == 0

    def check_adapters(self) -> None:
        """The tiers keep their sizes, and the adapters in use are where they must be."""
        active, registered = self.adapters.active, self.adapters.registered
        assert len(active) <= self.limits.max_loras
        assert len(registered) <= self.limits.max_cpu_loras
        assert active.keys() <= registered.keys()
        in_use = {request.adapter for request in self.running if request.adapter >= 0}
        assert in_use <= active.keys(), "no adapter of the batch is left without a slot"
        assert list(active) == [a for a in registered if a in active], "both tiers have the same order of use"


def adapters_of(scheduled: dict[Request, int]) -> set[int]:
    """The adapters of the scheduled requests."""
    return {request.adapter for request in scheduled if request.adapter >= 0}


def run_reference(
    requests: Requests,
    limits: EngineLimits,
    costs: AdapterCosts,
    num_adapters: int,
    step_time_s: StepTime,
    check: bool = True,
) -> ReferenceTrace:
    """Run a server over the requests; `check` asserts the invariants at every step (turn it off in benchmarks)."""
    return ReferenceEngine(requests, limits, costs, num_adapters, step_time_s, check).run()
