"""Workload files: YAML to a specification, and one clear line where that is not possible."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loratwin.errors import InputError
from loratwin.records.files import is_run_file
from loratwin.refusals import one_line
from loratwin.workload.examples import example_path
from loratwin.workload.recorded import record_as_spec
from loratwin.workload.spec import WorkloadSpec

EXAMPLE = "example:"


def load_spec(path: str | Path) -> WorkloadSpec:
    """Read a workload file; ``example:NAME`` is one that comes with the package, a record of a run is replayed.

    Parameters
    ----------
    path
        A .yaml file (docs/reference/workload.md), "example:NAME", or a record (.json, .parquet) of a run.

    Returns
    -------
    WorkloadSpec
        What is asked for; `draw` makes requests of it.

    Raises
    ------
    InputError
        The file cannot be read, or says something impossible; one line with file, key, value and what is valid.
    """
    file = example_path(str(path).removeprefix(EXAMPLE)) if str(path).startswith(EXAMPLE) else Path(path)
    data = record_as_spec(file) if is_run_file(file) else _read_yaml(file)
    return parse_spec(data, source=str(path), folder=file.parent)


def parse_spec(data: Any, source: str = "workload", folder: Path | None = None) -> WorkloadSpec:
    """Specification from plain data; paths in it are relative to `folder` (default: the current one).

    Raises
    ------
    InputError
        As `load_spec`.
    """
    if not isinstance(data, Mapping):
        holds = "nothing" if data is None else f"a {type(data).__name__}"
        keys = ", ".join(WorkloadSpec.model_fields)
        raise InputError(f"{source}: must be a mapping with the keys {keys}; it holds {holds}")
    try:
        return WorkloadSpec.model_validate(data, context={"folder": folder})
    except ValidationError as error:
        raise InputError(one_line(error, data, source)) from None


class _NoDuplicates(yaml.SafeLoader):
    """YAML that does not silently keep the last of two equal keys."""


def _mapping(loader: yaml.SafeLoader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[Any] = set()
    for key_node, _ in node.value:
        key = loader.construct_object(key_node, deep=True)
        if not isinstance(key, Hashable):
            break  # construct_mapping below says so
        if key in seen:
            raise yaml.constructor.ConstructorError(None, None, f"key {key!r} is given twice", key_node.start_mark)
        seen.add(key)
    loader.flatten_mapping(node)
    return loader.construct_mapping(node, deep=True)


_NoDuplicates.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def _read_yaml(path: Path) -> Any:
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=_NoDuplicates)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise InputError(f"{path}{where}: not valid YAML: {error.problem or error.context}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error).splitlines()[0]
        raise InputError(f"{path}: cannot be read: {reason}") from None
