"""The workload file of what was seen: a group for each adapter, and in comments what could not be known."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from loratwin.traffic.observed import ALL, HOUR_S, Buckets, Chosen, Observed
from loratwin.workload import rank_of

F8 = NDArray[np.float64]

UNKNOWN_RANK = 8
"""Of adapters whose rank nothing tells."""

LEAST_FOR_CV = 30
"""Gaps, or steps, below which burstiness cannot be told from chance."""

LEAST_LENGTHS = 20
"""Requests below which an adapter's lengths are those of all, scaled to its mean."""

_QUANTILES = 12
_MOST_CV = 20.0


class _Lengths(NamedTuple):
    """Lengths of one side of an adapter's requests."""

    mean: float
    rows: list[tuple[int, int, int]]
    """Bins: from, to (exclusive), requests."""


def workload_text(observed: Observed, chosen: Chosen, ranks: dict[str, int] | None = None) -> str:
    """A workload file; `load_spec` reads it.

    Parameters
    ----------
    ranks
        Of the adapters that are known, by name.
    """
    window_s = (chosen.last - chosen.first) * observed.step_s
    groups = _Groups(observed, chosen, window_s, ranks or {})
    lines = [*_head(observed, chosen, window_s, groups), f"window_s: {window_s:g}", *groups.base(), "groups:"]
    text = groups.lines()
    return "\n".join([*lines, *text] if text else lines[:-1]) + "\n"


def _head(observed: Observed, chosen: Chosen, window_s: float, groups: _Groups) -> list[str]:
    requests = observed.requests[:, chosen.first : chosen.last].sum()
    begin = chosen.first * observed.step_s
    lines = [
        f"# Traffic seen through {observed.source}.",
        f"# {window_s:,.0f} s from {begin:,.0f} s after {observed.begin}: {chosen.why} of {observed.span_s:,.0f} s.",
        f"# {requests:,.0f} requests in it, {requests / window_s:.4g} a second.",
        "#",
        "# What could not be known:",
    ]
    return lines + [f"# - {line}" for line in (*groups.unknown(), *observed.notes)] + [""]


