"""Plans of many workloads for the same GPU: each its own, in one folder and one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from loratwin.perf import Profile
from loratwin.plan.question import SEEDS
from loratwin.plan.what_if import Change, check_names, plan_and_cases, plan_and_cases_json
from loratwin.simulate.many import Answers, Rows, answer_all, means
from loratwin.workload import WorkloadSpec


@dataclass(frozen=True)
class PlanQuestion:
    """What to run for a workload; the question of `loratwin plan` over several.

    Parameters
    ----------
    profile
        Coefficients of the GPU, engine and LLM.
    seeds
        As for `plan`.
    changes
        What if, of each.
    options
        The others of `plan`.
    """

    profile: Profile
    seeds: Sequence[int] = SEEDS
    changes: Sequence[Change] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def asked(self) -> dict[str, Any]:
        """What is planned, but for the workload."""
        question = {"seeds": list(self.seeds), "changes": list(map(str, self.changes)), "options": self.options}
        return {"plan": self.profile.name, "profile_hash": self.profile.digest, **question}

    def __call__(self, name: str, spec: WorkloadSpec) -> dict[str, Any]:
        """As `plan_and_cases_json`."""
        plan_and_changes = plan_and_cases(spec, self.profile, self.changes, seeds=self.seeds, name=name, **self.options)
        return plan_and_cases_json(*plan_and_changes)

    def rows(self, result: Mapping[str, Any]) -> Rows:
        """One: the chosen configuration and its figures."""
        row = {"adapters": result["num_adapters"], "serves_all": result["serves_all"], "verdict": result["verdict"]}
        best = result["best"]
        if best is None:
            return [row]
        config = {name: best["config"][name] for name in ("max_loras", "max_num_seqs")}
        known = {
            "served_adapters": best["served_adapters"],
            **config,
            "margin": best["margin"],
            "chance": best["chance"],
        }
        return [row | known | means(best["figures"])]


def plan_many(
    workloads: Mapping[str, WorkloadSpec], question: PlanQuestion, folder: str | Path, **where: Any
) -> Answers:
    """Find what to run for each of many workloads; what `loratwin plan` does with several.

    Parameters
    ----------
    workloads, folder, where
        As for `simulate.many.answer_all`.

    Raises
    ------
    InputError, SeveralErrors, DataError
        As `answer_all`; or a change names nobody in one of them.
    """
    for spec in workloads.values():
        check_names(question.changes, spec)
    return answer_all(workloads, question, folder, seed=question.seeds[0], **where)
