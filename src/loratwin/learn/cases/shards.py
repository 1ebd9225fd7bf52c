"""Simulated workloads on disk: a folder with `design.json` and one parquet file for every few cases.

A shard is written whole or not at all and depends on its cases only, so an interrupted generation goes on where it
stopped, and any number of processes writes the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any

from loratwin.errors import DataError, InputError
from loratwin.extras import required
from loratwin.learn.cases.case import Case
from loratwin.learn.cases.search import SimulatedHour
from loratwin.records import as_tuple, write_atomically

FORMAT = 1
"""Version of the folder's layout; a reader refuses a higher one."""

SHARD_CASES = 8
"""Cases in a shard: half a minute of work at most is lost."""

_MARK = b"loratwin_shard"


@dataclass(frozen=True)
class Manifest:
    """What a folder holds, or will hold when it is complete.

    Parameters
    ----------
    profiles
        Digest of each profile by name: other coefficients are other data.
    """

    search: str
    seed: int
    profiles: dict[str, str]
    cases: tuple[Case, ...]

    @property
    def num_shards(self) -> int:
        """Files when complete."""
        return -(-len(self.cases) // SHARD_CASES)

    def shard_cases(self, number: int) -> tuple[Case, ...]:
        """The cases of one shard."""
        return self.cases[number * SHARD_CASES : (number + 1) * SHARD_CASES]

    def shard_mark(self, number: int) -> str:
        """What a shard says of itself: with another mark it is another design's."""
        cases = self.shard_cases(number)
        about = {name: self.profiles[name] for name in sorted({case.profile for case in cases})}
        head = {"format": FORMAT, "search": self.search, "seed": self.seed, "profiles": about}
        return json.dumps({**head, "cases": [asdict(case) for case in cases]}, separators=(",", ":"))


def shard_path(folder: Path, number: int) -> Path:
    """Where a shard lies."""
    return folder / f"part-{number:05d}.parquet"


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `design.json`; an existing one may only be the same design with fewer or more cases.

    Raises
    ------
    InputError
        The folder holds another design, or other things only, or cannot be written.
    """
    if (folder / "design.json").exists():
        _check_same(folder, read_manifest(folder), manifest)
    elif other := next((entry.name for entry in sorted(folder.iterdir()) if not entry.name.startswith(".")), None):
        raise InputError(f"{folder}: holds {other} and no design; give a new or an empty folder")
    document = {"format": FORMAT, **asdict(manifest)}
    write_atomically(folder / "design.json", json.dumps(document, separators=(",", ":")) + "\n")


def _check_same(folder: Path, old: Manifest, new: Manifest) -> None:
    shorter = min(len(old.cases), len(new.cases))
    same = (old.search, old.seed, old.cases[:shorter]) == (new.search, new.seed, new.cases[:shorter])
    if not same or old.profiles != new.profiles:
        raise InputError(f"{folder}: holds another design, search, seed or profile; use another folder")


def read_manifest(folder: Path) -> Manifest:
    """What a folder is to hold.

    Raises
    ------
    InputError
        No such file.
    DataError
        It is damaged, or of a newer loratwin.
    """
    path = folder / "design.json"
    try:
        document = json.loads(path.read_text())
        if document["format"] != FORMAT:
            raise DataError(f"{path}: format {document['format']}; this version understands format {FORMAT}")
        cases = tuple(Case(**{k: as_tuple(v) for k, v in case.items()}) for case in document["cases"])
        return Manifest(document["search"], document["seed"], document["profiles"], cases)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}; `loratwin learn generate` makes it") from None
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path}: not a design of loratwin, or damaged: {error}") from None


def write_shard(folder: Path, manifest: Manifest, number: int, rows: Sequence[Sequence[SimulatedHour]]) -> None:
    """Write the rows of a shard's cases, given in the order of the cases."""
    pyarrow, parquet = _pyarrow()
    names = [field.name for field in fields(SimulatedHour)]
    columns: dict[str, Any] = {"case": [i for i, of_case in enumerate(rows) for _ in of_case]}
    columns |= {name: [getattr(row, name) for of_case in rows for row in of_case] for name in names}
    kinds = {"int": pyarrow.int32(), "float": pyarrow.float64(), "bool": pyarrow.bool_()}
    schema = [("case", pyarrow.int32()), *((field.name, kinds[str(field.type)]) for field in fields(SimulatedHour))]
    table = pyarrow.table(columns, schema=pyarrow.schema(schema, {_MARK: manifest.shard_mark(number).encode()}))
    buffer = io.BytesIO()
    parquet.write_table(table, buffer)
    write_atomically(shard_path(folder, number), buffer.getvalue())


def is_complete(folder: Path, manifest: Manifest, number: int) -> bool:
    """Whether a shard is there, whole, and of this design."""
    try:
        _read(shard_path(folder, number), manifest.shard_mark(number))
    except (DataError, FileNotFoundError):
        return False
    return True


def read_shard(folder: Path, manifest: Manifest, number: int) -> list[list[SimulatedHour]]:
    """Rows of each case of a shard.

    Raises
    ------
    DataError
        It is damaged, or of another design.
    """
    columns = _read(shard_path(folder, number), manifest.shard_mark(number))
    cases: list[list[SimulatedHour]] = [[] for _ in manifest.shard_cases(number)]
    names = [field.name for field in fields(SimulatedHour)]
    for values in zip(columns["case"], *(columns[name] for name in names), strict=True):
        cases[values[0]].append(SimulatedHour(*values[1:]))
    return cases


def _read(path: Path, mark: str) -> dict[str, list[Any]]:
    pyarrow, parquet = _pyarrow()
    data = path.read_bytes()
    advice = "delete it and run `loratwin learn generate` again"
    try:
        table = parquet.read_table(io.BytesIO(data))
        columns: dict[str, list[Any]] = table.to_pydict()
        missing = {"case", *(field.name for field in fields(SimulatedHour))} - set(columns)
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise DataError(f"{path}: a damaged shard ({str(error).splitlines()[0]}); {advice}") from None
    if (table.schema.metadata or {}).get(_MARK) != mark.encode():
        raise DataError(f"{path}: a shard of another design or version; {advice}")
    if missing:
        raise DataError(f"{path}: a shard without the column {min(missing)!r}; {advice}")
    return columns


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    return required("pyarrow", "a shard", "learn"), required("pyarrow.parquet", "a shard", "learn")
