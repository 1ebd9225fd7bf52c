"""Plain values between JSON and dataclasses."""

from __future__ import annotations

from typing import Any


def as_tuple(value: Any) -> Any:
    """JSON has lists where frozen dataclasses have tuples."""
    return tuple(value) if isinstance(value, list) else value
