"""What a measured run knows besides its requests: gaps between tokens, tokens over time, and what was scraped."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from loratwin.errors import InputError
from loratwin.records.columns import ColumnTable, FloatArray, LongArray, column


@dataclass(frozen=True, eq=False)
class GapHistogram:
    """Gaps between deliveries of tokens in bins of equal ratio: one row for each adapter, the last for no adapter.

    Bin 0 holds all gaps below `least_s`; bin i > 0 those from `least_s * 2**((i - 1) / per_octave)` up; the last also
    all above it. A client that keeps every gap would grow without bound; at 64 bins per octave the middle of a bin is
    at most 0.54 % off. Unlike in the latencies, gaps of unfinished requests are in it too.

    Parameters
    ----------
    counts
        Shape (num_adapters + 1, num_bins).
    least_s
        Seconds: where bin 1 begins.
    per_octave
        Bins from one gap to twice as long a one.
    sum_s
        Sum of all gaps, where it is known beside the bins; else None, and the mean gap is that of the requests' times.
    """

    counts: LongArray
    least_s: float = 1e-5
    per_octave: int = 64
    sum_s: float | None = None

    def __post_init__(self) -> None:
        counts = np.asarray(self.counts)
        if counts.ndim != 2 or counts.shape[1] < 2 or counts.dtype.kind not in "iu" or (counts < 0).any():
            raise InputError("GapHistogram.counts: expected whole numbers >= 0 of shape (num_adapters + 1, num_bins)")
        counts = counts.astype(np.int64, copy=False).view()
        counts.flags.writeable = False
        object.__setattr__(self, "counts", counts)

    @property
    def middle_s(self) -> FloatArray:
        """What the gaps of each bin are taken for. Shape (num_bins,)."""
        exponent = (np.arange(self.counts.shape[1]) - 0.5) / self.per_octave
        middle: FloatArray = self.least_s * 2.0**exponent
        return middle


@dataclass(frozen=True, eq=False)
class DeliverySeries(ColumnTable):
    """Output tokens that reached the client in consecutive parts of the window. Columns have shape (num_parts,).

    Parameters
    ----------
    end_s
        Seconds from the start of the window: where each part ends.
    output_tokens
        In each part.
    """

    end_s: FloatArray = column(np.float64)
    output_tokens: LongArray = column(np.int64)


@dataclass(frozen=True, eq=False)
class Series:
    """One series of a source, with its labels.

    Parameters
    ----------
    name, labels
        As the source has them.
    values
        One for each sample; NaN where it failed or the series was not there. Shape (num_samples,).
    """

    name: str
    labels: tuple[tuple[str, str], ...]
    values: FloatArray

    def __post_init__(self) -> None:
        values = np.asarray(self.values, dtype=np.float64).view()
        values.flags.writeable = False
        object.__setattr__(self, "values", values)
        object.__setattr__(self, "labels", tuple((str(key), str(value)) for key, value in self.labels))


@dataclass(frozen=True, eq=False)
class Samples:
    """All series of one source, sampled together.

    Parameters
    ----------
    source
        "server" (the engine's `/metrics`), or "gpu".
    time_s
        When each sample was taken, from the start of the window; before it is negative. Shape (num_samples,).
    series
        All of the source.
    """

    source: str
    time_s: FloatArray
    series: tuple[Series, ...]

    def __post_init__(self) -> None:
        time_s = np.asarray(self.time_s, dtype=np.float64).view()
        time_s.flags.writeable = False
        object.__setattr__(self, "time_s", time_s)
        object.__setattr__(self, "series", tuple(self.series))
        if np.isnan(time_s).any() or (np.diff(time_s) < 0).any():
            raise InputError(f"Samples {self.source!r}: time_s must ascend, without NaN")
        for one in self.series:
            if one.values.shape != time_s.shape:
                raise InputError(f"Samples {self.source!r}: {one.name} has {len(one.values)} of {len(time_s)} values")

    def find(self, name: str, **labels: str) -> tuple[Series, ...]:
        """The series of this name that have these labels."""
        wanted = set(labels.items())
        return tuple(one for one in self.series if one.name == name and wanted <= set(one.labels))


def samples_as_plain(samples: Samples) -> dict[str, Any]:
    """As lists and numbers; a series that never changes is one number."""
    rows = [[one.name, dict(one.labels), _values_as_plain(one.values)] for one in samples.series]
    return {"source": samples.source, "time_s": samples.time_s.tolist(), "series": rows}


def samples_from_plain(plain: dict[str, Any]) -> Samples:
    """The inverse of `samples_as_plain`."""
    num = len(plain["time_s"])
    series = [
        Series(name, tuple(labels.items()), _values_from_plain(values, num)) for name, labels, values in plain["series"]
    ]
    return Samples(plain["source"], np.array(plain["time_s"], dtype=np.float64), tuple(series))


def _values_as_plain(values: FloatArray) -> Any:
    if len(values) and (values == values[0]).all():
        return values[0].item()
    return [value if abs(value) < float("inf") else None for value in values.tolist()]


def _values_from_plain(values: Any, num: int) -> FloatArray:
    if not isinstance(values, list):
        return np.full(num, values, dtype=np.float64)
    return np.array(values, dtype=np.float64)


def gaps_as_plain(gaps: GapHistogram) -> dict[str, Any]:
    """As lists and numbers: for each row, the bins that are not empty."""
    rows = [[np.flatnonzero(row).tolist(), row[np.flatnonzero(row)].tolist()] for row in gaps.counts]
    head = {"least_s": gaps.least_s, "per_octave": gaps.per_octave, "num_bins": gaps.counts.shape[1]}
    head |= {} if gaps.sum_s is None else {"sum_s": gaps.sum_s}
    return {**head, "rows": rows}


def gaps_from_plain(plain: dict[str, Any]) -> GapHistogram:
    """The inverse of `gaps_as_plain`."""
    counts = np.zeros((len(plain["rows"]), plain["num_bins"]), dtype=np.int64)
    for row, (bins, numbers) in zip(counts, plain["rows"], strict=True):
        row[bins] = numbers
    return GapHistogram(counts, plain["least_s"], plain["per_octave"], plain.get("sum_s"))
