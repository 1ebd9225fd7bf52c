"""A file of recorded requests in a specification: where it is, and how it is read."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from loratwin.errors import DataError, InputError
from loratwin.records import Sharing
from loratwin.records.files import is_run_file
from loratwin.refusals import did_you_mean
from loratwin.traces import Reading, Trace, format_names, read_trace
from loratwin.workload.recorded import record_sharing, record_trace
from loratwin.workload.strict import ExistingFile, Strict, refusal


class TraceColumns(Strict):
    """Which column of a trace is what, where its form is not known by name; of JSON, a dotted path."""

    time: str | None = Field(None, min_length=1, description="When requests arrive.")
    prompt: str | None = Field(None, min_length=1, description="Prompt tokens.")
    output: str | None = Field(None, min_length=1, description="Output tokens.")
    adapter: str | None = Field(None, min_length=1, description="Name of the adapter; empty: none.")
    status: str | None = Field(None, min_length=1, description="HTTP status, or a word; failed requests are left out.")
    blocks: str | None = Field(None, min_length=1, description="Numbers of the blocks that the prompt begins with.")

    def pairs(self) -> tuple[tuple[str, str], ...]:
        """Those given, as (role, column)."""
        return tuple((role, name) for role, name in self if name is not None)


class TraceFile(Strict):
    """A file of recorded requests, and how it is read."""

    path: ExistingFile = Field(description="The trace, relative to this file.")
    format: str | None = Field(None, description="Form of the trace (default: recognised by its columns).")
    columns: TraceColumns | None = Field(None, description="Which column is what (default: as the form says).")
    unit: Literal["s", "ms", "us", "ns", "timestamp"] | None = Field(
        None, description="Unit of the times (default: that of the form, or as the first one looks)."
    )
    unfit: Literal["refuse", "skip", "clip"] | None = Field(
        None,
        description="Rows that are no request: refuse the file, skip them, or clip their lengths (default: failed "
        "requests of public traces are skipped, all else is refused).",
    )

    @model_validator(mode="after")
    def _known(self) -> TraceFile:
        if self.format is not None and self.format not in format_names():
            raise refusal("format", f"unknown format{did_you_mean(self.format, format_names())}")
        try:
            self.trace()
        except (InputError, DataError) as error:
            raise refusal("path", str(error)) from None
        return self

    def trace(self) -> Trace:
        """The whole trace as it is in the file."""
        if is_run_file(self.path):
            return record_trace(self.path)
        columns = () if self.columns is None else self.columns.pairs()
        return read_trace(self.path, Reading(self.format, columns, self.unit, self._shift(), self.unfit))

    def recorded_sharing(self) -> Sharing | None:
        """What the requests share, of the record of a run that says so; None: nothing."""
        return record_sharing(self.path) if is_run_file(self.path) else None

    def _shift(self) -> bool | None:
        return None