class _Groups:
    """The groups of the file, one for each adapter that had requests."""

    def __init__(self, observed: Observed, chosen: Chosen, window_s: float, ranks: dict[str, int]) -> None:
        self._seen, self._chosen, self._window_s, self._ranks = observed, chosen, window_s, ranks
        self._steps = slice(chosen.first, chosen.last)
        counts = observed.requests[:, self._steps].sum(axis=1)
        self._rows = [i for i in np.argsort(-counts, kind="stable") if counts[i] > 0]
        self._adapters = [i for i in self._rows if observed.names[i] and observed.names[i] not in observed.base]
        self._base = [i for i in self._rows if i not in self._adapters]
        self._short = 0
        self._unsure = 0
        self._names: dict[str, str] = {}
        self._bodies = [self._group(i) for i in self._adapters]

    def unknown(self) -> list[str]:
        """What the source does not tell."""
        lines = self._unknown_ranks()
        if self._adapters and not self._seen.base:
            lines.append(
                "which name is the LLM without adapter: all are taken for adapters (--base NAME says which is not)"
            )
        if self._unsure:
            lines.append(f"burstiness of {self._unsure} adapters: too few requests; they are taken for Poisson")
        if self._short:
            why = f"fewer than {LEAST_LENGTHS} requests; those of all, scaled to their mean"
            lines.append(f"lengths of {self._short} adapters: {why}")
        silent = len(self._seen.names) - len(self._rows)
        if silent:
            lines.append(f"{silent} adapters had no request in the window; they are not in this file")
        lines.append("which prompt has which output: they are drawn apart; prompts that begin alike are not known")
        return lines

    def _unknown_ranks(self) -> list[str]:
        if not self._ranks:
            return [f"ranks: every adapter is taken to have rank {UNKNOWN_RANK} (--lora-folder tells them)"]
        names = self._seen.running or [self._seen.names[i] for i in self._adapters]
        absent = [name for name in names if rank_of(name, self._ranks) is None]
        said = f"ranks of {', '.join(absent[:8])}{' and more' if len(absent) > 8 else ''}: not in the folder; taken for"
        return [f"{said} {UNKNOWN_RANK}"] if absent else []

    def _rank(self, name: str) -> int:
        return rank_of(name, self._ranks) or UNKNOWN_RANK

    def base(self) -> list[str]:
        """The traffic without adapter, unless it is all that could be counted of adapters."""
        if not self._base or self._seen.running:
            return []
        rate = self._seen.requests[self._base][:, self._steps].sum() / self._window_s
        rows = np.array(self._base)
        lines = ["base:", f"  rate: {rate:.6g}", *self._arrivals(rows, "  "), *self._lengths(rows, "  ")]
        return [*lines, ""]

    def lines(self) -> list[str]:
        """All groups."""
        if self._seen.running and self._base and not self._adapters:
            return self._by_running()
        return [line for body in self._bodies for line in body]

    def _by_running(self) -> list[str]:
        """One group of all adapters, whose shares are told by how often each was seen running."""
        running = self._seen.running or {}
        share = np.array([-np.log1p(-min(present, 0.999)) for present in running.values()])
        rate = self._seen.requests[:, self._steps].sum() / self._window_s
        rows = np.array(self._base)
        return [
            "  - name: adapters",
            f"    names: {json.dumps(list(running))}",
            f"    total_rate: {rate:.6g}",
            f"    popularity: [{', '.join(f'{each:.4g}' for each in share / share.sum())}]",
            f"    ranks: {json.dumps([self._rank(name) for name in running])}",
            *self._arrivals(rows, "    ", one=False),
            *self._lengths(rows, "    "),
        ]

    def _group(self, row: int) -> list[str]:
        name = self._seen.names[row]
        rate = self._seen.requests[row, self._steps].sum() / self._window_s
        rows = np.array([row])
        return [
            f"  - name: {self._group_name(name)}",
            f"    names: [{json.dumps(name)}]",
            f"    rate: {rate:.6g}",
            f"    ranks: {self._rank(name)}",
            *self._arrivals(rows, "    "),
            *self._lengths(rows, "    "),
        ]

    def _group_name(self, name: str) -> str:
        """A name that a group may have, and no other has."""
        plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:90] or "adapter"
        plain = f"{plain}-adapter" if plain == "base" else plain
        taken = set(self._names.values())
        free = plain
        while free in taken:
            free = f"{plain}-{len(taken)}"
        self._names[name] = free
        return free

    def _arrivals(self, rows: NDArray[np.intp], indent: str, one: bool = True) -> list[str]:
        """Burstiness where there is enough to tell it from chance."""
        hours = self._window_s / HOUR_S
        if self._chosen.why == ALL and 2 < hours <= self._chosen.last - self._chosen.first:
            by_hour = self._by_hour(rows)
            return [f"{indent}arrivals: {{kind: diurnal, relative_rates: [{', '.join(f'{x:g}' for x in by_hour)}]}}"]
        cv = self._cv(rows)
        if cv is None:
            self._unsure += one
            return []
        return [f"{indent}arrivals: {{kind: gamma, cv: {cv:.3g}}}"] if cv > 0 else []

    def _by_hour(self, rows: NDArray[np.intp]) -> list[float]:
        counts = self._seen.requests[rows][:, self._steps].sum(axis=0)
        parts = np.array_split(counts, max(1, round(self._window_s / HOUR_S)))
        return [float(part.mean()) * 3600 / self._seen.step_s for part in parts]

    def _cv(self, rows: NDArray[np.intp]) -> float | None:
        """Standard deviation / mean of the gaps; 0: as Poisson, as far as can be told; None: too little was seen."""
        gaps = self._gaps(rows)
        if gaps is not None:
            if len(gaps) < LEAST_FOR_CV or not gaps.mean() > 0:
                return None
            cv, error = float(gaps.std() / gaps.mean()), 1 / np.sqrt(len(gaps))
        else:
            counts = self._seen.requests[rows][:, self._steps].sum(axis=0)
            if len(counts) < LEAST_FOR_CV or counts.sum() < LEAST_FOR_CV:
                return None
            dispersion = float(counts.var() / counts.mean())
            cv, error = np.sqrt(dispersion), 0.5 * np.sqrt(2 / len(counts))
        return 0.0 if abs(cv - 1) < 2 * error else float(np.clip(cv, 0.05, _MOST_CV))

    def _gaps(self, rows: NDArray[np.intp]) -> F8 | None:
        """Seconds between the requests of a log; None: the source has no single requests."""
        at = self._of_log(rows)
        trace = self._seen.trace
        if at is None or trace is None or trace.arrival_s is None:
            return None
        return np.diff(trace.arrival_s[at])

    def _of_log(self, rows: NDArray[np.intp]) -> NDArray[np.intp] | None:
        """Requests of the log in the window."""
        trace = self._seen.trace
        if trace is None or trace.arrival_s is None:
            return None
        begin = trace.arrival_s[0] + self._chosen.first * self._seen.step_s
        inside = (trace.arrival_s >= begin) & (trace.arrival_s < begin + self._window_s)
        if trace.adapter is not None:
            index = {name: i for i, name in enumerate(trace.adapter_names)} | {"": -1}
            inside &= np.isin(trace.adapter, [index[self._seen.names[row]] for row in rows])
        return np.flatnonzero(inside)

    def _lengths(self, rows: NDArray[np.intp], indent: str) -> list[str]:
        prompt, output = (self._side(rows, side) for side in ("prompt", "output"))
        self._short += int(bool(self._seen.names[rows[0]]) and self._num(rows) < LEAST_LENGTHS)
        return [
            f"{indent}lengths:",
            f"{indent}  prompt: {_distribution(prompt)}",
            f"{indent}  output: {_distribution(output)}",
        ]

    def _num(self, rows: NDArray[np.intp]) -> float:
        return float(self._seen.requests[rows][:, self._steps].sum())

    def _side(self, rows: NDArray[np.intp], side: str) -> _Lengths:
        sums = self._seen.prompt_tokens if side == "prompt" else self._seen.output_tokens
        requests = self._num(rows)
        mean = float(sums[rows][:, self._steps].sum()) / requests
        every = np.array(self._rows) if requests < LEAST_LENGTHS else rows
        at = self._of_log(every)
        trace = self._seen.trace
        if at is not None and trace is not None:
            values = trace.prompt_tokens if side == "prompt" else trace.output_tokens
            assert values is not None  # or the log would have been refused
            return _Lengths(mean, quantile_bins(values[at]))
        buckets = self._seen.prompt_buckets if side == "prompt" else self._seen.output_buckets
        found = (
            [] if buckets is None else [buckets[name] for row in every if (name := self._seen.names[row]) in buckets]
        )
        return _Lengths(mean, bucket_bins(found, self._steps))


