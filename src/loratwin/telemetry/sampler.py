"""A source sampled on an absolute cadence into a table and a journal: what `Scrape` and `GpuSampler` share."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

from loratwin.errors import LoratwinError
from loratwin.records.series import Samples
from loratwin.telemetry.cadence import Cadence
from loratwin.telemetry.journal import Journal
from loratwin.telemetry.table import SampleTable, SeriesKey

_GRACE_S = 0.5  # for a sample that is being taken
_STOP_S = 5.0


class Sampler(ABC):
    """Base: a subclass says how one sample is taken (`_take`) and how a slow one is cut off (`_cut_off`)."""

    def __init__(self, source: str, every_s: float, journal: Path | None) -> None:
        self._table = SampleTable(source)
        self._latest_s = float("-inf")
        self._notes: dict[str, None] = {}  # in order, each once
        self._journal = None if journal is None else Journal(journal, source)
        self._cadence = Cadence(every_s, self._sample, lambda due_s: self._keep(due_s, {}, "missed"))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of the samples must know, as why some are missing."""
        return tuple(self._notes)

    def samples(self, zero_s: float, from_s: float, to_s: float) -> Samples | None:
        """What was sampled in [from_s, to_s] of `time.monotonic`; the times given out count from `zero_s`."""
        return self._table.samples(zero_s, from_s, to_s)

    @abstractmethod
    def _take(self) -> Mapping[SeriesKey, float]:
        """The values now; a LoratwinError says why there are none."""

    def _cut_off(self) -> None:  # noqa: B027  (not every source can)
        """End a sample that is being taken."""

    def _start(self) -> None:
        self._cadence.start()

    def _stop(self) -> None:
        if not self._cadence.stop(_GRACE_S):
            self._cut_off()
            self._cadence.stop(_STOP_S)
        if self._journal is not None:
            self._journal.close()

    def _sample(self) -> None:
        time_s = time.monotonic()
        try:
            self._keep(time_s, self._take(), None)
        except Exception as error:  # whatever a source does, the benchmark goes on
            reason = str(error) if isinstance(error, LoratwinError) else repr(error)
            self._note(f"samples failed: {reason}")
            self._keep(time_s, {}, reason)

    def _keep(self, time_s: float, values: Mapping[SeriesKey, float], failure: str | None) -> None:
        self._latest_s = time_s = max(time_s, self._latest_s)  # a tick missed while its sample was about to be taken
        restarts = len(self._table.restarts_s)
        self._table.append(time_s, values)
        if len(self._table.restarts_s) > restarts:
            self._note("counters went back: the server was restarted")
        if self._journal is not None:
            self._note(self._journal.append(time_s, values, failure))

    def _note(self, text: str | None) -> None:
        if text is not None:
            self._notes[text] = None
