"""What the twin says of a grid's runs beforehand: figures, and whether a server starts and keeps up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loratwin.engines.arguments import ServerArguments
from loratwin.engines.config import engine_config
from loratwin.engines.registry import find_engine
from loratwin.experiments.experiments import Planned
from loratwin.experiments.run_spec import RunSpec
from loratwin.metrics import Summary
from loratwin.perf import Profile
from loratwin.simulate.outcome import try_config
from loratwin.workload import draw, parse_spec


@dataclass(frozen=True)
class RunEstimate:
    """One run as the twin sees it.

    Parameters
    ----------
    summary
        None: the server does not start.
    reason
        Why not.
    """

    summary: Summary | None
    reason: str

    @property
    def text(self) -> str:
        """In words, to stand behind a run's name."""
        if self.summary is None:
            return f"; the twin: does not start, {self.reason}"
        figures = f"{self.summary.total_throughput:,.0f} tokens/s, TTFT mean {self.summary.ttft_mean_ms:,.0f} ms"
        return f"; the twin: {figures}{', starved' if self.summary.starved else ''}"


def estimates(planned: Sequence[Planned], profile: Profile) -> dict[str, str]:
    """What the twin expects of each run that is not left out, in words, by its name.

    Raises
    ------
    InputError
        As `estimate`.
    """
    return {run.name: estimate(run.spec, profile).text for run in planned if run.spec is not None}


def estimate(spec: RunSpec, profile: Profile) -> RunEstimate:
    """Simulate a run of a grid.

    Raises
    ------
    InputError
        Server arguments or a workload that the twin cannot take.
    """
    config = engine_config(ServerArguments(find_engine(spec.engine), spec.server_args))
    workload = draw(parse_spec({**spec.workload, "window_s": spec.window_s}), spec.seed)
    outcome = try_config(workload, profile, config)
    return RunEstimate(outcome.summary, outcome.reason)
