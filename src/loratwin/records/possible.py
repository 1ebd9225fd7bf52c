"""What cannot be in a table of requests: one such row would be counted into every mean without a word."""

from __future__ import annotations

import numpy as np

from loratwin.errors import DataError
from loratwin.records.run import RequestTable

_COUNTS = ("prompt_tokens", "output_tokens", "num_preemptions", "asked_tokens", "received_tokens")

_ORDER = (
    ("admitted_s", "arrival_s"),
    ("first_token_s", "arrival_s"),
    ("first_token_s", "sent_s"),
    ("finish_s", "arrival_s"),
    ("finish_s", "sent_s"),
)
"""(later, earlier). Not first token and finish: a server may tell of tokens only after it said that it has finished."""


def check_possible(requests: RequestTable) -> None:
    """Refuse a negative count, and what happened before its request was there; a time that is NaN did not happen.

    Raises
    ------
    DataError
        The first such row, counted from 0.
    """
    columns = requests.columns()
    for name in _COUNTS:
        values = columns.get(name)
        if values is not None and len(values) and values.min() < 0:
            row = int(np.argmax(values < 0))
            raise DataError(f"request {row} (counted from 0): {name} = {values[row]}, but it must be 0 or more")
    for later, earlier in _ORDER:
        if earlier in columns and (wrong := columns[later] < columns[earlier]).any():
            row = int(np.argmax(wrong))
            raise DataError(
                f"request {row} (counted from 0): {later} = {columns[later][row]:.6f} is before "
                f"{earlier} = {columns[earlier][row]:.6f}"
            )
