"""A folder of measurements that others published: every row predicted from its configuration, and how far off that is.

The folder holds any of `kv_capacity.csv`, `decode_steps.csv` and `serving.csv` (with the request files that it names).
Predictions are files of the same names with the same rows in the same order: the key columns, the predicted figures
under the measured names, where an interval is stated also as NAME_low and NAME_high, and `reason` where a row is not
predicted.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from loratwin.errors import DataError, LoratwinError
from loratwin.records.plain import as_plain
from loratwin.simulate.workers import Workers
from loratwin.validate.public_memory import predict_kv
from loratwin.validate.public_serving import predict_serving
from loratwin.validate.public_steps import predict_step

Row = Mapping[str, str]
Figures = Mapping[str, float]
Progress = Callable[[str, int, int], None]

MISSING = "reason"
"""Column that says why a row is not predicted."""


@dataclass(frozen=True)
class PublicTable:
    """Measured rows and what was predicted of each.

    Parameters
    ----------
    name
        Of the file, as "serving.csv".
    keys
        Columns that say which row it is.
    figures
        Columns that are predicted.
    rows
        As measured.
    predictions
        By figure (and NAME_low, NAME_high); empty where the row is not predicted.
    reasons
        Why not; empty where it is.
    """

    name: str
    keys: tuple[str, ...]
    figures: tuple[str, ...]
    rows: tuple[Row, ...]
    predictions: tuple[Figures, ...]
    reasons: tuple[str, ...]

    def as_plain(self) -> list[dict[str, Any]]:
        """The same rows as plain data, with all digits; what is not predicted is absent, and the reason there."""
        return [
            {key: row.get(key, "") for key in self.keys} | as_plain(figures) | ({MISSING: reason} if reason else {})
            for row, figures, reason in zip(self.rows, self.predictions, self.reasons, strict=True)
        ]

    def as_csv(self) -> str:
        """The predictions file as text."""
        ends = [name + end for name in self.figures for end in ("", "_low", "_high")]
        out = io.StringIO()
        writer = csv.DictWriter(out, [*self.keys, *ends, MISSING], lineterminator="\n", restval="")
        writer.writeheader()
        for row, figures, reason in zip(self.rows, self.predictions, self.reasons, strict=True):
            known = {name: f"{value:.6g}" for name, value in figures.items() if value == value}
            writer.writerow({key: row.get(key, "") for key in self.keys} | known | {MISSING: reason})
        return out.getvalue()


@dataclass(frozen=True)
class _Kind:
    """One of the files."""

    name: str
    keys: tuple[str, ...]
    figures: tuple[str, ...]
    predict: Callable[[Row, Path], Figures]


def _kv(row: Row, folder: Path) -> Figures:
    prediction = predict_kv(row)
    figures = {name: value for name, value in prediction._asdict().items() if value is not None}
    return figures | {"starts": float(prediction.starts)}


def _step(row: Row, folder: Path) -> Figures:
    step = predict_step(row)
    return {"measured_ms": step.measured_ms, "measured_ms_low": step.low, "measured_ms_high": step.high}


KINDS = (
    _Kind("kv_capacity.csv", ("id",), ("kv_tokens", "kv_gib_per_gpu", "starts"), _kv),
    _Kind(
        "decode_steps.csv",
        ("source", "gpu", "engine", "llm", "tp", "batch", "context"),
        ("measured_ms",),
        _step,
    ),
    _Kind(
        "serving.csv",
        ("id",),
        ("total_throughput", "output_throughput", "ttft_mean_ms", "ttft_median_ms", "tpot_mean_ms"),
        predict_serving,
    ),
)


def predict_public(
    folder: Path, processes: int = 1, progress: Progress = lambda what, done, of: None
) -> list[PublicTable]:
    """Predict every row of every file of a folder, whatever the number of processes.

    Raises
    ------
    DataError
        The folder has none of the files, or one cannot be read.
    """
    kinds = [kind for kind in KINDS if (folder / kind.name).is_file()]
    if not kinds:
        raise DataError(f"{folder} holds none of {', '.join(kind.name for kind in KINDS)}")
    return [_predicted(kind, folder, processes, progress) for kind in kinds]


def _predicted(kind: _Kind, folder: Path, processes: int, progress: Progress) -> PublicTable:
    rows = _read(folder / kind.name, kind.keys)
    with Workers(partial(_predict_row, kind.name, folder), processes) as workers:
        results = workers.map(rows, lambda done: progress(f"predicting {kind.name}", done, len(rows)))
    predictions, reasons = zip(*results, strict=True) if results else ((), ())
    return PublicTable(kind.name, kind.keys, kind.figures, tuple(rows), tuple(predictions), tuple(reasons))


def _predict_row(name: str, folder: Path, row: Row) -> tuple[Figures, str]:
    """The figures, or why there are none; a server that would not start is a prediction, too."""
    kind = next(kind for kind in KINDS if kind.name == name)
    try:
        return kind.predict(row, folder), ""
    except LoratwinError as error:
        return {}, str(error)


def _read(path: Path, keys: Sequence[str]) -> list[Row]:
    try:
        with open(path, newline="", encoding="utf-8") as file:
            rows: list[Row] = [dict(row) for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as CSV ({error})") from None
    for key in keys:
        if rows and key not in rows[0]:
            raise DataError(f"{path} has no column {key}")
    return rows
