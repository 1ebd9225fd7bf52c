"""Tests that take so long that the everyday command leaves them out; .ci/run sets LORATWIN_SLOW=1."""

from __future__ import annotations

import os

import pytest
from hypothesis import settings

SLOW = os.environ.get("LORATWIN_SLOW") == "1"

slow = pytest.mark.skipif(not SLOW, reason="repeats in full what others try every day: set LORATWIN_SLOW=1")
"""Put on a test of something that other tests go through every day, too."""


def examples(every_day: int, thorough: int) -> settings:
    """How many random examples a test tries, where the usual number (`conftest.py`) is too many or too few."""
    return settings(max_examples=thorough if SLOW else every_day)
