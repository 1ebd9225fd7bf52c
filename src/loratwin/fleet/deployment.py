"""Files that start a placement's servers, each checked by a schema before it is written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from loratwin.errors import InputError, UnknownNameError
from loratwin.extras import required
from loratwin.fleet.placement import Placement
from loratwin.fleet.shards import Shard, shards_of
from loratwin.fleet.targets import OWN_IMAGES, TARGETS, Documents
from loratwin.perf import Profile
from loratwin.records import write_atomically

_TYPES = {"str": "string", "int": "integer", "num": "number", "bool": "boolean"}


def deployment(
    placement: Placement, target: str, tag: str | None = None, profiles: Mapping[str, Profile] | None = None
) -> Documents:
    """The files of a target, as data that passed its schema.

    Parameters
    ----------
    target
        One of `targets.TARGETS`.
    tag
        Version of the images; None: that of the engine that was planned, or the latest where images have their own.

    Raises
    ------
    UnknownNameError
        No such target.
    InputError
        A server cannot be deployed so, or jsonschema is not installed.
    """
    check_target(target)
    shards = shards_of(placement, profiles)
    return checked(TARGETS[target](shards, tag or _version(shards, target)), target)


def check_target(target: str) -> None:
    """Refuse before long work what `deployment` refuses.

    Raises
    ------
    UnknownNameError
        No such target.
    """
    if target not in TARGETS:
        raise UnknownNameError("target", target, TARGETS)


def checked(files: Documents, schema: str) -> Documents:
    """The same files, each document of which passed its schema: that of its kind, or else this one.

    Raises
    ------
    InputError
        As `check_document`.
    """
    for name, documents in files.items():
        for document in documents:
            check_document(document, schema, name)
    return files


def _version(shards: Sequence[Shard], target: str) -> str:
    """The images that were planned for."""
    versions = sorted({shard.version for shard in shards})
    if target in OWN_IMAGES:
        return "latest"
    if len(versions) > 1:
        raise InputError(f"servers of several versions ({', '.join(versions)}): say which image with --tag")
    return f"v{versions[0]}"


def check_document(document: Mapping[str, Any], target: str, name: str) -> None:
    """Refuse a document that its schema does not know.

    Raises
    ------
    InputError
        A key is unknown or missing, or a value of another type: where, and what.
    """
    schema = schema_of(str(document.get("kind", target)))
    jsonschema = required("jsonschema", "fleet deploy", "deploy")
    error = next(jsonschema.Draft202012Validator(schema).iter_errors(document), None)
    if error is not None:
        where = ".".join(map(str, error.absolute_path)) or "top"
        raise InputError(f"{name}: {where}: {error.message}")


@cache
def _cuts() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "schemas.yaml").read_text(encoding="utf-8"))
    return found


def schema_of(kind: str) -> dict[str, Any]:
    """The JSON schema of a kind of Kubernetes object, or of a target's own file.

    Raises
    ------
    UnknownNameError
        There is none.
    """
    if kind not in _cuts():
        raise UnknownNameError("kind", kind, _cuts())
    return _expanded(_cuts()[kind])


def _expanded(cut: Any) -> dict[str, Any]:
    """A cut as JSON schema: nothing but what it names."""
    if isinstance(cut, list):
        return {"type": "array", "items": _expanded(cut[0])}
    if isinstance(cut, dict):
        free = _expanded(cut["*"]) if "*" in cut else False
        named = {key: value for key, value in cut.items() if key != "*"}
        return {
            "type": "object",
            "properties": {key.removesuffix("?"): _expanded(value) for key, value in named.items()},
            "required": [key for key in named if not key.endswith("?")],
            "additionalProperties": free,
        }
    if cut == "any":
        return {}
    return {"const": cut[1:]} if cut.startswith("=") else {"type": _TYPES[cut]}


def save_deployment(files: Documents, folder: str | Path) -> list[Path]:
    """Write the files into a folder, which is made; their paths.

    Raises
    ------
    InputError
        The folder cannot be made.
    """
    target = Path(folder)
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {target}: {error.strerror or error}") from None
    paths = []
    for name, documents in files.items():
        (target / name).parent.mkdir(exist_ok=True)
        write_atomically(target / name, yaml.safe_dump_all(documents, sort_keys=False, width=120))
        paths.append(target / name)
    return paths
