"""Pure functions over a run, measured or simulated: latencies, throughput, gauges, starvation, fairness, SLOs."""

from loratwin.metrics.adapters import AdapterFigures, jain, per_adapter, starving_adapters
from loratwin.metrics.client import ClientFigures, client_figures, failures_by_kind, lag_s
from loratwin.metrics.client_adapters import ClientAdapterFigures, client_per_adapter
from loratwin.metrics.comparison import (
    ComparedRow,
    Comparison,
    Figure,
    compare,
    config_differences,
    run_figures,
    workload_differences,
)
from loratwin.metrics.concurrency import InFlight, awaiting_first_token, in_flight
from loratwin.metrics.gaps import itl_mean_s, itl_percentiles_s
from loratwin.metrics.gauges import gauges
from loratwin.metrics.intervals import Interval, confidence_interval, t_quantile
from loratwin.metrics.latency import Side, e2e_s, finished, only_of, queueing_s, tpot_s, ttft_s
from loratwin.metrics.slo import Limit, Slo, latency_figure_s, parse_slo
from loratwin.metrics.slo_rows import SloFor, SloRows, check_slo_for, few_for, missing_rows, slo_rows
from loratwin.metrics.starvation import (
    SLOW_TTFT_MS,
    STARVED_RATIO,
    Starvation,
    is_slow,
    missing,
    queue_grows,
    starvation,
    waiting_over_time,
)
from loratwin.metrics.status import accepted, censored, failed, never_sent, sent
from loratwin.metrics.summary import Summary, over_replications, summarize
from loratwin.metrics.throughput import TokenRates, goodput, offered, served_share, throughput
from loratwin.metrics.validity import validity

__all__ = [
    "SLOW_TTFT_MS",
    "STARVED_RATIO",
    "AdapterFigures",
    "ClientAdapterFigures",
    "ClientFigures",
    "ComparedRow",
    "Comparison",
    "Figure",
    "InFlight",
    "Interval",
    "Limit",
    "Side",
    "Slo",
    "SloFor",
    "SloRows",
    "Starvation",
    "Summary",
    "TokenRates",
    "accepted",
    "awaiting_first_token",
    "censored",
    "check_slo_for",
    "client_figures",
    "client_per_adapter",
    "compare",
    "confidence_interval",
    "config_differences",
    "e2e_s",
    "failed",
    "failures_by_kind",
    "few_for",
    "finished",
    "gauges",
    "goodput",
    "in_flight",
    "is_slow",
    "itl_mean_s",
    "itl_percentiles_s",
    "jain",
    "lag_s",
    "latency_figure_s",
    "missing",
    "missing_rows",
    "never_sent",
    "offered",
    "only_of",
    "over_replications",
    "parse_slo",
    "per_adapter",
    "queue_grows",
    "queueing_s",
    "run_figures",
    "sent",
    "served_share",
    "slo_rows",
    "starvation",
    "starving_adapters",
    "summarize",
    "t_quantile",
    "throughput",
    "tpot_s",
    "ttft_s",
    "validity",
    "waiting_over_time",
    "workload_differences",
]
