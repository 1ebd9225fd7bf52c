"""Plans side by side: what each serves, on how many GPUs, how fast, with which margin, and what it costs.

A plan is compared by what its JSON says (`plan_json`), so that one that was saved and one that was just made are alike.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite, nan
from pathlib import Path
from typing import Any

from loratwin.errors import InputError, UnknownNameError
from loratwin.plan.export import plan_json
from loratwin.plan.result import Plan
from loratwin.records.plain import as_plain
from loratwin.units import with_units


@dataclass(frozen=True)
class ComparedPlan:
    """One plan. Figures are of one server at the traffic that it serves; NaN where unknown, or where nothing works.

    Parameters
    ----------
    gpus_per_server
        GPUs that share the LLM.
    served
        Adapters of one server, of `num_adapters`.
    margin
        Factor by which all rates can grow.
    price
        Of a GPU for an hour, in any currency; NaN: not given.
    """

    name: str
    profile: str
    workload: str
    slo: str
    num_adapters: int
    served: int
    gpus_per_server: int
    slots: int | None
    sequences: int | None
    throughput: float  # tokens per second, input and output
    ttft_mean_ms: float
    ttft_p99_ms: float
    tpot_mean_ms: float
    e2e_mean_ms: float
    margin: float
    price: float = nan

    @property
    def servers(self) -> float:
        """Servers for all adapters at the same mix, when each serves as many as one does; NaN: nothing works."""
        return ceil(self.num_adapters / self.served) if self.served else nan

    @property
    def gpus(self) -> float:
        """GPUs for all adapters."""
        return self.servers * self.gpus_per_server

    @property
    def cost_per_hour(self) -> float:
        """Of all GPUs."""
        return self.gpus * self.price

    @property
    def cost_per_million_tokens(self) -> float:
        """Of the tokens (input and output) that all adapters get: each server's share is like the one simulated."""
        total_per_s = self.throughput * self.num_adapters / self.served if self.served else nan
        return self.cost_per_hour / (total_per_s * 3600 / 1e6) if total_per_s > 0 else nan


@dataclass(frozen=True)
class PlanComparison:
    """Plans by name, in the order given; differences are against the first."""

    plans: tuple[ComparedPlan, ...]

    @property
    def notes(self) -> tuple[str, ...]:
        """In what the plans differ besides their answer: then they do not answer the same question."""
        aspects = {
            "workloads": [plan.workload for plan in self.plans],
            "numbers of adapters": [str(plan.num_adapters) for plan in self.plans],
            "SLOs": [plan.slo or "none" for plan in self.plans],
        }
        return tuple(f"the {what} differ: {' | '.join(said)}" for what, said in aspects.items() if len(set(said)) > 1)

    @property
    def has_prices(self) -> bool:
        """Whether a price of any was given."""
        return any(isfinite(plan.price) for plan in self.plans)


def compare_plans(
    plans: Mapping[str, Plan | Mapping[str, Any]], prices: Mapping[str, float] | float | None = None
) -> PlanComparison:
    """Set plans side by side.

    Parameters
    ----------
    plans
        By the name that each is shown under; plans, or what `plan_json` says of them.
    prices
        Of a GPU for an hour, by name, or one for all; None: costs are not known.

    Raises
    ------
    InputError
        Less than two plans, a price that is none, or of an unknown name.
    DataError
        Data that `plan_json` did not write, or an older version of it.
    """
    if len(plans) < 2:
        raise InputError("compare: at least two are needed")
    by_name = dict.fromkeys(plans, prices) if isinstance(prices, int | float) else dict(prices or {})
    for name, price in by_name.items():
        if name not in plans:
            raise UnknownNameError("name (--price)", name, plans)
        if not (isinstance(price, int | float) and 0 <= price < float("inf")):
            raise InputError(f"--price {name}={price}: a price of 0 or more is expected, as 2.49")
    return PlanComparison(tuple(_compared(name, plan, by_name.get(name, nan)) for name, plan in plans.items()))


def _compared(name: str, plan: Plan | Mapping[str, Any], price: float | None) -> ComparedPlan:
    data = with_units(plan_json(plan) if isinstance(plan, Plan) else plan)
    best = data["best"] or {}
    figures = best.get("figures", {})

    def mean(key: str) -> float:
        return _known(figures.get(key, {}).get("mean"))

    return ComparedPlan(
        name=name,
        profile=data["profile"],
        workload=data["workload"],
        slo=data["slo"] or "",
        num_adapters=data["num_adapters"],
        served=len(data["served_adapters"]) if best else 0,
        gpus_per_server=data["gpus_per_server"],
        slots=best["config"]["max_loras"] if best else None,
        sequences=best["config"]["max_num_seqs"] if best else None,
        throughput=mean("total_throughput_tokens_per_s"),
        ttft_mean_ms=mean("ttft_mean_ms"),
        ttft_p99_ms=mean("ttft_p99_ms"),
        tpot_mean_ms=mean("tpot_mean_ms"),
        e2e_mean_ms=_known(best.get("e2e_mean_ms")),
        margin=_known(best.get("margin")),
        price=nan if price is None else float(price),
    )


def _known(value: float | None) -> float:
    return nan if value is None else float(value)


_NEEDED = ("profile", "workload", "slo", "num_adapters", "served_adapters", "gpus_per_server", "best")


def load_plan_json(path: str | Path) -> dict[str, Any]:
    """What `loratwin plan --json` wrote.

    Raises
    ------
    InputError
        It cannot be read, is no such file, or an older version wrote it.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: is no JSON; a plan is saved by loratwin plan --json FILE") from None
    if not isinstance(data, dict) or "verdict" not in data or "alternatives" not in data:
        raise InputError(f"{path}: is no plan; one is saved by loratwin plan --json FILE")
    lacking = [key for key in _NEEDED if key not in data]
    if lacking:
        raise InputError(f"{path}: has no {lacking[0]!r}: an older loratwin wrote it, plan again with --json")
    return data


def parse_prices(texts: Sequence[str]) -> dict[str, float] | float | None:
    """Read `2.49`, or `NAME=2.49` several times.

    Raises
    ------
    InputError
        It is neither.
    """
    prices: dict[str, float] = {}
    for text in texts:
        name, equals, number = text.rpartition("=")
        try:
            price = float(number)
        except ValueError:
            raise InputError(f"--price {text!r}: expected 2.49 for all, or NAME=2.49") from None
        if not 0 <= price < float("inf"):
            raise InputError(f"--price {text!r}: a price of 0 or more is expected, as 2.49")
        if not equals and len(texts) > 1:
            raise InputError(f"--price {text!r}: one price is for all; with several each needs a name, as NAME=2.49")
        if not equals:
            return price
        prices[name.strip()] = price
    return prices or None


def comparison_json(comparison: PlanComparison) -> dict[str, Any]:
    """The comparison as plain data; what is unknown is null."""
    derived = ("servers", "gpus", "cost_per_hour", "cost_per_million_tokens")
    plans = [{**vars(plan), **{name: getattr(plan, name) for name in derived}} for plan in comparison.plans]
    data: dict[str, Any] = as_plain({"plans": plans, "notes": list(comparison.notes)})
    return data
