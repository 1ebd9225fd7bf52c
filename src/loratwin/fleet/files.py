"""Placements as JSON: written, read, and refused in one line where they are malformed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from loratwin.errors import InputError
from loratwin.fleet.placement import Placement, Server
from loratwin.records import EngineConfig, check_writable, write_atomically
from loratwin.refusals import one_line
from loratwin.workload.spec import BASE_NAME

FORMAT = 1


class _ServerFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str = Field(min_length=1)
    profile: str = Field(min_length=1)
    config: dict[str, Any]
    price_per_h: float | None = Field(default=None, ge=0)


class _PlacementFile(BaseModel):
    """What a file says; adapter -> server -> fraction, all by name."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1]
    servers: list[_ServerFile]
    adapters: dict[str, dict[str, float]]
    base: dict[str, float] | None = None


def placement_json(placement: Placement) -> dict[str, Any]:
    """As plain data: servers in order, then adapter -> server -> fraction, and the same for traffic without adapter."""
    names = [server.name for server in placement.servers]
    shares: dict[str, dict[str, float]] = {name: {} for name in placement.adapters}
    base: dict[str, float] = {}
    for i, j, fraction in zip(
        placement.adapter.tolist(), placement.server.tolist(), placement.fraction.tolist(), strict=True
    ):
        (base if i < 0 else shares[placement.adapters[i]])[names[j]] = fraction
    servers = [
        {
            "name": server.name,
            "profile": server.profile,
            "config": server.config.model_dump(),
            "price_per_h": server.price_per_h,
        }
        for server in placement.servers
    ]
    return {"format": FORMAT, "servers": servers, "adapters": shares, "base": base or None}


def placement_from_json(data: Any, source: str = "placement") -> Placement:
    """The placement that plain data describes: its own, or that in a plan of a fleet.

    Raises
    ------
    InputError
        Something is missing, unknown or impossible; begins with `source`.
    """
    if not isinstance(data, Mapping):
        raise InputError(f"{source}: must be a JSON object with the keys {', '.join(_PlacementFile.model_fields)}")
    if isinstance(data.get("placement"), Mapping):
        data = data["placement"]
    if data.get("format", FORMAT) != FORMAT:
        raise InputError(f"{source}: format {data['format']!r}, but this loratwin reads placements of format {FORMAT}")
    try:
        read = _PlacementFile.model_validate(data)
    except ValidationError as error:
        raise InputError(one_line(error, data, source, tuple(_PlacementFile.model_fields))) from None
    try:
        return _placement(read)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _placement(read: _PlacementFile) -> Placement:
    if read.base is not None and BASE_NAME in read.adapters:
        raise InputError(f"adapters: {BASE_NAME!r} is reserved for traffic without adapter")
    servers = [Server(each.name, each.profile, EngineConfig(**each.config), each.price_per_h) for each in read.servers]
    shares = read.adapters if read.base is None else {**read.adapters, BASE_NAME: read.base}
    return Placement.of(servers, shares, "" if read.base is None else BASE_NAME)


def load_placement(path: str | Path) -> Placement:
    """Read a placement, or the one in a plan of a fleet, from a JSON file.

    Raises
    ------
    InputError
        The file cannot be read, or is no placement; one line says where and why.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}:{error.lineno}:{error.colno}: not valid JSON: {error.msg}") from None
    return placement_from_json(data, str(path))


def save_placement(placement: Placement, path: str | Path) -> Path:
    """Write a placement as JSON; the path.

    Raises
    ------
    InputError
        The path cannot be written.
    """
    check_placement_path(path)
    write_atomically(Path(path), json.dumps(placement_json(placement), indent=1, allow_nan=False) + "\n")
    return Path(path)


def check_placement_path(path: str | Path) -> None:
    """Refuse, before long work, a path that cannot be written.

    Raises
    ------
    InputError
        It ends otherwise than on .json, or its folder does not exist.
    """
    if Path(path).suffix != ".json":
        raise InputError(f"{path}: a placement is written as .json")
    check_writable(Path(path))


def same_placement(left: Placement, right: Placement) -> bool:
    """Whether servers, adapters and fractions are the same."""
    return (
        left.servers == right.servers
        and left.adapters == right.adapters
        and np.array_equal(left.adapter, right.adapter)
        and np.array_equal(left.server, right.server)
        and np.array_equal(left.fraction, right.fraction)
    )
