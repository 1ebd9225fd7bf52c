"""Tests that take so long that the everyday command leaves them out; .ci/run sets LORATWIN_SLOW=1."""

from __future__ import annotations

import os

import pytest

slow = pytest.mark.skipif(
    os.environ.get("LORATWIN_SLOW") != "1", reason="takes more than ten seconds: set LORATWIN_SLOW=1"
)
"""Put on a test of something that other tests go through every day, too."""
