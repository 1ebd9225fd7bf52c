"""Several servers on one GPU: throughput and time between tokens of N replicas, from the sweep of one.

A replica's step is a time on the GPU, g, and a time in which the GPU waits for the host, h: g is the step's time times
the share in which the GPU was busy (NVML's utilization), h the rest. N replicas are N clients of one server, the GPU:
the machine repairman's model, solved by mean value analysis (Reiser and Lavenberg 1980),

    R_n = g (1 + Q_(n-1)),    C_n = h + R_n,    Q_n = n R_n / C_n,    Q_0 = 0,

where C_N is the time between tokens of each of N replicas. Two things change the batch that a replica runs: the KV
cache of a share of the memory (`running` is limited by it), and fewer requests each, of which the last run alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import numpy as np

from loratwin.advise.batch import PREEMPTS
from loratwin.advise.sweep import BatchPoint, BatchSweep
from loratwin.errors import CapacityError, InputError

DIRE = 0.97
"""Share of the KV cache that a server fills on average when it is the limit: the rest is lost to preemption."""


RUN_DOWN = 0.95
"""Of the requests at the cache's fullest, how many run on average over a run whose last requests run alone."""


@dataclass(frozen=True)
class Replicas:
    """N servers on one GPU, as predicted.

    Parameters
    ----------
    number
        N.
    batch
        `max_num_seqs` of each.
    running
        Requests that run in each, on average.
    itl_ms
        Time between tokens of each.
    throughput
        Tokens per second of all together.
    kv_tokens
        Size of the KV cache of each.
    kv_limited
        Whether it, and not the batch, says how many run.
    """

    number: int
    batch: int
    running: float
    itl_ms: float
    throughput: float
    kv_tokens: float
    kv_limited: bool


def cycle_s(host_s: float, gpu_s: float, number: int) -> float:
    """Seconds of a step of each of `number` replicas: `gpu_s` on the GPU that they share, `host_s` beside it."""
    queue = response = 0.0
    for replicas in range(1, number + 1):
        response = gpu_s * (1 + queue)
        queue = replicas * response / (host_s + response)
    return host_s + response


def predict_replicas(
    sweep: BatchSweep, batch: int, number: int, fixed_tokens: float, requests: int | None = None
) -> Replicas:
    """N replicas of a batch from the sweep of one server.

    Parameters
    ----------
    fixed_tokens
        Weights, activations and all else that each replica needs, in tokens of KV cache (bytes / bytes of a token).
    requests
        Of all replicas together, where they are a batch of requests sent at once, as for the sweep itself; None: a
        steady stream.

    Raises
    ------
    InputError
        The sweep does not tell how busy the GPU was, or has no such batch.
    CapacityError
        The replicas do not fit the memory.
    """
    alone = sweep.at(batch)
    if alone is None:
        raise InputError(f"the sweep of {sweep.llm} has no batch {batch}")
    if not alone.gpu_busy > 0:
        raise InputError(
            f"the sweep of {sweep.llm} does not tell how busy the GPU was (gpu_util_mean), which says what replicas "
            "would share"
        )
    kv_tokens = (alone.kv_tokens + fixed_tokens) / number - fixed_tokens
    per_request = _tokens_per_request(alone)
    if kv_tokens < per_request:
        raise CapacityError(
            f"{number} replicas of {sweep.llm} do not fit: {kv_tokens:,.0f} KV tokens are left for each"
        )
    most = DIRE * kv_tokens / per_request
    full = _full_share(batch, alone.running, requests, number)
    limited = most < batch * full
    running = min(batch * full, most)
    point = _between(sweep, min(batch, running / full if limited else batch))
    step_s, busy = point.itl_ms / 1e3, point.gpu_busy
    each_s = cycle_s(step_s * (1 - busy), step_s * busy, number)
    throughput = number * running / each_s * _tokens_per_step(point)
    return Replicas(number, batch, running, 1e3 * each_s, throughput, kv_tokens, limited)


