"""One record for each of several servers that were measured together, beside the one of all."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from loratwin.bench.gauges import scraped_gauges
from loratwin.bench.running import PlacedServer, RunningServers
from loratwin.metrics import validity
from loratwin.records import AdapterTable, RequestTable, Run, StepSeries
from loratwin.workload import BASE


def of_server(run: Run, number: int, servers: RunningServers, steps: StepSeries | None) -> Run:
    """What one server did: its requests, its series, its steps. Gaps and deliveries are known for all together only.

    Where all servers are alike each was given every n-th request, so an adapter's rate is an n-th, too; else it is the
    part of the adapter's requests that came here.
    """
    table = run.requests
    assert table.replica is not None
    on_server = table.replica == number
    requests = table.take(on_server)
    if servers.planned:
        planned = servers.planned[number]
        adapters, requests = _held(run, planned, requests)
        config = planned.config
    else:
        adapters = replace(run.adapters, rate_per_s=run.adapters.rate_per_s / np.float64(len(servers.urls)))
        config = run.config
    one = replace(
        run,
        requests=requests,
        adapters=adapters,
        config=config,
        kv_tokens=servers.kv_tokens[number],
        steps=steps,
        gauges=None,
        gaps=None,
        deliveries=None,
        sharing=run.sharing and run.sharing.take(np.flatnonzero(on_server)),
        samples=tuple(
            replace(source, source="server") if source.source == f"server-{number}" else source
            for source in run.samples
            if source.source in (f"server-{number}", "gpu")
        ),
    )
    one = replace(one, gauges=scraped_gauges(one.samples))
    return replace(one, invalid=validity(one))


def _held(run: Run, planned: PlacedServer, requests: RequestTable) -> tuple[AdapterTable, RequestTable]:
    """The adapters that a server holds, with their rates there, and its requests by their numbers among these."""
    held = np.array(planned.adapters, np.intp)
    all_of = np.bincount(run.requests.adapter[run.requests.adapter != BASE], minlength=len(run.adapters))
    requests_of_each = np.bincount(requests.adapter[requests.adapter != BASE], minlength=len(run.adapters))
    share = np.divide(requests_of_each, all_of, out=np.zeros(len(run.adapters)), where=all_of > 0)
    adapters = AdapterTable(
        tuple(run.adapters.name[number] for number in held),
        run.adapters.rank[held],
        (run.adapters.rate_per_s * share)[held],
    )
    number_here = np.full(len(run.adapters) + 1, BASE, np.int32)  # the last: without adapter
    number_here[held] = np.arange(len(held), dtype=np.int32)
    return adapters, replace(requests, adapter=number_here[requests.adapter])
