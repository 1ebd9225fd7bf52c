"""Pure functions over a run, measured or simulated: latencies, throughput, gauges, starvation, fairness, SLOs."""

from loratwin.metrics.adapters import AdapterFigures, jain, missing, per_adapter, starving_adapters
from loratwin.metrics.gaps import itl_mean_s, itl_percentiles_s
from loratwin.metrics.gauges import gauges
from loratwin.metrics.intervals import Interval, confidence_interval, t_quantile
from loratwin.metrics.latency import Side, e2e_s, finished, queueing_s, tpot_s, ttft_s
from loratwin.metrics.slo import Limit, Slo, latency_figure_s, parse_slo
from loratwin.metrics.starvation import STARVED_RATIO, Starvation, queue_grows, starvation, waiting_over_time
from loratwin.metrics.summary import Summary, over_replications, summarize
from loratwin.metrics.throughput import TokenRates, goodput, offered, served_share, throughput

__all__ = [
    "STARVED_RATIO",
    "AdapterFigures",
    "Interval",
    "Limit",
    "Side",
    "Slo",
    "Starvation",
    "Summary",
    "TokenRates",
    "confidence_interval",
    "e2e_s",
    "finished",
    "gauges",
    "goodput",
    "itl_mean_s",
    "itl_percentiles_s",
    "jain",
    "latency_figure_s",
    "missing",
    "offered",
    "over_replications",
    "parse_slo",
    "per_adapter",
    "queue_grows",
    "queueing_s",
    "served_share",
    "starvation",
    "starving_adapters",
    "summarize",
    "t_quantile",
    "throughput",
    "tpot_s",
    "ttft_s",
    "waiting_over_time",
]
