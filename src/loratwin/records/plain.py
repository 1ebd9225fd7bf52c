"""Plain values between JSON and dataclasses."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import fields, is_dataclass
from math import isfinite
from typing import Any, overload

import numpy as np
from pydantic import BaseModel


def as_tuple(value: Any) -> Any:
    """JSON has lists where frozen dataclasses have tuples."""
    return tuple(value) if isinstance(value, list) else value


@overload
def as_plain(value: Mapping[str, Any]) -> dict[str, Any]: ...
@overload
def as_plain(value: float) -> float | None: ...
@overload
def as_plain(value: Any) -> Any: ...


def as_plain(value: Any) -> Any:
    """Mappings, lists, arrays and dataclasses as JSON takes them: what is undefined (NaN) or infinite becomes None."""
    if isinstance(value, np.ndarray | np.generic):
        value = value.tolist()
    if isinstance(value, float):
        return value if isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: as_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: as_plain(getattr(value, field.name)) for field in fields(value)}
    return value


def without_defaults(model: BaseModel, data: Mapping[str, Any], names: Collection[str]) -> dict[str, Any]:
    """A model's fields as data, without those of `names` that have their default value."""
    fields_of = type(model).model_fields
    return {k: v for k, v in data.items() if k not in names or getattr(model, k) != fields_of[k].default}
