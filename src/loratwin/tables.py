"""Tables that come with the package: GPUs and LLMs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml


def read_yaml_table(package: str, file: str) -> dict[str, dict[str, Any]]:
    """Rows by name, of a file in the folder of a package."""
    table: dict[str, dict[str, Any]] = yaml.safe_load(files(package).joinpath(file).read_text(encoding="utf-8"))
    return table
