"""Workload files: YAML to a specification, and one clear line where that is not possible."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from loratwin.errors import InputError, LoratwinError, SeveralErrors
from loratwin.records import check_writable, write_atomically
from loratwin.records.files import is_run_file
from loratwin.refusals import one_line
from loratwin.workload.examples import example_path
from loratwin.workload.recorded import record_as_spec
from loratwin.workload.spec import WorkloadSpec

EXAMPLE = "example:"

SUFFIXES = (".yaml", ".yml")
"""What is a workload in a folder of them; what else lies there, as traces, is theirs."""


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


def load_specs(given: Sequence[str | Path]) -> dict[str, WorkloadSpec]:
    """Read several workloads, by name: each as of `load_spec`, or a folder, whose .yaml and .yml files are meant.

    Returns
    -------
    dict of WorkloadSpec
        In the order given, a folder's by name. Names are those of the files without their suffix.

    Raises
    ------
    InputError
        A folder without workloads, or two workloads of one name.
    SeveralErrors
        What is wrong with each that cannot be read.
    """
    specs: dict[str, WorkloadSpec] = {}
    errors: list[LoratwinError] = []
    for name, path in _by_name(given).items():
        try:
            specs[name] = load_spec(path)
        except LoratwinError as error:
            errors.append(error)
    if errors:
        raise SeveralErrors(errors)
    return specs


def _by_name(given: Sequence[str | Path]) -> dict[str, str]:
    paths: dict[str, str] = {}
    for path in (path for one in given for path in _workloads_of(str(one))):
        name = Path(path.removeprefix(EXAMPLE)).stem
        if name in paths:
            raise InputError(f"{paths[name]} and {path} are both called {name}: results are kept by that name")
        paths[name] = path
    return paths


def _workloads_of(given: str) -> Iterator[str]:
    folder = Path(given)
    if not folder.is_dir():
        yield given
        return
    workload_files = sorted(path for path in folder.iterdir() if path.suffix in SUFFIXES)
    if not workload_files:
        raise InputError(f"{folder}: a folder without workloads (files {', '.join(SUFFIXES)})")
    yield from map(str, workload_files)


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


def save_spec(spec: WorkloadSpec, path: str | Path) -> Path:
    """Write a specification as the YAML that `load_spec` reads as the same; what was not given is left out.

    Raises
    ------
    InputError
        The path cannot be written.
    """
    check_writable(Path(path))
    write_atomically(Path(path), yaml.safe_dump(_plain(spec), sort_keys=False, width=120, allow_unicode=True))
    return Path(path)


def _plain(spec: WorkloadSpec) -> dict[str, Any]:
    brief: dict[str, Any] = spec.model_dump(mode="json", exclude_unset=True)
    with suppress(InputError):  # made in Python: a kind that is the default was never given
        if parse_spec(brief) == spec:
            return brief
    return spec.model_dump(mode="json", exclude_none=True)


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
