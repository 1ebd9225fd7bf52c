"""A server for each test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.telemetry.metrics_server import MetricsServer, metrics_server


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    with metrics_server() as made:
        yield made
