"""Runs as files: `.json` holds everything in one document, `.parquet` the requests as rows and the rest as metadata.

Both hold the same run: floats keep every digit, NaN is null in JSON, and the same run gives the same bytes.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from loratwin.errors import DataError, InputError
from loratwin.extras import required
from loratwin.records.atomic import check_writable, would_replace, write_atomically
from loratwin.records.columns import AnyArray, ColumnTable
from loratwin.records.config import EngineConfig
from loratwin.records.plain import as_plain, as_tuple
from loratwin.records.possible import check_possible
from loratwin.records.run import (
    AdapterTable,
    Gauges,
    PrefixCounts,
    Provenance,
    ReferenceLoad,
    RequestTable,
    Run,
    StepSeries,
)
from loratwin.records.series import (
    DeliverySeries,
    gaps_as_plain,
    gaps_from_plain,
    samples_as_plain,
    samples_from_plain,
)
from loratwin.records.sharing import Sharing

FORMAT = 1
"""Version of the file format; a reader refuses files with a higher one."""

_MARK = "loratwin_run"


def save_run(run: Run, path: str | Path) -> Path:
    """Write a run to a `.json` or `.parquet` file, whole or not at all; the path.

    Parameters
    ----------
    run
        Measured or simulated.
    path
        In a folder that is there; a file of that name is replaced.

    Raises
    ------
    InputError
        Another suffix, a folder that cannot be written, or pyarrow is missing (parquet).
    """
    encode: dict[str, Callable[[Run], bytes]] = {".json": _to_json, ".parquet": _to_parquet}
    return write_atomically(path, encode[_suffix(path)](run))


def load_run(path: str | Path) -> Run:
    """Read a run that `save_run` wrote.

    Parameters
    ----------
    path
        A record, .json or .parquet.

    Returns
    -------
    Run
        Measured or simulated; `loratwin.summarize` makes figures of it, `Run.to_pandas` a table.

    Raises
    ------
    InputError
        The file cannot be opened, has another suffix, or pyarrow is missing (parquet).
    DataError
        The file is damaged, is no run, holds a request that cannot be, or was written by a newer loratwin.
    """
    decode: dict[str, Callable[[bytes], Run]] = {".json": _from_json, ".parquet": _from_parquet}
    suffix = _suffix(path)
    if suffix == ".parquet":
        _pyarrow()
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror or error}") from None
    try:
        return decode[suffix](data)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
    except (InputError, KeyError, TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: not a run of loratwin, or damaged: {_first_line(error)}") from None


def is_run_file(path: str | Path) -> bool:
    """Whether a file is there and says that it is a run; it may be damaged all the same."""
    file = Path(path)
    if file.suffix.lower() not in (".json", ".parquet") or not file.is_file():
        return False
    with open(file, "rb") as opened:
        if file.suffix.lower() == ".parquet":  # what is said of the file stands at its end
            opened.seek(max(0, file.stat().st_size - _FOOTER))
            return _MARK.encode() in opened.read()
        return _MARK.encode() in opened.read(200)


_FOOTER = 1 << 20


def load_runs(paths: Sequence[str | Path]) -> dict[str, Run]:
    """Runs by name: the file's, with as much of its folder as tells it from the others.

    Raises
    ------
    InputError
        A file is given twice, or as `load_run`.
    DataError
        As `load_run`.
    """
    files = [Path(path) for path in paths]
    for file in files:
        if files.count(file) > 1:
            raise InputError(f"{file} is given twice")
    return {_name_among(file, files): load_run(file) for file in files}


def _name_among(file: Path, files: Sequence[Path]) -> str:
    if [other.stem for other in files].count(file.stem) == 1:
        return file.stem
    return file.name if [other.name for other in files].count(file.name) == 1 else str(file)


def _suffix(path: str | Path) -> str:
    suffix = Path(path).suffix.lower()
    if suffix not in (".json", ".parquet"):
        raise InputError(f"{path}: a run is a .json or a .parquet file")
    return suffix


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines() or [""]
    return f"no {error}" if isinstance(error, KeyError) else text[0]


# --- the document: everything of a run as plain lists, numbers and strings


def _header(run: Run) -> dict[str, Any]:
    """A run without its requests."""
    return {
        _MARK: FORMAT,
        "kind": run.kind,
        "window_s": run.window_s,
        "kv_tokens": run.kv_tokens,
        "client_overhead_s": run.client_overhead_s,
        "config": run.config.model_dump(),
        "provenance": run.provenance.as_plain(),
        "gauges": None if run.gauges is None else as_plain(asdict(run.gauges)),
        "adapters": {"name": list(run.adapters.name), **_columns_as_lists(run.adapters)},
        "steps": None if run.steps is None else _columns_as_lists(run.steps),
        **({} if run.prefix_cache is None else {"prefix_cache": asdict(run.prefix_cache)}),
        **({} if run.sharing is None else {"sharing": _sharing_as_lists(run.sharing)}),
        **_measured_header(run),
    }


def _measured_header(run: Run) -> dict[str, Any]:
    """What only a measured run has, where it has it."""
    plain = {
        "failures": list(run.failures),
        "invalid": list(run.invalid),
        "gaps": run.gaps and gaps_as_plain(run.gaps),
        "deliveries": None if run.deliveries is None else _columns_as_lists(run.deliveries),
        "samples": [samples_as_plain(source) for source in run.samples],
        "reference": run.reference and as_plain(asdict(run.reference)),
    }
    return {name: value for name, value in plain.items() if value}


def _run(header: dict[str, Any], requests: RequestTable) -> Run:
    gauges, steps = header["gauges"], header["steps"]
    gaps, deliveries, prefix = header.get("gaps"), header.get("deliveries"), header.get("prefix_cache")
    reference, sharing = header.get("reference"), header.get("sharing")
    check_possible(requests)
    return Run(
        kind=header["kind"],
        window_s=header["window_s"],
        kv_tokens=header["kv_tokens"],
        client_overhead_s=header["client_overhead_s"],
        config=EngineConfig(**header["config"]),
        provenance=Provenance(**{name: as_tuple(value) for name, value in header["provenance"].items()}),
        gauges=None if gauges is None else Gauges(**_none_as_nan(gauges)),
        adapters=AdapterTable(name=tuple(header["adapters"]["name"]), **_arrays(AdapterTable, header["adapters"])),
        steps=None if steps is None else StepSeries(**_arrays(StepSeries, steps)),
        requests=requests,
        prefix_cache=None if prefix is None else PrefixCounts(**prefix),
        failures=tuple(header.get("failures", ())),
        invalid=tuple(header.get("invalid", ())),
        gaps=None if gaps is None else gaps_from_plain(gaps),
        deliveries=None if deliveries is None else DeliverySeries(**_arrays(DeliverySeries, deliveries)),
        samples=tuple(samples_from_plain(source) for source in header.get("samples", ())),
        reference=None if reference is None else _reference(reference),
        sharing=None if sharing is None else _sharing(sharing),
    )


def _check_format(document: Any) -> dict[str, Any]:
    if not isinstance(document, dict) or not isinstance(document.get(_MARK), int):
        raise DataError(f"not a run of loratwin (it lacks {_MARK!r})")
    if document[_MARK] > FORMAT:
        raise DataError(
            f"written by a newer loratwin (format {document[_MARK]}, this one reads up to {FORMAT}): upgrade loratwin"
        )
    return document


def _columns_as_lists(table: ColumnTable) -> dict[str, list[Any]]:
    return {name: _as_list(values) for name, values in table.columns().items()}


def _as_list(values: AnyArray) -> list[Any]:
    if values.dtype.kind == "f" and (missing := np.isnan(values)).any():
        values = values.astype(object)
        values[missing] = None
    return list(values.tolist())


def _arrays(table: type[ColumnTable], lists: dict[str, list[Any]]) -> dict[str, AnyArray]:
    return {name: _array(lists[name], dtype) for name, dtype in table.column_types().items() if name in lists}


def _array(values: list[Any], dtype: np.dtype[Any]) -> AnyArray:
    """Floats take null as NaN; other kinds are left for the table to check."""
    return np.array(values, dtype=dtype) if dtype.kind == "f" else np.array(values)


_FLOAT_GAUGES = {name for name, value in asdict(Gauges()).items() if isinstance(value, float)}


def _reference(plain: dict[str, Any]) -> ReferenceLoad:
    return ReferenceLoad(**{name: float("nan") if value is None else value for name, value in plain.items()})


def _sharing_as_lists(sharing: Sharing) -> dict[str, list[Any]]:
    return {name: values.tolist() for name, values in vars(sharing).items()}


_SHARING = {"think_s": np.float64, "own": np.bool_}


def _sharing(lists: dict[str, list[Any]]) -> Sharing:
    sharing = Sharing(**{name: np.array(values, _SHARING.get(name, np.int32)) for name, values in lists.items()})
    sharing.check()
    return sharing


def _none_as_nan(figures: dict[str, Any]) -> dict[str, Any]:
    return {k: float("nan") if v is None and k in _FLOAT_GAUGES else v for k, v in figures.items()}


# --- JSON


def _to_json(run: Run) -> bytes:
    document = {**_header(run), "requests": _columns_as_lists(run.requests)}
    return (json.dumps(document, separators=(",", ":"), allow_nan=False) + "\n").encode()


def _from_json(data: bytes) -> Run:
    document = _check_format(json.loads(data))
    return _run(document, RequestTable(**_arrays(RequestTable, document["requests"])))


# --- parquet


def _pyarrow() -> tuple[ModuleType, ModuleType]:
    pyarrow, parquet = (required(name, "a .parquet file", "parquet") for name in ("pyarrow", "pyarrow.parquet"))
    return pyarrow, parquet


def _to_parquet(run: Run) -> bytes:
    pyarrow, parquet = _pyarrow()
    table = pyarrow.table(run.requests.columns())
    buffer = io.BytesIO()
    with parquet.ParquetWriter(buffer, table.schema) as writer:
        writer.write_table(table)
        writer.add_key_value_metadata({_MARK: json.dumps(_header(run), separators=(",", ":"), allow_nan=False)})
    return buffer.getvalue()


def _from_parquet(data: bytes) -> Run:
    _, parquet = _pyarrow()
    with parquet.ParquetFile(io.BytesIO(data)) as file:
        header = _check_format(json.loads((file.metadata.metadata or {}).get(_MARK.encode(), b"null")))
        table = file.read()
    return _run(header, RequestTable(**{name: table.column(name).to_numpy() for name in table.column_names}))


def check_json_file(path: Path, others: Iterable[Path] = (), inputs: Iterable[str | Path] = ()) -> None:
    """Refuse before long work a file for `--json` that cannot be written, or would replace something else.

    Parameters
    ----------
    path
        To be written, beside what is shown.
    others
        Files that the same work writes.
    inputs
        What it reads; names that are no files are not looked at.

    Raises
    ------
    InputError
        One line with what is wrong.
    """
    check_writable(path)
    for other in others:
        if path.resolve() == other.resolve():
            raise InputError(f"{path} is given as both --output and --json")
    if would_replace(path, inputs):
        raise InputError(f"{path} is a file that is read: give --json another name")
    if path.exists() and b'"loratwin_run"' in path.read_bytes()[:200]:
        raise InputError(f"{path} is the record of a run: give --json another name, or - for standard output")
