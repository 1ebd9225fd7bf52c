"""What a client's figures tell of the step time: a few rows of the regression for each run without logged steps.

At the operating point (`operating_point`) the twin's steps are the server's. So a mean over the steps in which some
requests decode takes, on the server, the time between their tokens that the client saw; and a mean over the steps that
first tokens waited for takes their TTFT, the front end's overhead included. Requests are grouped so that the groups'
steps differ: by the batch that they decode in where that changes (open loops), by their prompts for TTFT.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from loratwin.calibrate.rows.operating_point import ClientMatch
from loratwin.calibrate.rows.step_log import StepRows, run_columns
from loratwin.perf import Profile, StepTimeModel

F8 = NDArray[np.float64]
I8 = NDArray[np.int64]

MISMATCH = 0.03
"""Relative error of a mean step, as the twin's steps are not the server's: see docs/reference/calibrate.md."""

MISTIMED = 0.1
"""The same for TTFT, of which a large part is the rest of the step in progress: it depends on when requests come."""

SAMPLES = 32
"""Numbers of tokens that stand for all steps of a row: means of equal parts, the smallest first."""

QUEUED = 0.2
"""Waiting requests per step of the twin from which on a TTFT is the queue's, as in `regression.overhead`."""

_BATCHES = 4  # groups of requests of an open loop
_PROMPTS = 2  # groups for TTFT
_FEWEST = 8  # requests in a group
_BLOCKS = 8  # stretches of a run whose differences tell how sure its mean is
_UNSURE = 0.1  # relative error of a mean of too few requests to tell


@dataclass(frozen=True)
class ClientRows:
    """Rows of several runs, run after run."""

    features: F8  # (rows, len(perf.step_time.COEFFICIENTS)) means over the twin's steps
    tokens: F8  # (rows, SAMPLES) padded tokens of these steps
    swap_ins: F8  # (rows,) per step
    first_tokens: F8  # (rows,) per step, of rows that are TTFTs; 0: time between tokens
    duration_s: F8  # (rows,) measured per step, loads taken out; of TTFTs with the front end's overhead
    error: F8  # (rows,) relative standard error: of the measured figure, and of the operating point
    run: I8  # (rows,) index into `names`
    names: tuple[str, ...]
    factor: float  # step times of the profile x this are those of the server: the median over the runs

    def __len__(self) -> int:
        return len(self.duration_s)

    @property
    def decoding(self) -> NDArray[np.bool_]:
        """Which rows are times between tokens. Shape (rows,)."""
        return np.asarray(self.first_tokens == 0)

    def predicted_s(self, model: StepTimeModel) -> F8:
        """The mean step of each row as a model has it, loads and front end left out. Shape (rows,)."""
        return np.asarray(model.dense_s(self.tokens).mean(axis=1)) + self.features @ model.linear

    def take(self, rows: NDArray[np.bool_]) -> ClientRows:
        """Some of the rows; the runs keep their numbers."""
        columns = ("features", "tokens", "swap_ins", "first_tokens", "duration_s", "error", "run")
        return replace(self, **{name: getattr(self, name)[rows] for name in columns})


def client_rows(matches: Sequence[ClientMatch], profile: Profile, in_time: Collection[str]) -> ClientRows:
    """Rows of all matched runs.

    Parameters
    ----------
    profile
        That of the matches: says how the engine runs its steps, and what loads take.
    in_time
        Names of the runs whose TTFTs count; if none of the matches is among them, the late ones' must do.
    """
    names = [m.name for m in matches]
    believed = set(names) & set(in_time) or set(names)
    parts = [_rows_of(m, profile, m.name in believed) for m in matches]
    rows = [row for part in parts for row in part]
    return ClientRows(
        features=np.array([row.features for row in rows]),
        tokens=np.array([row.tokens for row in rows]),
        swap_ins=np.array([row.swap_ins for row in rows]),
        first_tokens=np.array([row.first_tokens for row in rows]),
        duration_s=np.array([row.duration_s for row in rows]),
        error=np.array([row.error for row in rows]),
        run=np.repeat(np.arange(len(parts)), [len(part) for part in parts]),
        names=tuple(names),
        factor=float(np.exp(np.median(np.log([m.factor for m in matches])))),
    )


