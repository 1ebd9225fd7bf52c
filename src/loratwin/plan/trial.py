"""One trial: some of the workload's adapters on one server, simulated with one seed, and the verdict on it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import NamedTuple

import numpy as np

from loratwin.metrics import Starvation, over_replications, starvation
from loratwin.perf import KvCapacity, Profile
from loratwin.plan.choice import Candidate
from loratwin.plan.targets import NO_TARGETS, Targets
from loratwin.records import EngineConfig, Run
from loratwin.simulate import (
    Draw,
    Outcome,
    draw_of,
    each_once,
    outcome,
    plausible_profile,
    real_slo_over_seeds,
    served_capacity,
    simulate,
    slo_over_seeds,
)
from loratwin.simulate.engine import usable_blocks
from loratwin.workload import Workload, burst_of, faster, first_part, grown
from loratwin.workload.arrays import I4

SLOTS, SEQUENCES, KV_MEMORY, TOKEN_BUDGET = "slots", "max_num_seqs", "KV memory", "max_num_batched_tokens"
"""What a request can wait for: a place for its adapter, one of the sequences, KV blocks, prefill tokens of a step."""

BURST_AT, BURST_LENGTH = 0.4, 0.1
"""Begin and length of a burst, as parts of the window."""


class Trial(NamedTuple):
    """What to simulate; small, so that it is cheap to send to another process."""

    config: EngineConfig
    num_adapters: int  # the first so many of `Bench.order`
    seed: int = 0  # index into `Bench.workloads`
    factor: float = 1.0  # of all rates
    kv_tokens: int | None = None  # None: what the server has
    verdict_only: bool = False  # half of the time goes into percentiles
    plausible: int = 0  # 0: the profile as it is; else the so-manieth that is as plausible
    window_share: float = 1.0  # only the first part of the window
    customer: str = ""  # an adapter by name, and ...
    customer_factor: float = 1.0  # ... how many times as much it asks for, by itself
    customer_burst: bool = False  # ... or all its requests in a tenth of the window


class Result(NamedTuple):
    """What a trial showed: the verdict, and all else where it was asked for."""

    works: bool
    starved: bool
    served_share: float
    outcome: Outcome | None = None
    waits: Mapping[str, float] = {}
    output_tokens_mean: float = float("nan")
    missing: tuple[str, ...] = ()  # groups or adapters that miss the SLO
    draw: Draw | None = None  # of a plausible profile: what the chance is made of
    asked: bool = True  # whether any request is under the common limits


@dataclass(frozen=True)
class Bench:
    """Everything that trials have in common: drawn once, so that all configurations see the same requests.

    Parameters
    ----------
    workloads
        One draw for each seed.
    order
        Indices of all adapters in the order in which they are taken when not all can be served.
    targets
        Limits, and of whom they are asked.
    """

    workloads: Sequence[Workload]
    order: tuple[int, ...]
    profile: Profile
    targets: Targets = NO_TARGETS
    _taken: dict[tuple[int, int], Workload] = field(default_factory=dict, repr=False, compare=False)

    def taken(self, num_adapters: int) -> list[int]:
        """The adapters that are served when there are so many, as listed."""
        return sorted(self.order[:num_adapters])

    def workload(self, num_adapters: int, seed: int = 0) -> Workload:
        """The requests of the first so many adapters, and of the base; the last few results are kept."""
        whole = self.workloads[seed]
        if num_adapters == len(self.order):
            return whole
        key = (num_adapters, seed)
        if key not in self._taken:
            while len(self._taken) > 2 * len(self.workloads):
                del self._taken[next(iter(self._taken))]
            self._taken[key] = whole.take_adapters(self.taken(num_adapters))
        return self._taken[key]

    def capacity(self, num_adapters: int, config: EngineConfig) -> KvCapacity:
        """KV tokens, and whether the server starts and can hold the longest request."""
        capacity = served_capacity(self.profile, config)
        usable = usable_blocks(capacity.tokens, config) * config.block_size
        longest = max(longest_request(self.workload(num_adapters, i)) for i in range(len(self.workloads)))
        longest = min(longest, config.max_model_len or self.profile.llm.max_model_len)  # where outputs end
        if not capacity.starts or longest <= usable:
            return capacity
        reason = f"{usable} KV tokens are left, fewer than the longest request has: {longest}"
        return KvCapacity(capacity.tokens, False, reason)

    def simulate(self, trial: Trial) -> Run:
        """The run itself."""
        workload = self._with_customer(self.workload(trial.num_adapters, trial.seed), trial)
        workload = first_part(workload, trial.window_share)
        profile = plausible_profile(self.profile, trial.plausible) if trial.plausible else self.profile
        return simulate(faster(workload, trial.factor), profile, trial.config, trial.kv_tokens)

    def _with_customer(self, workload: Workload, trial: Trial) -> Workload:
        """The one adapter of the trial asking for more, or all at once."""
        if not trial.customer:
            return workload
        index = [workload.adapters.name.index(trial.customer)]
        if trial.customer_burst:
            return burst_of(workload, index, BURST_AT * workload.window_s, BURST_LENGTH * workload.window_s)
        return grown(workload, index, trial.customer_factor)

    def measure(self, trial: Trial) -> Result:
        """Simulate and judge."""
        run = self.simulate(trial)
        verdict, group = starvation(run), self.workload(trial.num_adapters, trial.seed).adapters.group
        common = self.targets.common(run, group)
        drawn = self._draw(run, verdict, group, common) if trial.plausible and trial.factor == 1.0 else None
        held = self.targets.simulated(verdict.ratio, self.profile.uncertainty)
        if trial.verdict_only:
            works = not verdict.starved and self._keeps(held, common) and not held.missing(run, group, common)
            return Result(works, verdict.starved, verdict.ratio, draw=drawn)
        missing = held.missing(run, group, common)
        output_tokens = run.requests.output_tokens
        return Result(
            works=not verdict.starved and not missing and self._keeps(held, common),
            starved=verdict.starved,
            served_share=verdict.ratio,
            outcome=outcome(run, self.targets.slo, self.profile.uncertainty, of=common),
            waits=causes(run),
            output_tokens_mean=float(output_tokens.mean()) if len(output_tokens) else float("nan"),
            missing=missing,
            draw=drawn,
            asked=self._is_asked(common),
        )

    def _is_asked(self, common: Run) -> bool:
        """Whether any request is under the common limits: all can be of groups with limits of their own."""
        return not self.targets.own or len(common.requests) > 0

    def _keeps(self, held: Targets, common: Run) -> bool:
        """Whether the server as a whole keeps the common limits."""
        return held.slo is None or not self._is_asked(common) or not held.slo.missed(common)

    def _draw(self, run: Run, verdict: Starvation, group: I4, common: Run) -> Draw:
        """How much higher each limited figure could be, of the server and of those of whom it is asked."""
        slo = self.targets.slo if self._is_asked(common) else None
        slo_s = {limit.name: limit.value_s(common) for limit in (slo.limits if slo else ())}
        drawn = draw_of(verdict.starved, verdict.ratio, slo, slo_s)
        for rows in self.targets.rows(run, group, common):
            drawn = drawn.held_to(rows)
        return drawn


def causes(run: Run) -> dict[str, float]:
    """Mean number of waiting requests by the limit that stopped the scheduler from admitting more.

    The scheduler stops for good at `max_num_seqs`, at the token budget and at a lack of KV blocks (which is also what
    preemption shows), and passes over requests whose adapter has no slot (DESIGN.md, the kernel's step 3). Sums up to
    the mean queue while the engine steps.
    """
    steps = run.steps
    if steps is None or steps.skipped is None:
        return {}
    weight = steps.waiting * steps.duration_s / run.window_s
    full = steps.running >= run.config.max_num_seqs
    no_slot = ~full & (steps.skipped >= steps.waiting)
    no_budget = (steps.prefill_tokens + steps.decode_requests) >= run.config.max_num_batched_tokens
    no_budget &= ~full & ~no_slot
    masks = {SLOTS: no_slot, SEQUENCES: full, KV_MEMORY: ~(full | no_slot | no_budget), TOKEN_BUDGET: no_budget}
    return {name: float(weight[mask].sum()) for name, mask in masks.items()}


def longest_request(workload: Workload) -> int:
    """Prompt and output tokens of the longest request; 0 without requests."""
    return int((workload.prompt_tokens.astype(np.int64) + workload.output_tokens).max(initial=0))


def _most_often(results: Sequence[Result]) -> tuple[str, ...]:
    """Who misses the SLO with more than half of the seeds, in the order of the first seed that says so."""
    counts = Counter(name for result in results for name in result.missing)
    return tuple(name for name, count in counts.items() if 2 * count > len(results))


def combine(
    config: EngineConfig, num_adapters: int, kv_tokens: int, results: Sequence[Result], has_headroom: bool = True
) -> Candidate:
    """The results of several seeds as one candidate; each has its outcome."""
    outcomes = [result.outcome for result in results if result.outcome is not None]
    return Candidate(
        config=config,
        served_adapters=num_adapters,
        kv_tokens=kv_tokens,
        starved=any(result.starved for result in results),
        starving_adapters=float(np.mean([len(outcome.starving) for outcome in outcomes])),
        figures=over_replications([outcome.summary for outcome in outcomes if outcome.summary is not None]),
        slo_s=slo_over_seeds(outcomes),
        real_slo_s=real_slo_over_seeds(outcomes),
        output_tokens_mean=float(np.mean([result.output_tokens_mean for result in results])),
        missing=_most_often(results),
        slo_asked=any(result.asked for result in results),
        has_headroom=has_headroom,
        waits={name: fmean(result.waits[name] for result in results) for name in results[0].waits},
        notes=each_once(note for outcome in outcomes for note in outcome.notes),
    )
