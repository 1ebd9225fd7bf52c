"""Units in the names of plain data: what JSON calls a figure says what it is measured in.

Fields in Python have their unit in the name or in their docstring; where only the docstring has it, the name in JSON is
longer. A name that has its unit stays, so that data may pass here twice, and data of an earlier version once.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TOKENS, REQUESTS, PERCENT = "tokens_per_s", "requests_per_s", "percent"

UNITS: Mapping[str, str] = {
    "request_throughput": REQUESTS,
    "goodput": REQUESTS,
    "sent_rate": REQUESTS,
    "scheduled_rate": REQUESTS,
    "offered": TOKENS,
    "price": "per_gpu_hour",
    "started": "unix_s",
    "mape": PERCENT,
    "mape_min": PERCENT,
    "mape_max": PERCENT,
    "median_ape": PERCENT,
    "p90_ape": PERCENT,
    "bias": PERCENT,
    "mean_regret": PERCENT,
}
"""Of names that have none. What ends in `throughput` is in tokens per second, unless it stands here."""

ENDS_OF_INTERVALS = ("", "_low", "_high")

NAMES_OF_FIGURES = ("figure", "metric", "limit_on")
"""Keys whose value is the name of a figure."""


def with_unit(name: str) -> str:
    """The name of a figure with its unit: `total_throughput` -> `total_throughput_tokens_per_s`."""
    is_rate = name.endswith(tuple(f"throughput{end}" for end in ENDS_OF_INTERVALS))
    unit = UNITS.get(name, TOKENS if is_rate else "")
    return f"{name}_{unit}" if unit else name


def with_units(data: Any) -> Any:
    """The same plain data with units in all names of figures."""
    if isinstance(data, Mapping):
        return {with_unit(str(name)): _value(str(name), value) for name, value in data.items()}
    if isinstance(data, list | tuple):
        return [with_units(value) for value in data]
    return data


def _value(name: str, value: Any) -> Any:
    return with_unit(value) if name in NAMES_OF_FIGURES and isinstance(value, str) else with_units(value)