@dataclass(frozen=True)
class _ClientRow:
    features: F8
    tokens: F8
    swap_ins: float
    first_tokens: float
    duration_s: float
    error: float


@dataclass(frozen=True)
class _Steps:
    """The twin's steps, and what the rows are means of."""

    start_s: F8
    end_s: F8
    features: F8
    tokens: F8
    swap_ins: F8
    load_s: F8
    decode_requests: F8

    @classmethod
    def of(cls, m: ClientMatch, profile: Profile) -> _Steps:
        s, config = m.twin.steps, m.twin.config
        assert s is not None
        columns = run_columns(m.twin, profile.behaviour, profile.step_time.graph_tokens)
        costs = profile.loading.costs(m.twin.adapters.rank, config.max_lora_rank)
        swap_s = float(costs.swap_in_s.mean()) if len(costs.swap_in_s) else 0.0
        disk_s = float(costs.disk_load_s.mean()) if len(costs.disk_load_s) else 0.0
        return cls(
            start_s=s.start_s,
            end_s=s.start_s + s.duration_s,
            features=columns.linear,
            tokens=columns.tokens,
            swap_ins=s.swap_ins.astype(np.float64),
            load_s=s.swap_ins * swap_s + s.disk_loads * disk_s,
            decode_requests=s.decode_requests.astype(np.float64),
        )

    def row(self, weight: F8, first_tokens: float, duration_s: float, error: float) -> _ClientRow:
        """A mean over steps; `duration_s` is measured per step."""
        share = weight / weight.sum()
        return _ClientRow(
            features=share @ self.features,
            tokens=parts_of(self.tokens, share),
            swap_ins=float(share @ self.swap_ins),
            first_tokens=first_tokens,
            duration_s=max(duration_s - float(share @ self.load_s), 0.1 * duration_s),
            error=error,
        )


def parts_of(values: F8, share: F8, number: int = SAMPLES) -> F8:
    """Means of equal parts of weighted values, the smallest first: their mean is that of all. Shape (number,)."""
    order = np.argsort(values, kind="stable")
    reached = np.concatenate([[0.0], np.cumsum(share[order])])
    total = np.concatenate([[0.0], np.cumsum(share[order] * values[order])])
    edges = np.linspace(0.0, reached[-1], number + 1)
    means: F8 = np.diff(np.interp(edges, reached, total)) * number / reached[-1]
    return means


def _rows_of(m: ClientMatch, profile: Profile, ttft: bool) -> list[_ClientRow]:
    steps = _Steps.of(m, profile)
    return [*_decode_rows(m, steps), *(_ttft_rows(m, steps) if ttft else ())]


def _decode_rows(m: ClientMatch, steps: _Steps) -> list[_ClientRow]:
    """Times between tokens, of requests that decoded in batches of about the same size."""
    both = m.both[m.twin.requests.output_tokens[m.both] > 1]
    if not len(both):
        return []
    simulated, measured = m.twin.requests, m.measured.requests
    first = np.searchsorted(steps.end_s, simulated.first_token_s[both]) + 1
    last = np.searchsorted(steps.end_s, simulated.finish_s[both]) + 1
    mine = m.rows[both]
    gaps = measured.output_tokens[mine] - 1.0
    seen = measured.finish_s[mine] - measured.first_token_s[mine]
    expected = simulated.finish_s[both] - simulated.first_token_s[both]
    summed = np.concatenate([[0.0], np.cumsum(steps.decode_requests)])
    batch = (summed[last] - summed[first]) / np.maximum(last - first, 1)
    rows = []
    for group in _groups(batch, 1 if m.held else _BATCHES):
        weight = _coverage(first[group], last[group], len(steps.end_s))
        error = np.hypot(MISMATCH, _error(seen[group], expected[group], measured.finish_s[mine][group]))
        rows.append(steps.row(weight, 0.0, float(seen[group].sum() / gaps[group].sum()), float(error)))
    return rows


