"""Each adapter as its own users saw it: what became of their requests, every latency, and what reached them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from loratwin.metrics.adapters import per_adapter
from loratwin.metrics.client import lag_s
from loratwin.metrics.gaps import gap_percentiles_by_adapter_s
from loratwin.metrics.groups import Groups, share
from loratwin.metrics.latency import e2e_s, finished, tpot_s, ttft_s
from loratwin.metrics.slo import Slo
from loratwin.metrics.starvation import STARVED_RATIO
from loratwin.metrics.status import censored, failed, sent
from loratwin.metrics.throughput import within
from loratwin.records import Run
from loratwin.records.columns import BoolArray, FloatArray, IntArray


@dataclass(frozen=True, eq=False)
class ClientAdapterFigures:
    """One row for each adapter, and a last one for requests without adapter where there are any. Shape (num_rows,).

    Latencies are those of the requests finished in the window, seen by the client; NaN where there are none. ITL
    percentiles need the client's histogram of gaps and are NaN for a simulated run.
    """

    name: tuple[str, ...]
    adapter: IntArray  # row of the run's adapter table; -1: no adapter
    requests: IntArray
    sent: IntArray
    finished: IntArray
    refused: IntArray
    failed: IntArray
    censored: IntArray
    received_tokens: FloatArray  # output tokens that reached the client within the window; NaN: nobody counted
    throughput: FloatArray  # tokens per second of finished requests, input and output
    offered: FloatArray
    served_share: FloatArray  # throughput / offered
    goodput: FloatArray  # requests per second within every limit; NaN without SLO
    ttft_mean_ms: FloatArray
    ttft_p50_ms: FloatArray
    ttft_p99_ms: FloatArray
    tpot_mean_ms: FloatArray
    tpot_p50_ms: FloatArray
    tpot_p99_ms: FloatArray
    itl_mean_ms: FloatArray
    itl_p50_ms: FloatArray
    itl_p99_ms: FloatArray
    e2e_mean_ms: FloatArray
    e2e_p50_ms: FloatArray
    e2e_p99_ms: FloatArray
    lag_mean_ms: FloatArray  # sent - scheduled
    lag_p50_ms: FloatArray
    lag_p99_ms: FloatArray
    starved: BoolArray

    def __len__(self) -> int:
        return len(self.name)

    @property
    def only_unfinished(self) -> BoolArray:
        """Lost a tenth of its tokens and is not starved: nobody was left behind, the last were still on their way."""
        lost: BoolArray = (self.served_share <= STARVED_RATIO) & ~self.starved
        return lost

    def worst_first(self) -> IntArray:
        """Rows with requests: the starved, then by the share that was served, then by TTFT p99, the longest first."""
        asked = np.flatnonzero(self.requests > 0)
        slow = -np.nan_to_num(self.ttft_p99_ms, nan=np.inf)
        share_known = np.nan_to_num(self.served_share, nan=np.inf)
        return asked[np.lexsort((slow[asked], share_known[asked], ~self.starved[asked]))].astype(np.int32)


def client_per_adapter(run: Run, slo: Slo | None = None) -> ClientAdapterFigures:
    """Figures of each adapter, by name, in the order of the adapter table."""
    groups, done, known = Groups(run), finished(run), per_adapter(run)
    return ClientAdapterFigures(
        name=groups.names,
        adapter=groups.adapter,
        requests=groups.count(),
        sent=groups.count(sent(run)),
        finished=known.finished,
        refused=groups.count(run.requests.refused),
        failed=groups.count(failed(run) & ~run.requests.refused),
        censored=groups.count(censored(run)),
        received_tokens=_received(run, groups),
        throughput=known.throughput,
        offered=known.offered,
        served_share=known.served_share,
        goodput=_goodput(run, groups, slo),
        starved=known.starved,
        **_latencies_ms(run, groups, done),
        **_itl_ms(run, groups, done),
    )


def _received(run: Run, groups: Groups) -> FloatArray:
    tokens = run.requests.received_tokens
    return np.full(groups.size, np.nan) if tokens is None else groups.sum(tokens.astype(np.float64))


def _goodput(run: Run, groups: Groups, slo: Slo | None) -> FloatArray:
    if slo is None:
        return np.full(groups.size, np.nan)
    rates: FloatArray = groups.count(finished(run) & within(run, slo.per_request_s())) / run.window_s
    return rates


def _latencies_ms(run: Run, groups: Groups, done: BoolArray) -> dict[str, FloatArray]:
    """Mean, median and 99th percentile of what single requests have; the lag is of all that were sent."""
    unfinished = ~done
    columns = {name: np.where(unfinished, np.nan, f(run)) for name, f in (("ttft", ttft_s), ("e2e", e2e_s))}
    columns |= {"tpot": np.where(unfinished, np.nan, tpot_s(run)), "lag": lag_s(run)}
    columns_ms: dict[str, FloatArray] = {}
    for name, seconds in columns.items():
        here = ~np.isnan(seconds)
        figures = groups.mean_and_percentiles(seconds[here] * 1e3, here, (50, 99))
        columns_ms.update(zip((f"{name}_mean_ms", f"{name}_p50_ms", f"{name}_p99_ms"), figures, strict=True))
    return columns_ms


def _itl_ms(run: Run, groups: Groups, done: BoolArray) -> dict[str, FloatArray]:
    """The mean from the requests, exactly (as `itl_mean_s`); percentiles from the histogram, to a bin."""
    span_s = groups.sum(run.requests.finish_s - run.requests.first_token_s, done)
    num_gaps = groups.sum(run.requests.output_tokens.astype(np.float64) - 1, done)
    p50 = p99 = np.full(len(run.adapters) + 1, np.nan)
    if run.gaps is not None:
        p50, p99 = gap_percentiles_by_adapter_s(run.gaps, (50, 99))
    rows = groups.adapter  # -1 is the last row of the histogram: no adapter
    return {
        "itl_mean_ms": share(span_s, num_gaps) * 1e3,
        "itl_p50_ms": p50[rows] * 1e3,
        "itl_p99_ms": p99[rows] * 1e3,
    }
