"""How far off profiles that were never measured are: errors by GPU and engine, each judged by all others.

Rows of one server are alike: they share the GPU, its host and whatever its owner did to it, so that an error is as good
as one for each GPU and engine, however many rows there are. What is off on the next one is taken as Student's t with a
degree of freedom for each of those, around 0 (`loratwin.perf.assume.TRANSFER` has the half-widths).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from statistics import fmean

from loratwin.metrics.intervals import t_quantile
from loratwin.validate.cells import number
from loratwin.validate.public import PublicTable, Row

LEVEL = 0.9

BEHIND = 1.1
"""Times as long as requests came must a run have lasted to count as saturated."""

NOT_FOR_LATENCY = "do not use for latency"
"""Said of rows whose figures do not fit together."""


@dataclass(frozen=True)
class TransferError:
    """Of one figure of saturated runs, on servers that no profile was fitted to."""

    figure: str
    servers: int  # GPUs and engines
    rms: float  # of log(measured / predicted) over them
    half_width: float  # of an interval of LEVEL
    left_out_inside: int  # servers whose error lies in the interval that the others make


def transfer_errors(table: PublicTable) -> list[TransferError]:
    """Of each figure of `serving.csv` that three servers or more tell.

    Parameters
    ----------
    table
        Rows and their predictions.
    """
    known = [(figure, _by_server(table, figure)) for figure in table.figures]
    return [_of(figure, list(errors.values())) for figure, errors in known if len(errors) > 2]


def _of(figure: str, errors: list[float]) -> TransferError:
    inside = 0
    for i, error in enumerate(errors):
        inside += error <= _half_width(errors[:i] + errors[i + 1 :])
    return TransferError(figure, len(errors), _rms(errors), _half_width(errors), inside)


def _half_width(errors: list[float]) -> float:
    return t_quantile((1 + LEVEL) / 2, len(errors)) * _rms(errors)


def _rms(errors: Iterable[float]) -> float:
    return math.sqrt(fmean(error**2 for error in errors))


def _by_server(table: PublicTable, figure: str) -> dict[tuple[str, str], float]:
    """Root mean square of the logarithms of each GPU and engine, of saturated runs."""
    errors_of: dict[tuple[str, str], list[float]] = {}
    for row, predicted in zip(table.rows, table.predictions, strict=True):
        measured = number(row, figure)
        if measured and figure in predicted and _saturated(row) and _tells(row, figure):
            server = (row.get("gpu", ""), row.get("engine_version", "").split(" ")[0])
            errors_of.setdefault(server, []).append(math.log(measured / predicted[figure]))
    return {server: _rms(errors) for server, errors in errors_of.items()}


def _tells(row: Mapping[str, str], figure: str) -> bool:
    return figure.endswith("throughput") or NOT_FOR_LATENCY not in row.get("notes", "")


def _saturated(row: Row) -> bool:
    """A burst, or an open loop that lasted longer than its requests came. The measured duration may say so here."""
    load = row.get("load", "")
    came_s = (number(row, "num_requests") or 0.0) / (number(row, "request_rate") or math.inf)
    lasted_s = number(row, "duration_s") or 0.0
    return load.startswith("all at") or (load.startswith("open") and lasted_s > BEHIND * came_s > 0)