def _ttft_rows(m: ClientMatch, steps: _Steps) -> list[_ClientRow]:
    """First tokens of requests of about the same prompts, where nothing queues."""
    assert m.twin.steps is not None
    both = m.both
    if not len(both) or m.twin.steps.waiting.mean() > QUEUED:
        return []
    simulated, measured = m.twin.requests, m.measured.requests
    arrival, first = simulated.arrival_s[both], simulated.first_token_s[both]
    begun = np.searchsorted(steps.end_s, arrival, side="right")  # the step in progress, or the next to start
    last = np.searchsorted(steps.end_s, first) + 1
    done = np.clip((arrival - steps.start_s[begun]) / (steps.end_s[begun] - steps.start_s[begun]), 0.0, 1.0)
    sent_s = measured.arrival_s if measured.sent_s is None else measured.sent_s
    seen = (measured.first_token_s - sent_s)[m.rows[both]]
    rows = []
    for group in _groups(simulated.prompt_tokens[both].astype(np.float64), _PROMPTS):
        weight = _coverage(begun[group], last[group], len(steps.end_s))
        np.subtract.at(weight, begun[group], done[group])
        per_step = len(group) / weight.sum()
        error = np.hypot(MISTIMED, _error(seen[group], (first - arrival)[group], arrival[group]))
        rows.append(steps.row(weight, per_step, float(seen[group].mean()) * per_step, float(error)))
    return rows


def _groups(values: F8, number: int) -> list[I8]:
    """Indices in up to `number` groups of neighbouring values, of `_FEWEST` members or all."""
    number = max(1, min(number, len(values) // _FEWEST))
    return [np.sort(part) for part in np.array_split(np.argsort(values, kind="stable"), number)]


def _coverage(first: I8, last: I8, num_steps: int) -> F8:
    """In each step, how many of the ranges [first, last) contain it. Shape (num_steps,)."""
    change = np.bincount(first, minlength=num_steps + 1) - np.bincount(last, minlength=num_steps + 1)
    return np.cumsum(change)[:num_steps].astype(np.float64)


def _error(seen: F8, expected: F8, time_s: F8) -> float:
    """Standard error of log(measured mean), from what stretches of the run differ by beyond what the twin expects."""
    parts = np.array_split(np.argsort(time_s, kind="stable"), min(_BLOCKS, len(seen) // 2) or 1)
    if len(parts) < 3:
        return _UNSURE
    ratio = np.array([seen[part].sum() / max(expected[part].sum(), 1e-9) for part in parts])
    return float(np.std(np.log(np.maximum(ratio, 1e-9)), ddof=1) / np.sqrt(len(parts)))


def beside_logged(logged: StepRows, clients: ClientRows, between_runs: float) -> StepRows:
    """Rows of logged steps, then times between tokens of clients, in one regression.

    A run deviates from the formula by `between_runs`, whoever measured it. What a client says of it is off by the error
    of its mean, and by the operating point's: the weights of the two are inverse to these variances.
    """
    gaps = clients.take(clients.decoding)
    width = max(logged.tokens.shape[1], SAMPLES)
    of_run = max(between_runs, MISMATCH) ** 2
    return StepRows(
        features=np.concatenate([logged.features, gaps.features]),
        duration_s=np.concatenate([logged.duration_s, gaps.duration_s]),
        tokens=np.concatenate([_wide(logged.tokens, width), _wide(gaps.tokens, width)]),
        swap_ins=np.concatenate([logged.swap_ins, gaps.swap_ins]),
        run=np.concatenate([logged.run, gaps.run + len(logged.names)]),
        names=(*logged.names, *gaps.names),
        trust=np.concatenate([np.ones(len(logged)), of_run / (of_run + gaps.error**2)]),
    )


def _wide(tokens: F8, width: int) -> F8:
    """Filled up with NaN, which no mean counts."""
    return np.pad(tokens, ((0, 0), (0, width - tokens.shape[1])), constant_values=np.nan)
