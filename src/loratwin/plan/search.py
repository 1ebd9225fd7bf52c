"""The search: which configurations are simulated, and in which order."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from math import log2
from typing import Any

from loratwin.metrics import Slo
from loratwin.plan.choice import Candidate, Objective, choose, closest, smallest
from loratwin.plan.grid import SEQUENCES, coarse_slots, finer_slots, measured_only
from loratwin.plan.limits import FARTHEST, STEP, last_good, margin_search, power_below, run_all
from loratwin.plan.margin import (
    DRIFTS,
    MARGIN_DRAWS,
    SHORTER,
    BiggestCustomer,
    CustomerCase,
    MarginInterval,
    margin_interval,
)
from loratwin.plan.trial import Bench, Result, Trial, combine
from loratwin.records import EngineConfig
from loratwin.records.config import FIRST_UTILIZATION, SMALL_GPU_TOKENS, ranks_that_hold
from loratwin.simulate import chance_kept
from loratwin.simulate.workers import Mapper

Progress = Callable[[int, int, str], None]
"""Told how many simulations are done, how many are known to be needed so far, and what they are for."""

REFINEMENTS = 2

BISECTION_SLOTS = (8, 16, 32, 64, 96, 128, 256)
"""Slots tried for each number of adapters while that number is searched, besides one for each adapter."""

AT_A_TIME = 4
"""Trials after which a search for anything that works looks whether something did."""

RESOLUTION = 1 / 64
"""The number of adapters that can be served is found to this share of it."""

UNLIMITED_KV_TOKENS = 10**9

CHANCE_DRAWS = 10
"""Pairs of seed and plausible profile that a chance is the mean of."""


@dataclass(frozen=True)
class Settings:
    """What the user fixes.

    Parameters
    ----------
    slots, sequences
        The only values to try; None: search.
    advised
        Slots that the learned model advises: these, half and twice as many are tried first, and a search follows only
        where none of them works. None: it was not asked.
    headroom
        Part by which all rates can be higher before a configuration fails; a constraint like the SLO.
    confidence
        Least probability that a real run keeps up; a constraint, too. 0: none.
    measured_slots, measured_sequences
        Lowest and highest that the profile was measured at; a search stays there. None: it goes anywhere.
    others
        Further fields of `EngineConfig`, the same in every configuration.
    """

    objective: Objective = "throughput"
    slo: Slo | None = None
    slots: tuple[int, ...] | None = None
    advised: int | None = None
    sequences: tuple[int, ...] | None = None
    max_num_batched_tokens: int = SMALL_GPU_TOKENS
    max_model_len: int | None = None
    gpu_memory_utilization: float = FIRST_UTILIZATION
    headroom: float = 0.0
    confidence: float = 0.0
    measured_slots: tuple[int, int] | None = None
    measured_sequences: tuple[int, int] | None = None
    others: Mapping[str, Any] = field(default_factory=dict)

    def sequence_options(self) -> list[int]:
        """Values of `max_num_seqs` to try, ascending; a step's tokens bound them."""
        if self.sequences is not None:
            return sorted(set(self.sequences))
        most = self.max_num_batched_tokens
        fitting = [value for value in SEQUENCES if value <= most] or [most]
        return measured_only(fitting, self.measured_sequences, most)

    def only_measured(self, slots: Sequence[int], num_adapters: int) -> list[int]:
        """Of slots that a search would try those inside what was measured."""
        return measured_only(slots, self.measured_slots, num_adapters)


def _all_grow(trial: Trial, factor: float) -> Trial:
    return trial._replace(factor=factor)


def _customer_grows(trial: Trial, factor: float) -> Trial:
    return trial._replace(customer_factor=factor)


def _plain(candidate: Candidate) -> Trial:
    """As it is, with the first seed."""
    return Trial(candidate.config, candidate.served_adapters)


def _unlike(one: EngineConfig, other: EngineConfig) -> float:
    """How far two configurations are apart, in doublings of slots and of sequences."""
    slots = abs(log2(max(1, one.max_loras)) - log2(max(1, other.max_loras)))
    return slots + abs(log2(one.max_num_seqs) - log2(other.max_num_seqs))