def _tokens_per_request(point: BatchPoint) -> float:
    """KV tokens of a running request, when the cache was fullest."""
    return point.kv_used * point.kv_tokens / max(1.0, min(point.batch, point.running / RUN_DOWN))


def _tokens_per_step(point: BatchPoint) -> float:
    """Tokens (prompts' included) that count for each running request and step."""
    return point.throughput * point.itl_ms / 1e3 / point.running


def _full_share(batch: int, running: float, requests: int | None, number: int) -> float:
    """Share of the batch that runs on average: in a steady stream as in the sweep; when requests run out, the last
    ones run alone.

    The time of that is one request's, for each replica: what the sweep of one lost grows with the replicas.
    """
    alone = min(1.0, running / batch)
    if requests is None:
        return alone
    lost = 1 / alone - 1
    return 1 / (1 + lost * number)


def _between(sweep: BatchSweep, batch: float) -> BatchPoint:
    """A point between two of the sweep, each figure on a straight line."""
    batches = [float(point.batch) for point in sweep.points]

    def line(values: Sequence[float]) -> float:
        return float(np.interp(batch, batches, values))

    return BatchPoint(
        batch=round(batch),
        throughput=line([point.throughput for point in sweep.points]),
        itl_ms=line([point.itl_ms for point in sweep.points]),
        running=line([point.running for point in sweep.points]),
        kv_used=line([point.kv_used for point in sweep.points]),
        kv_tokens=line([point.kv_tokens for point in sweep.points]),
        gpu_busy=line([point.gpu_busy for point in sweep.points]),
    )


def best_replicas(
    sweep: BatchSweep, numbers: Sequence[int], slo_ms: float, fixed_tokens: float, requests: int | None = None
) -> Replicas | None:
    """Of all batches and numbers the one of the highest throughput within the SLO; None: none is.

    Raises
    ------
    InputError
        As `predict_replicas`, but for replicas that do not fit.
    """
    tried = []
    for number in numbers:
        for point in sweep.points:
            if point.kv_used >= PREEMPTS:
                continue
            with suppress(CapacityError):
                tried.append(predict_replicas(sweep, point.batch, number, fixed_tokens, requests))
    within = [replicas for replicas in tried if replicas.itl_ms <= slo_ms]
    return max(within, key=lambda replicas: replicas.throughput, default=None)


@dataclass(frozen=True)
class ReplicaAdvice:
    """What several numbers of replicas do, each with the same batch.

    Parameters
    ----------
    best
        Of all batches and numbers the fastest within the SLO; None: none is.
    too_many
        Numbers that do not fit the memory.
    """

    tried: tuple[Replicas, ...]
    best: Replicas | None
    too_many: tuple[int, ...]


def advise_replicas(
    sweep: BatchSweep,
    numbers: Sequence[int],
    fixed_tokens: float,
    *,
    batch: int | None = None,
    slo_ms: float | None = None,
    requests: int | None = None,
) -> ReplicaAdvice:
    """The best number of replicas, and what the others would do.

    Parameters
    ----------
    sweep
        Of one server.
    numbers
        Of replicas, to be tried.
    fixed_tokens, requests
        As for `predict_replicas`.
    batch
        Of each replica in what is tried; None: that of the best, or the largest.
    slo_ms
        Most milliseconds between tokens; None: no limit.

    Returns
    -------
    ReplicaAdvice
        What each number does, and which is best.

    Raises
    ------
    InputError
        As `predict_replicas`.
    """
    best = best_replicas(sweep, numbers, float("inf") if slo_ms is None else slo_ms, fixed_tokens, requests)
    chosen = batch or (best.batch if best is not None else sweep.points[-1].batch)
    tried, too_many = [], []
    for number in numbers:
        try:
            tried.append(predict_replicas(sweep, chosen, number, fixed_tokens, requests))
        except CapacityError:
            too_many.append(number)
    return ReplicaAdvice(tuple(tried), best, tuple(too_many))
