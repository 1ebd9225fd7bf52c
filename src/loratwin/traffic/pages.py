"""One page of `/metrics`, or two: what was counted since the start of the server, or between them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from loratwin.errors import DataError, InputError
from loratwin.telemetry.exposition import page_values
from loratwin.traces.rows import UNREADABLE, open_table
from loratwin.traffic.observed import Observed
from loratwin.traffic.series import Counted, observed_of

_Key = tuple[str, tuple[tuple[str, str], ...]]
_Page = dict[_Key, float]
_STARTED = "process_start_time_seconds"
_SERIES = re.compile(r"[A-Za-z_]\w*:[\w:]+\{")


def is_page(text: str) -> bool:
    """Whether this is the beginning of a page of `/metrics`."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    return first.startswith(("# HELP", "# TYPE", "# EOF")) or _SERIES.match(first) is not None


def from_pages(paths: Sequence[Path], seconds: float | None, label: str) -> Observed:
    """Traffic between two pages, or of one since the server's start.

    Parameters
    ----------
    seconds
        Between them, or since the start; None: by when the files were written, and when the server says it was started.

    Raises
    ------
    InputError
        There are more than two, or nothing tells the time.
    DataError
        They have no such series.
    """
    if len(paths) > 2:
        raise InputError(f"{len(paths)} pages of /metrics: give one, or two in the order of time")
    texts = [_text(path) for path in paths]
    written = [path.stat().st_mtime for path in paths]
    source = " and ".join(path.name for path in paths)
    pages = [_page(path, text) for path, text in zip(paths, texts, strict=True)]
    started = max((value for (name, _), value in pages[-1].items() if name == _STARTED), default=None)
    before_s = written[0] if len(pages) == 2 else started
    notes: tuple[str, ...] = ()
    if seconds is None:
        if before_s is None:
            raise InputError(f"{source}: the page does not say when the server was started; --seconds says it")
        seconds = written[-1] - before_s
        how = "written" if len(pages) == 2 else "written, and by when the server says it was started"
        notes = (f"{seconds:,.0f} s by when the files were {how}; --seconds says it better",)
    if not seconds > 0:
        raise InputError(f"{source}: {seconds:g} s between them: give the earlier page first, or say --seconds")
    keys = list(dict.fromkeys(key for page in pages for key in page))
    counted = [
        Counted.of(key[0], dict(key[1]), _ends(pages, key))
        for key in keys
    ]  # fmt: skip
    begin = datetime.fromtimestamp(written[-1] - seconds, timezone.utc).strftime("about %Y-%m-%d %H:%M (UTC)")
    observed = observed_of(counted, seconds, begin, source, label)
    return replace(observed, notes=(*observed.notes, *notes))


def _ends(pages: Sequence[_Page], key: _Key) -> NDArray[np.float64]:
    """Before and after; what the first page does not show was zero then."""
    before = pages[0].get(key, 0.0) if len(pages) == 2 else 0.0
    return np.array([before, pages[-1].get(key, np.nan)])


def _text(path: Path) -> str:
    try:
        with open_table(path) as opened:
            return "" if isinstance(opened, Path) else str(opened.read())
    except UNREADABLE as error:
        raise InputError(f"{path}: cannot be read ({error})") from None


def _page(path: Path, text: str) -> _Page:
    try:
        return page_values(text)
    except DataError as error:
        raise DataError(f"{path}: {error}") from None
