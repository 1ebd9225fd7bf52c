"""Tables that come with the package: GPUs and LLMs."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import yaml

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml's, where PyYAML has it: ten times as fast


def read_yaml_table(package: str, file: str) -> dict[str, dict[str, Any]]:
    """Rows by name, of a file in the folder of a package."""
    text = files(package).joinpath(file).read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = yaml.load(text, Loader=_LOADER)
    return table
