"""Tables that come with the package: GPUs and LLMs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml


def read_yaml_table(file: str) -> dict[str, dict[str, Any]]:
    """Rows by name."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(files(__name__).joinpath(file).read_text(encoding="utf-8"))
    return table