def quantile_bins(values: NDArray[np.int32]) -> list[tuple[int, int, int]]:
    """Rows (from, to, number) that hold about as many values each."""
    ends = np.unique(np.quantile(values, np.linspace(0, 1, _QUANTILES + 1), method="lower"))
    ends = np.append(ends[:-1], values.max() + 1) if len(ends) > 1 else np.array([ends[0], ends[0] + 1])
    counts, _ = np.histogram(values, bins=ends)
    return [(int(lo), int(hi), int(n)) for lo, hi, n in zip(ends[:-1], ends[1:], counts, strict=True) if n]


def bucket_bins(found: Sequence[Buckets], steps: slice) -> list[tuple[int, int, int]]:
    """Rows (from, to, number) of what servers counted in a window."""
    if not found:
        return []
    upper = found[0].upper
    counts = np.sum([each.counts[steps].sum(axis=0) for each in found if len(each.upper) == len(upper)], axis=0)
    low = np.concatenate([[0.0], upper[:-1]])
    rows = zip(np.floor(low) + 1, np.floor(upper) + 1, np.rint(counts), strict=True)
    return [(int(lo), int(hi), int(n)) for lo, hi, n in rows if n > 0 and hi > lo]


def _distribution(lengths: _Lengths) -> str:
    """As in a workload file; where nothing but the mean is known, the spread of ShareGPT's lengths (about the mean)."""
    mean, rows = lengths
    if mean < 1.5 or (len(rows) == 1 and rows[0][1] - rows[0][0] == 1):
        return str(max(1, round(mean)))
    if not rows:
        return f"{{kind: lognormal, mean: {mean:.6g}, std: {mean:.6g}}}  # only the mean is known"
    bins = ", ".join(f"[{lo}, {hi}, {n}]" for lo, hi, n in rows)
    return f"{{kind: histogram, mean: {mean:.6g}, bins: [{bins}]}}"
