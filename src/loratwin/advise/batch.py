"""The batch beyond which more memory buys almost nothing (arXiv 2503.08311, section 5).

Of the batches that were measured (or simulated) the largest one B with

    T(B) / (B T(1)) > epsilon    and    L(B) <= SLO

where T is the throughput, T(1) that of the smallest batch, and L the mean time between tokens; the SLO is given in
milliseconds, or as a multiple of L at batch 32. What the batch's KV cache does not need is free for other things.
"""

from __future__ import annotations

from dataclasses import dataclass

from loratwin.advise.sweep import BatchPoint, BatchSweep
from loratwin.errors import InputError

EPSILON = 0.1
"""Least batching efficiency, as the published figures have it."""

REFERENCE_BATCH = 32
"""The batch whose time between tokens a relative SLO is a multiple of."""

NEAR, WITHOUT_A_THIRD = 0.8, 2 / 3
"""There is a knee where so much of the best throughput is had with so much of the KV cache."""

PREEMPTS = 0.995
"""Share of the KV cache from which on requests are taken back."""


@dataclass(frozen=True)
class BatchAdvice:
    """Which batch, and what it leaves free.

    Parameters
    ----------
    point
        The batch to run; None: none is efficient enough within the SLO.
    fastest
        That of the highest throughput.
    slo_ms
        What the time between tokens must not exceed.
    epsilon
        Least efficiency.
    knee
        Whether throughput levels off before the KV cache is full; without a knee more memory would still help.
    """

    sweep: BatchSweep
    point: BatchPoint | None
    fastest: BatchPoint
    slo_ms: float
    epsilon: float
    knee: bool

    @property
    def share_of_fastest(self) -> float:
        """Throughput of the batch / of the fastest, 0 to 1."""
        return self.point.throughput / self.fastest.throughput if self.point else 0.0

    @property
    def share_of_largest(self) -> float:
        """Throughput of the batch / of the largest batch, which is what people run who want all: 0 to 1."""
        return self.point.throughput / self.sweep.points[-1].throughput if self.point else 0.0

    @property
    def kv_tokens_needed(self) -> float:
        """Tokens of KV cache that the batch fills at most."""
        return self.point.kv_used * self.point.kv_tokens if self.point else 0.0

    def kv_bytes_needed(self, kv_bytes_per_token: int) -> float:
        """The same in bytes, for `--kv-cache-memory-bytes`."""
        return self.kv_tokens_needed * kv_bytes_per_token

    @property
    def kv_free(self) -> float:
        """Share of the KV cache that the batch never uses, 0 to 1."""
        return 1 - self.point.kv_used if self.point else 0.0


def advise_batch(
    sweep: BatchSweep, slo_ms: float | None = None, multiple: float | None = None, epsilon: float = EPSILON
) -> BatchAdvice:
    """The largest batch that is efficient enough and within the SLO.

    Parameters
    ----------
    sweep
        One server with each `max_num_seqs`.
    slo_ms
        Most milliseconds between tokens; None: `multiple` of those at batch 32.
    multiple
        None: 2.
    epsilon
        Least T(B) / (B T(1)).

    Returns
    -------
    BatchAdvice
        The batch, what it gives and leaves free; `point` is None where none is good enough.

    Raises
    ------
    InputError
        The sweep lacks the smallest batch, 1, or batch 32 where the SLO is a multiple of it; an SLO or an epsilon that
        makes no sense.
    """
    first = sweep.points[0]
    if first.batch != 1:
        raise InputError(f"the sweep of {sweep.llm} begins at batch {first.batch}: efficiency is measured against 1")
    if not 0 < epsilon < 1:
        raise InputError(f"epsilon = {epsilon:g}, but it must be between 0 and 1")
    limit_ms = _limit(sweep, slo_ms, multiple)
    fastest = max(sweep.points, key=lambda point: point.throughput)
    good = [point for point in sweep.points if efficiency(sweep, point) > epsilon and point.itl_ms <= limit_ms]
    return BatchAdvice(sweep, good[-1] if good else None, fastest, limit_ms, epsilon, _levels_off(sweep, fastest))


def efficiency(sweep: BatchSweep, point: BatchPoint) -> float:
    """T(B) / (B T(1)): how much of the batch's size is gained."""
    return point.throughput / (point.batch * sweep.points[0].throughput)


def _limit(sweep: BatchSweep, slo_ms: float | None, multiple: float | None) -> float:
    if slo_ms is not None:
        if multiple is not None:
            raise InputError("an SLO in milliseconds and a multiple: one of them")
        if not slo_ms > 0:
            raise InputError(f"an SLO of {slo_ms:g} ms, but it must be above 0")
        return slo_ms
    reference = sweep.at(REFERENCE_BATCH)
    if reference is None:
        listed = ", ".join(str(point.batch) for point in sweep.points)
        raise InputError(
            f"the sweep of {sweep.llm} has no batch {REFERENCE_BATCH} (it has {listed}), which the SLO is a multiple "
            "of: measure it, or give the SLO in milliseconds"
        )
    factor = 2.0 if multiple is None else multiple
    if not factor > 0:
        raise InputError(f"a multiple of {factor:g}, but it must be above 0")
    return factor * reference.itl_ms


def _levels_off(sweep: BatchSweep, fastest: BatchPoint) -> bool:
    """A batch that leaves a third of the KV cache free comes near to the best throughput."""
    return any(
        point.throughput >= NEAR * fastest.throughput and point.kv_used <= WITHOUT_A_THIRD for point in sweep.points
    )
