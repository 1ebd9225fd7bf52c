"""What a plan is: the configuration to run, all that was tried, and what is known of it. It has no words of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from loratwin import notebook
from loratwin.learn import Advice
from loratwin.metrics import Slo, SloFor, SloRows, Summary
from loratwin.perf import Profile
from loratwin.plan.choice import Candidate, Choice, Objective, closest
from loratwin.plan.margin import BiggestCustomer, MarginInterval
from loratwin.plan.targets import OwnLimits, Targets
from loratwin.plan.trial import Result
from loratwin.records import Run
from loratwin.simulate import Forecast, Outcome
from loratwin.workload import BusiestHour


@dataclass(frozen=True)
class Shortfall:
    """Why one GPU does not serve all adapters.

    Parameters
    ----------
    candidates
        What was tried for all adapters.
    closest
        Of these, the one that comes closest to working; None: no server starts.
    without_memory_limit
        The best that any slots would do if KV memory were free; None: not simulated, since the SLO (or the start) fails
        and not the throughput.
    """

    candidates: tuple[Candidate, ...]
    closest: Candidate | None
    without_memory_limit: Result | None


@dataclass(frozen=True, eq=False, repr=False)
class Plan:
    """What to run on one GPU. All figures are simulated unless they say otherwise.

    Parameters
    ----------
    adapters, ranks
        All adapters of the workload, as listed.
    served
        Indices of those that this GPU serves; empty: none.
    choice
        The configuration to run and what is as good; its `best` is None when nothing works.
    alternatives
        Everything tried for the served adapters (for all, when none can be served), by slots and `max_num_seqs`.
    shortfall
        Why not all adapters; None: all are served.
    run
        The chosen configuration with the first seed.
    headroom
        Part by which all rates can be higher before the chosen configuration fails: a constraint, as the SLO is.
    confidence
        Least probability that a real run keeps up, as asked for; 0: none.
    slo_for
        Of whom the limits are asked: `all` (the server as a whole), `groups` or `adapters`.
    groups, group_slos
        Names of the workload's groups, by index; limits that stand in place of `slo` for the requests of a group.
    customers
        The SLO of every adapter for itself under the chosen configuration (first seed), whoever it is asked of; None:
        there is no SLO, or nothing works. Adapters of groups with limits of their own are in `own_limits`.
    own_limits
        What these groups and their adapters make of those limits under the chosen configuration (first seed).
    margin_interval
        How well the margin of the chosen configuration is known; None: nothing works.
    biggest
        How far the biggest customer can grow by itself; None: nothing works.
    forecast
        Where a real run's figures will lie; None: nothing works, or the workload was drawn already.
    predicted
        What the learned model said beforehand; None: it was not asked.
    hour
        The busiest hour, which was planned; None: the whole window was.
    whole
        What the chosen configuration does with the whole window (first seed), where only its busiest hour was planned.
    without_cache
        Figures of the chosen configuration without its prefix cache (first seed); None: nothing works, or prompts share
        nothing.
    notes
        What a reader must know of the chosen configuration, as leaving the profile's domain.
    """

    workload: str
    profile: Profile
    objective: Objective
    slo: Slo | None
    seeds: tuple[int, ...]
    window_s: float
    longest_request: int  # prompt and output tokens, of all adapters
    adapters: tuple[str, ...]
    ranks: tuple[int, ...]
    served: tuple[int, ...]
    choice: Choice
    alternatives: tuple[Candidate, ...]
    shortfall: Shortfall | None
    run: Run | None
    num_simulated: int
    headroom: float = 0.0
    confidence: float = 0.0
    slo_for: SloFor = "all"
    groups: tuple[str, ...] = ()
    group_slos: Mapping[str, Slo] = field(default_factory=dict)
    customers: SloRows | None = None
    own_limits: tuple[OwnLimits, ...] = ()
    margin_interval: MarginInterval | None = None
    biggest: BiggestCustomer | None = None
    forecast: Forecast | None = None
    predicted: Advice | None = None
    hour: BusiestHour | None = None
    whole: Outcome | None = None
    without_cache: Summary | None = None

    def __repr__(self) -> str:
        return f"<Plan: {notebook.title(self)}>"

    def _repr_html_(self) -> str:
        """What a notebook shows: the verdict, what stands behind it, and the alternatives."""
        return notebook.html(self)

    @property
    def targets(self) -> Targets:
        """Limits, and of whom they are asked."""
        return Targets(self.slo, self.slo_for, self.groups, self.group_slos)

    @property
    def customers_of_all(self) -> tuple[SloRows, ...]:
        """Every adapter against the limits that it is asked to keep: those of all, then those of single groups."""
        return (*([] if self.customers is None else [self.customers]), *(each.customers for each in self.own_limits))

    @property
    def best(self) -> Candidate | None:
        """The configuration to run; None: nothing works."""
        return self.choice.best

    @property
    def serves_all(self) -> bool:
        """Whether one GPU serves all adapters."""
        return self.shortfall is None

    @property
    def served_names(self) -> tuple[str, ...]:
        """Names of the adapters that this GPU serves, as listed."""
        return tuple(self.adapters[i] for i in self.served)

    @property
    def shown(self) -> Candidate | None:
        """The configuration that figures are shown of: the best, else the one that comes closest to working."""
        return self.best or closest(self.alternatives, self.slo)

    @property
    def table(self) -> tuple[Candidate, ...]:
        """The alternatives with the `max_num_seqs` of the best one (of the closest one, when nothing works)."""
        if self.shown is None:
            return self.alternatives
        sequences = self.shown.config.max_num_seqs
        return tuple(candidate for candidate in self.alternatives if candidate.config.max_num_seqs == sequences)

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on the best configuration (on the closest one, when nothing works)."""
        return self.shown.notes if self.shown is not None else ()
