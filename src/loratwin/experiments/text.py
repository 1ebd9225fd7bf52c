"""What is planned and how far it is, in words and as plain data."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from loratwin.experiments.experiments import START_S, Experiments, Planned
from loratwin.records.plain import as_plain


def planned_text(planned: Sequence[Planned], estimates: Mapping[str, str]) -> str:
    """Two lines for each run, then how many there are and how long they take.

    Parameters
    ----------
    estimates
        What the twin expects of runs, by their names.
    """
    lines = []
    for run in planned:
        if run.spec is None:
            lines.append(f"{run.name}: left out, {run.left_out}")
            continue
        lines.append(f"{run.name}: about {run.seconds:.0f} s{estimates.get(run.name, '')}")
        lines.append(f"  {run.spec.shell_command()}")
    made = [run for run in planned if run.spec is not None]
    hours = sum(run.seconds for run in made) / 3600
    lines.append(
        f"{len(made)} runs, {len(planned) - len(made)} left out; {hours:.1f} h one after the other "
        f"(windows, and {START_S:g} s for each start, which is assumed)"
    )
    return "\n".join(lines)


def planned_data(planned: Sequence[Planned], estimates: Mapping[str, str]) -> list[dict[str, Any]]:
    """A mapping for each run; one that is left out says why."""
    return [
        {"run": run.name, "left_out": run.left_out}
        if run.spec is None
        else {
            "run": run.name,
            "expected_s": run.seconds,
            "command": run.spec.shell_command(),
            "twin": estimates.get(run.name, "").lstrip(",; ") or None,
        }
        for run in planned
    ]


def counts_text(counts: Mapping[str, int]) -> str:
    """`3 done, 1 failed`."""
    return ", ".join(f"{number} {stage}" for stage, number in sorted(counts.items())) or "no runs"


def handed_text(experiments: Experiments, handed: Sequence[str]) -> str:
    """How many runs `Experiments.submit` handed over, and how far all are."""
    line = (
        f"{len(handed)} runs handed to Slurm; how they do: loratwin experiments status {experiments.folder}"
        if handed
        else "nothing to hand over: all runs are done, failed, or in Slurm's hands"
    )
    return f"{line}\n{states_text(experiments)}"


def states_text(experiments: Experiments) -> str:
    """Why those that failed did, and how many are how far."""
    failed = [
        f"{name}: failed, {state.reason}" for name, state in experiments.states().items() if state.stage == "failed"
    ]
    return "\n".join([*failed, counts_text(experiments.counts())])


def states_data(experiments: Experiments) -> dict[str, Any]:
    """How many are how far, and what each run says of itself."""
    runs = [{"run": name, **as_plain(state)} for name, state in experiments.states().items()]
    return {"counts": experiments.counts(), "runs": runs}
