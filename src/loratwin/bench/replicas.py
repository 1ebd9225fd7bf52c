"""One record for each of several servers that were measured together, beside the one of all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.bench.gauges import scraped_gauges
from loratwin.metrics import validity
from loratwin.records import Run, StepSeries


def of_replica(run: Run, replica: int, kv_tokens: int | None, steps: StepSeries | None) -> Run:
    """What one server did: its requests, its series, its steps. Gaps and deliveries are known for all together only.

    Each server was given every n-th request, so an adapter's rate is an n-th, too.
    """
    table = run.requests
    assert table.replica is not None
    count = int(table.replica.max(initial=0)) + 1
    one = replace(
        run,
        requests=table.take(table.replica == replica),
        adapters=replace(run.adapters, rate_per_s=run.adapters.rate_per_s / np.float64(count)),
        kv_tokens=kv_tokens,
        steps=steps,
        gauges=None,
        gaps=None,
        deliveries=None,
        samples=tuple(
            replace(source, source="server") if source.source == f"server-{replica}" else source
            for source in run.samples
            if source.source in (f"server-{replica}", "gpu")
        ),
    )
    one = replace(one, gauges=scraped_gauges(one.samples))
    return replace(one, invalid=validity(one))
