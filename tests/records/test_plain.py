"""Plain data: what JSON takes."""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import inf, nan

import numpy as np

from loratwin.records.plain import as_plain


@dataclass
class Point:
    x: float
    values: np.ndarray


def test_what_is_undefined_or_infinite_becomes_none_however_deep() -> None:
    data = {"a": nan, "b": [1.5, inf, (2, nan)], "c": {"d": np.array([1.0, nan])}, "e": Point(-inf, np.array([1, 2]))}
    assert as_plain(data) == {
        "a": None,
        "b": [1.5, None, [2, None]],
        "c": {"d": [1.0, None]},
        "e": {"x": None, "values": [1, 2]},
    }
    json.dumps(as_plain(data), allow_nan=False)


def test_numbers_of_numpy_become_pythons() -> None:
    plain = as_plain(
        {"count": np.int64(3), "flag": np.bool_(True), "figure": np.float64("nan"), "name": "x", "no": None}
    )
    assert plain == {"count": 3, "flag": True, "figure": None, "name": "x", "no": None}
    assert [type(value) for value in plain.values()] == [int, bool, type(None), str, type(None)]
