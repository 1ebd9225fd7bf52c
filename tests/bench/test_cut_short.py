"""A window that was cut short, by Ctrl-C or a kill: what was never due is no fault of the run."""

from __future__ import annotations

import numpy as np

from loratwin.bench.result import _requests, _rows
from loratwin.bench.shared.journal import COLUMNS
from loratwin.records.columns import AnyArray


def columns(scheduled: list[float], sent: list[float]) -> dict[str, AnyArray]:
    """The journal's columns of these requests; nothing came back."""
    num = len(scheduled)
    empty: dict[str, AnyArray] = {
        name: np.full(num, np.nan) if code == "d" else np.full(num, -1, dtype=np.int32)
        for name, code in COLUMNS.items()
    }
    lengths = dict.fromkeys(("prompt_tokens", "output_tokens"), np.full(num, 4, dtype=np.int32))
    return {**empty, **lengths, "scheduled_s": np.array(scheduled), "sent_s": np.array(sent)}


def test_requests_that_the_client_did_not_come_to_are_left_out() -> None:
    journal = columns([0.1, 0.5, 1.0, 1.2, 5.0], [0.1, np.nan, 1.0, np.nan, np.nan])
    whole = _requests(journal, 2.0, _rows(journal, 2.0))
    assert whole.scheduled_s is not None and whole.scheduled_s.tolist() == [0.1, 0.5, 1.0, 1.2]
    cut = _requests(journal, 2.0, _rows(journal, 2.0, cut_short=True))
    assert cut.scheduled_s is not None and cut.scheduled_s.tolist() == [0.1, 0.5, 1.0]  # the second was passed over


def test_nothing_sent_is_nothing_due() -> None:
    assert len(_rows(columns([0.1], [np.nan]), 2.0, cut_short=True)) == 0
