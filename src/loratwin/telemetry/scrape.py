"""`/metrics` of a server, scraped on an absolute cadence on the clock of the benchmark."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from loratwin.http import Connection
from loratwin.records.series import Samples
from loratwin.telemetry.cadence import check_period
from loratwin.telemetry.exposition import MOST_SERIES, Exposition
from loratwin.telemetry.sampler import Sampler
from loratwin.telemetry.table import SeriesKey


class Scrape(Sampler):
    """A thread that asks a server for its `/metrics` at start + k x `every_s`.

    A sample's time is when it was asked for. Counters are kept as they are; buckets, sums and counts of histograms
    are given out as what came since the scrape before. A scrape that failed, or was missed because the one before it
    took too long, is NaN in every series; so is a series where the server did not show it.

    Parameters
    ----------
    url
        The server's address, with or without `/v1`.
    journal
        Each scrape is appended to this file as it comes; `read_journal` reads it.
    headers
        Sent along, as that with an API key; written nowhere.
    timeout_s
        After which a scrape has failed; the ticks in the meantime are missed.

    Raises
    ------
    InputError
        The address or period is none, or the journal cannot be written.
    """

    def __init__(
        self,
        url: str,
        every_s: float = 1.0,
        journal: Path | None = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = 10.0,
    ) -> None:
        check_period(every_s, "scrapes")
        self._connection = Connection(url, headers, timeout_s)
        self._exposition = Exposition()
        super().__init__("server", every_s, journal)

    def __enter__(self) -> Scrape:
        self._start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop()
        self._connection.close()

    def samples(self, zero_s: float, from_s: float, to_s: float) -> Samples:
        """What was scraped in [from_s, to_s] of `time.monotonic`; the times given out count from `zero_s`."""
        return self._table.samples(zero_s, from_s, to_s)

    def _take(self) -> Mapping[SeriesKey, float]:
        values = self._exposition.read(self._connection.get("/metrics").decode("utf-8", "replace"))
        if self._exposition.cut:
            self._note(f"the server shows more than {MOST_SERIES} series; the rest is left out")
        return values

    def _cut_off(self) -> None:
        self._connection.cut_off()