class Finder:
    """Finds configurations for the first so many adapters of a bench. What was simulated once is kept."""

    def __init__(
        self, bench: Bench, settings: Settings, workers: Mapper[Trial, Result], progress: Progress | None = None
    ) -> None:
        self.bench = bench
        self.settings = settings
        self.workers = workers
        self.progress = progress or (lambda done, total, what: None)
        self.num_simulated = 0
        self._known: dict[Trial, Result] = {}
        self._powers: dict[Trial, int | None] = {}  # of margins found, first seed

    def alternatives(self, num_adapters: int) -> list[Candidate]:
        """Candidates with all slots worth a try, all with the same `max_num_seqs`, and the best slots with others.

        Slots on a coarse grid with the most sequences; then `max_num_seqs` for the best of them; then finer slots. So
        far with the first seed; what works is then judged with all of them. Margins count from the beginning, of those
        that are equal in the objective.
        """
        if self.settings.advised is not None:
            found = self._alternatives(num_adapters, self._advised_slots(num_adapters, self.settings.advised), 0)
            if any(each.works(self.settings.slo) for each in found):
                return found
        refinements = REFINEMENTS if self.settings.slots is None else 0
        return self._alternatives(num_adapters, self._slots(num_adapters), refinements)

    def _advised_slots(self, num_adapters: int, advised: int) -> list[int]:
        """What the model advises, and half and twice as many; of values that were given only the first."""
        around = (advised // 2, advised, 2 * advised) if self.settings.slots is None else (advised,)
        counts = sorted({min(max(1, count), num_adapters) for count in around})
        return counts if self.settings.slots is not None else self.settings.only_measured(counts, num_adapters)

    def _alternatives(self, num_adapters: int, slots: Sequence[int], refinements: int) -> list[Candidate]:
        sequences = self._best_sequences(num_adapters, slots)
        tried = self._try(num_adapters, slots, [sequences])
        for _ in range(refinements):
            tried += self._try(num_adapters, self._finer(num_adapters, tried), [sequences])
        if not any(each.works(self.settings.slo) for each in tried):
            return self.with_margins(tried) if any(each.keeps_up(self.settings.slo) for each in tried) else tried
        return self._thoroughly(num_adapters, sorted({each.slots for each in tried}), sequences)

    def _finer(self, num_adapters: int, tried: Sequence[Candidate]) -> list[int]:
        """Slots around the best so far, where it may be looked."""
        known = [each.slots for each in tried]
        finer = finer_slots([each.slots for each in tried if each.starts], self._favourite(tried).slots)
        allowed = self.settings.only_measured([*known, *finer], num_adapters)
        return [slots for slots in finer if slots in allowed and slots <= num_adapters]

    def _slots(self, num_adapters: int) -> list[int]:
        """Slots to begin with; more than adapters would only cost."""
        given = self.settings.slots
        if given:
            return sorted({min(slots, num_adapters) for slots in given})
        return self.settings.only_measured(coarse_slots(num_adapters), num_adapters)

    def _best_sequences(self, num_adapters: int, slots: Sequence[int]) -> int:
        """The best `max_num_seqs`, judged at the best slots; where none work, the most with which any do."""
        *fewer, most = self.settings.sequence_options()
        if not fewer:
            return most
        tried = self._try(num_adapters, slots, [most])
        if not any(each.works(self.settings.slo) for each in tried):
            return next((each for each in reversed(fewer) if self._works(num_adapters, slots, each)), most)
        tried += self._try(num_adapters, [self._favourite(tried).slots], fewer)
        return self._favourite(tried).config.max_num_seqs

    def _thoroughly(self, num_adapters: int, slots: Sequence[int], sequences: int) -> list[Candidate]:
        """With all seeds and margins: these slots, and the best of them with other `max_num_seqs`."""
        num_seeds = len(self.bench.workloads)
        candidates = self._try(num_adapters, slots, [sequences], num_seeds)
        others = [limit for limit in self.settings.sequence_options() if limit != sequences]
        candidates += self._try(num_adapters, [self._favourite(candidates).slots], others, num_seeds)
        if self.settings.confidence:
            working = [candidate for candidate in candidates if candidate.works(self.settings.slo)]
            failing = [candidate for candidate in candidates if not candidate.works(self.settings.slo)]
            candidates = [*self.with_chance(working), *failing]
        return self.with_margins(candidates)

    def _try(
        self, num_adapters: int, slots: Sequence[int], sequences: Sequence[int], num_seeds: int = 1
    ) -> list[Candidate]:
        configs = [self.config(num_adapters, count, limit) for limit in sequences for count in slots]
        return self.evaluate(num_adapters, configs, num_seeds, f"{num_adapters} adapters")

    def config(self, num_adapters: int, slots: int, sequences: int) -> EngineConfig:
        """All adapters in host memory, the smallest rank that fits them."""
        adapters = self.bench.workload(num_adapters).adapters
        searched = {
            "max_loras": slots,
            "max_cpu_loras": max(slots, num_adapters),
            "max_lora_rank": ranks_that_hold(int(adapters.rank.max()))[0],
            "max_num_seqs": sequences,
            "max_num_batched_tokens": self.settings.max_num_batched_tokens,
            "max_model_len": self.settings.max_model_len,
            "gpu_memory_utilization": self.settings.gpu_memory_utilization,
        }
        return EngineConfig(**searched | dict(self.settings.others))

    def evaluate(
        self, num_adapters: int, configs: Sequence[EngineConfig], num_seeds: int, what: str
    ) -> list[Candidate]:
        """A candidate for each configuration; those that do not start cost nothing."""
        capacities = [self.bench.capacity(num_adapters, config) for config in configs]
        trials = [
            [Trial(config, num_adapters, seed) for seed in range(num_seeds if capacity.starts else 0)]
            for config, capacity in zip(configs, capacities, strict=True)
        ]
        self._simulate([trial for row in trials for trial in row], what)
        roomy = self._have_headroom(trials)
        return [
            combine(config, num_adapters, capacity.tokens, [self._known[trial] for trial in row], has_headroom)
            if row
            else Candidate(config, num_adapters, capacity.tokens, starts=False, why_not=capacity.reason)
            for config, capacity, row, has_headroom in zip(configs, capacities, trials, roomy, strict=True)
        ]

    def _have_headroom(self, trials: Sequence[Sequence[Trial]]) -> list[bool]:
        """For each configuration's trials: whether all of them still work with the rates that the headroom asks for.

        Those that do not work as it is are not tried again.
        """
        if not self.settings.headroom:
            return [True] * len(trials)
        higher = [
            [trial._replace(factor=1 + self.settings.headroom, verdict_only=True) for trial in row]
            if all(self._known[trial].works for trial in row)
            else []
            for row in trials
        ]
        self._simulate([row[0] for row in higher if row], "headroom")
        roomy = [bool(row) and self._is_known_to_work(row[0]) for row in higher]  # else the other seeds say no more
        self._simulate([trial for row, first in zip(higher, roomy, strict=True) if first for trial in row], "headroom")
        return [first and all(map(self._is_known_to_work, row)) for row, first in zip(higher, roomy, strict=True)]

    def with_chance(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates (all start) with the probability that a real run keeps up at the rates as they are."""
        draws = [self._draws(Trial(each.config, each.served_adapters), CHANCE_DRAWS) for each in candidates]
        results = iter(self._simulate([trial for row in draws for trial in row], "chance"))
        chances = [
            chance_kept([drawn for _ in row if (drawn := next(results).draw)], self.bench.profile.uncertainty)
            for row in draws
        ]
        return [
            replace(each, chance=chance, is_likely=chance >= self.settings.confidence)
            for each, chance in zip(candidates, chances, strict=True)
        ]

    def _draws(self, plain: Trial, number: int) -> list[Trial]:
        """The same with other requests and other plausible profiles, for the verdict."""
        seeds = len(self.bench.workloads)
        return [plain._replace(seed=i % seeds, plausible=i + 1, verdict_only=True) for i in range(number)]

    def with_margins(self, candidates: Sequence[Candidate]) -> list[Candidate]:
        """The candidates that start, with their margin (first seed): no less than a headroom that they have."""
        started = [candidate for candidate in candidates if candidate.starts]
        self._search_powers([each for each in started if _plain(each) not in self._powers])
        return [
            replace(each, margin=self._margin(each, self._powers[_plain(each)])) if each.starts else each
            for each in candidates
        ]

    def _search_powers(self, candidates: Sequence[Candidate]) -> None:
        """How far the rates of each can grow: of a few first, which say where those of the others are likely to be."""
        ordered = sorted(candidates, key=smallest)
        few = {0, len(ordered) // 2, len(ordered) - 1}
        for first in (True, False):
            some = [each for i, each in enumerate(ordered) if (i in few) == first]
            trials, works_now = list(map(_plain, some)), [each.keeps_up(self.settings.slo) for each in some]
            powers = self._growth(trials, works_now, near=[self._near(trial) for trial in trials])
            self._powers.update(zip(trials, powers, strict=True))

    def _near(self, trial: Trial) -> int | None:
        """The power of the configuration most like this one; None: there is none yet."""
        others = [other for other in self._powers if other.num_adapters == trial.num_adapters]
        closest_one = min(others, key=lambda other: _unlike(other.config, trial.config), default=None)
        power = None if closest_one is None else self._powers[closest_one]
        return -FARTHEST if power is None and closest_one is not None else power

    def margin_interval(self, candidate: Candidate) -> MarginInterval:
        """Where the margin of a candidate lies: other requests, other plausible profiles, a shorter window."""
        plain = _plain(candidate)
        others = self._draws(plain, MARGIN_DRAWS)
        shorter = plain._replace(window_share=SHORTER)
        trials = [*others, shorter]
        first = self._simulate([trial._replace(verdict_only=True) for trial in trials], "margins")
        near = [self._powers.get(plain)] * len(trials)
        powers = self._growth(trials, [result.works for result in first], near=near)
        *drawn, short = [0.0 if power is None else STEP**power for power in powers]
        return margin_interval(drawn, short, self.bench.workloads[0].window_s * SHORTER, self.bench.profile.uncertainty)

    def biggest_customer(self, candidate: Candidate) -> BiggestCustomer:
        """How far the adapter that asks for most can grow by itself, and if a burst of it is borne (first seed)."""
        adapters = self.bench.workload(candidate.served_adapters).adapters
        busiest = int(adapters.rate_per_s.argmax())
        trial = Trial(candidate.config, candidate.served_adapters, customer=adapters.name[busiest], verdict_only=True)
        cases = self._customer_cases(candidate, trial._replace(verdict_only=False))
        (power,) = self._growth([trial], [candidate.keeps_up(self.settings.slo)], _customer_grows)
        growth = 0.0 if power is None else STEP**power
        bears_burst = cases[-1].candidate.keeps_up(self.settings.slo)
        return BiggestCustomer(trial.customer, float(adapters.rate_per_s[busiest]), growth, bears_burst, cases)

    def _customer_cases(self, candidate: Candidate, trial: Trial) -> tuple[CustomerCase, ...]:
        """The customer as it is, as it drifts, and with all its requests at once; last the burst."""
        trials = [
            trial._replace(customer=trial.customer if factor != 1 else "", customer_factor=factor) for factor in DRIFTS
        ]
        trials.append(trial._replace(customer_burst=True))
        results = self._simulate(trials, "the biggest customer")
        return tuple(
            CustomerCase(
                each.customer_factor,
                each.customer_burst,
                combine(candidate.config, candidate.served_adapters, candidate.kv_tokens, [result]),
            )
            for each, result in zip(trials, results, strict=True)
        )

    def _growth(
        self,
        trials: Sequence[Trial],
        works_now: Sequence[bool],
        grow: Callable[[Trial, float], Trial] = _all_grow,
        near: Sequence[int | None] | None = None,
    ) -> list[int | None]:
        """For each trial the highest power of `STEP` by which it can grow; None: not even the lowest works.

        Parameters
        ----------
        near
            Where each is likely to be; None: nobody knows.
        """
        likely = near if near is not None else [None] * len(trials)
        bounds = [self._bounds(trial) if grow is _all_grow else (None, None) for trial in trials]
        searches = [
            margin_search(works, *bound, near=each)
            for works, bound, each in zip(works_now, bounds, likely, strict=True)
        ]

        def try_all(asked: list[tuple[int, int]]) -> list[bool]:
            higher = [grow(trials[i], STEP**power)._replace(verdict_only=True) for i, power in asked]
            return [result.works for result in self._simulate(higher, "margins")]

        return run_all(searches, try_all)

    def _bounds(self, trial: Trial) -> tuple[int | None, int | None]:
        """Powers that are known to work and to fail, from what the headroom asked for."""
        factor = 1 + self.settings.headroom
        seen = self._find(trial._replace(factor=factor, verdict_only=True)) if factor > 1 else None
        if seen is None:
            return None, None
        below = power_below(factor)
        return (below, None) if seen.works else (None, below if STEP**below == factor else below + 1)

    def _is_known_to_work(self, trial: Trial) -> bool:
        known = self._find(trial)
        return known is not None and known.works

    def _margin(self, candidate: Candidate, power: int | None) -> float:
        """From a power of `STEP`, and from what is known of the headroom."""
        margin, headroom = 0.0 if power is None else STEP**power, 1 + self.settings.headroom
        return max(margin, headroom) if candidate.works(self.settings.slo) else min(margin, headroom)

    def most_adapters(self) -> int:
        """How many adapters can be served (to 1.5 %), taken in the order of the bench; 0: not even one."""
        total = len(self.bench.order)

        def try_all(asked: list[tuple[int, int]]) -> list[bool]:
            return [self._serves(num_adapters) for _, num_adapters in asked]

        (most,) = run_all([last_good(0, total, RESOLUTION)], try_all)
        return most or 0

    def with_unlimited_memory(self, num_adapters: int) -> Result:
        """The best that any slots would do if KV memory were free: what computing allows (first seed)."""
        most = self.settings.max_num_batched_tokens
        configs = [self.config(num_adapters, each, most) for each in self._slots(num_adapters)]
        trials = [Trial(each, num_adapters, 0, 1.0, UNLIMITED_KV_TOKENS, verdict_only=True) for each in configs]
        return max(self._simulate(trials, "what binds"), key=lambda result: (not result.starved, result.served_share))

    def _serves(self, num_adapters: int) -> bool:
        """Whether some configuration works with the first seed."""
        options = self.settings.sequence_options()
        slots = sorted({min(count, num_adapters) for count in self.settings.slots or (*BISECTION_SLOTS, num_adapters)})
        if self.settings.slots is None:
            slots = self.settings.only_measured(slots, num_adapters)
        few_and_most = dict.fromkeys((options[-1], options[len(options) // 2]))
        return any(self._works(num_adapters, slots, sequences) for sequences in few_and_most)

    def _works(self, num_adapters: int, slots: Sequence[int], sequences: int) -> bool:
        """Whether some of these slots work with the first seed; the middle ones are tried first."""
        configs = [self.config(num_adapters, each, sequences) for each in slots]
        starting = [each for each in configs if self.bench.capacity(num_adapters, each).starts]
        inside_out = sorted(range(len(starting)), key=lambda i: abs(2 * i - len(starting)))
        for at in range(0, len(starting), AT_A_TIME):
            trials = [
                Trial(starting[i], num_adapters, factor=1 + self.settings.headroom, verdict_only=True)
                for i in inside_out[at : at + AT_A_TIME]
            ]
            results = self._simulate(trials, f"{num_adapters} adapters")
            if self._is_likely([trial for trial, result in zip(trials, results, strict=True) if result.works]):
                return True
        return False

    def _is_likely(self, working: Sequence[Trial]) -> bool:
        """Whether one of these works with the confidence that was asked for."""
        if not self.settings.confidence:
            return bool(working)
        num_adapters = working[0].num_adapters if working else 0
        candidates = self.evaluate(num_adapters, [trial.config for trial in working], 1, "chance")
        return any(candidate.is_likely for candidate in self.with_chance(candidates))

    def _favourite(self, candidates: Sequence[Candidate]) -> Candidate:
        """The best by the rule; where none works, the one that comes closest."""
        settings = self.settings
        near = self.with_margins(choose(candidates, settings.objective, settings.slo).near)
        best = choose(near, settings.objective, settings.slo).best
        return best or closest(candidates, settings.slo) or candidates[0]

    def _simulate(self, trials: Sequence[Trial], what: str) -> list[Result]:
        new = [trial for trial in dict.fromkeys(trials) if self._find(trial) is None]
        before, total = self.num_simulated, self.num_simulated + len(new)
        self.progress(before, total, what)
        results = self.workers.map(new, lambda done: self.progress(before + done, total, what))
        self._known.update(zip(new, results, strict=True))
        self.num_simulated = total
        known = [self._find(trial) for trial in trials]
        return [result for result in known if result is not None]

    def _find(self, trial: Trial) -> Result | None:
        """What is known of a trial; a full one answers for the verdict as well."""
        return self._known.get(trial) or self._known.get(trial._replace(verdict_only=False))
