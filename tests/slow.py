"""Tests that take so long that the everyday command leaves them out; .ci/run sets LORATWIN_SLOW=1."""

from __future__ import annotations

import os

import pytest

SLOW = os.environ.get("LORATWIN_SLOW") == "1"

slow = pytest.mark.skipif(not SLOW, reason="takes more than ten seconds: set LORATWIN_SLOW=1")
"""Put on a test of something that other tests go through every day, too."""
