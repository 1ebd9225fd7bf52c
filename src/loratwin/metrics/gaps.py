"""Inter-token latency (ITL): the distribution over all gaps between tokens of the requests finished in the window.

The mean needs no step series: the gaps of a request add up to finish - first token. Percentiles need more. A client has
its histogram of gaps, those of unfinished requests included, and each percentile is the middle of its bin. A simulated
run has its steps: a request that runs
gets one token at the end of every step, so its gaps are the durations of the steps that end after its first token and
up to its finish. Not so for a request that was preempted (or left out of a step for lack of token budget) in between:
its long gap is counted as the steps that it waited through. Such requests are rare where a server is worth running, and
the mean is exact in any case.
"""

from __future__ import annotations

import numpy as np

from loratwin.metrics.latency import finished
from loratwin.metrics.percentiles import ranked
from loratwin.records import GapHistogram, Run, StepSeries
from loratwin.records.columns import FloatArray, IntArray, LongArray


def itl_mean_s(run: Run) -> float:
    """Mean over all gaps: sum of (finish - first token) / sum of (output tokens - 1). NaN without gaps.

    Where a client kept the sum of its gaps, theirs: deliveries of several tokens are fewer gaps than tokens.
    """
    if run.gaps is not None and run.gaps.sum_s is not None:
        number = int(run.gaps.counts.sum())
        return run.gaps.sum_s / number if number else float("nan")
    done = finished(run)
    num_gaps = int(run.requests.output_tokens[done].sum(dtype=np.int64)) - int(done.sum())
    span_s = float((run.requests.finish_s[done] - run.requests.first_token_s[done]).sum())
    return span_s / num_gaps if num_gaps else float("nan")


def itl_percentiles_s(run: Run, percents: tuple[float, ...]) -> tuple[float, ...]:
    """Percentiles over all gaps, as `np.percentile` of the list of them. NaN without gaps or without any series.

    The client's own gaps come first: the steps of a measured run are the engine's, which no network has delayed.
    """
    if run.gaps is not None:
        return weighted_percentiles(run.gaps.middle_s, run.gaps.counts.sum(axis=0), percents)
    if run.steps is None or not len(run.steps):
        return (float("nan"),) * len(percents)
    return weighted_percentiles(run.steps.duration_s, gaps_per_step(run, run.steps), percents)


def gaps_per_step(run: Run, steps: StepSeries) -> IntArray:
    """How many gaps end with each step: requests with first token < end of step <= finish. Shape (num_steps,)."""
    from loratwin.kernel import gaps_per_step as count  # with numba, which a client's run is read without

    return count(steps.start_s + steps.duration_s, run.requests.first_token_s, run.requests.finish_s, finished(run))


def gap_percentiles_by_adapter_s(gaps: GapHistogram, percents: tuple[float, ...]) -> tuple[FloatArray, ...]:
    """Percentiles over the gaps of each adapter, the last of those without. Each of shape (num_adapters + 1,)."""
    rows = [weighted_percentiles(gaps.middle_s, counts, percents) for counts in gaps.counts]
    return tuple(np.array(column, dtype=np.float64) for column in zip(*rows, strict=True))


def weighted_percentiles(
    values: FloatArray, weights: IntArray | LongArray, percents: tuple[float, ...]
) -> tuple[float, ...]:
    """`np.percentile(np.repeat(values, weights), percents)` without the long list."""
    number = int(weights.sum(dtype=np.int64))
    if not number:
        return (float("nan"),) * len(percents)
    place = np.asarray(percents) / 100 * (number - 1)
    low = np.floor(place)
    ranks = np.concatenate([low, np.minimum(low + 1, number - 1)]).astype(np.int64)
    at_low, at_high = ranked(values, ranks, weights).reshape(2, -1)
    return tuple((at_low + (place - low) * (at_high - at_low)).tolist())
