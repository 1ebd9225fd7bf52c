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
    requests = groups.cells.requests.sum()
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
        self.cells = observed.cells.within(chosen.first, chosen.last)
        self._counts = self.cells.by_adapter(self.cells.requests)
        self._tokens = {
            "prompt": self.cells.by_adapter(self.cells.prompt_tokens),
            "output": self.cells.by_adapter(self.cells.output_tokens),
        }
        self._log = None if observed.trace is None else _Log(observed, chosen.first * observed.step_s, window_s)
        self._rows = [int(i) for i in np.argsort(-self._counts, kind="stable") if self._counts[i] > 0]
        self._adapters = [i for i in self._rows if observed.names[i] and observed.names[i] not in observed.base]
        taken = set(self._adapters)
        self._base = [i for i in self._rows if i not in taken]
        self._all: dict[str, list[tuple[int, int, int]]] = {}
        self._short = 0
        self._unsure = 0
        self._taken: set[str] = set()
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
        rows = self._base
        rate = self._num(rows) / self._window_s
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
        rows = self._base
        rate = self._counts.sum() / self._window_s
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
        rate = self._counts[row] / self._window_s
        rows = [row]
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
        free = plain
        while free in self._taken:
            free = f"{plain}-{len(self._taken)}"
        self._taken.add(free)
        return free

    def _arrivals(self, rows: list[int], indent: str, one: bool = True) -> list[str]:
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

    def _by_hour(self, rows: list[int]) -> list[float]:
        counts = self._by_step(rows)
        parts = np.array_split(counts, max(1, round(self._window_s / HOUR_S)))
        return [float(part.mean()) * 3600 / self._seen.step_s for part in parts]

    def _cv(self, rows: list[int]) -> float | None:
        """Standard deviation / mean of the gaps; 0: as Poisson, as far as can be told; None: too little was seen."""
        gaps = self._gaps(rows)
        if gaps is not None:
            if len(gaps) < LEAST_FOR_CV or not gaps.mean() > 0:
                return None
            cv, error = float(gaps.std() / gaps.mean()), 1 / np.sqrt(len(gaps))
        else:
            counts = self._by_step(rows)
            if len(counts) < LEAST_FOR_CV or counts.sum() < LEAST_FOR_CV:
                return None
            dispersion = float(counts.var() / counts.mean())
            cv, error = np.sqrt(dispersion), 0.5 * np.sqrt(2 / len(counts))
        return 0.0 if abs(cv - 1) < 2 * error else float(np.clip(cv, 0.05, _MOST_CV))

    def _gaps(self, rows: list[int]) -> F8 | None:
        """Seconds between the requests of a log; None: the source has no single requests."""
        return None if self._log is None else np.diff(self._log.arrival_s[self._log.of(rows)])

    def _by_step(self, rows: list[int]) -> F8:
        """Requests of some adapters in each step."""
        total = np.zeros(self.cells.num_steps)
        for row in rows:
            total += self.cells.by_step(self.cells.requests, row)
        return total

    def _lengths(self, rows: list[int], indent: str) -> list[str]:
        prompt, output = (self._side(rows, side) for side in ("prompt", "output"))
        self._short += int(bool(self._seen.names[rows[0]]) and self._num(rows) < LEAST_LENGTHS)
        return [
            f"{indent}lengths:",
            f"{indent}  prompt: {_distribution(prompt)}",
            f"{indent}  output: {_distribution(output)}",
        ]

    def _num(self, rows: list[int]) -> float:
        return float(self._counts[rows].sum())

    def _side(self, rows: list[int], side: str) -> _Lengths:
        requests = self._num(rows)
        mean = float(self._tokens[side][rows].sum()) / requests
        if requests >= LEAST_LENGTHS:
            return _Lengths(mean, self._bins(rows, side))
        if side not in self._all:
            self._all[side] = self._bins(self._rows, side)
        return _Lengths(mean, self._all[side])

    def _bins(self, rows: list[int], side: str) -> list[tuple[int, int, int]]:
        if self._log is not None:
            values = self._log.prompt_tokens if side == "prompt" else self._log.output_tokens
            return quantile_bins(values[self._log.of(rows)])
        buckets = self._seen.prompt_buckets if side == "prompt" else self._seen.output_buckets
        found = [] if buckets is None else [buckets[name] for row in rows if (name := self._seen.names[row]) in buckets]
        return bucket_bins(found, slice(self._chosen.first, self._chosen.last))


class _Log:
    """A log's requests in the window, in order of time, and which of them are whose."""

    def __init__(self, seen: Observed, first_s: float, length_s: float) -> None:
        trace = seen.trace
        assert trace is not None and trace.arrival_s is not None  # or it would have been refused
        assert trace.prompt_tokens is not None and trace.output_tokens is not None
        begin = trace.arrival_s[0] + first_s
        first, last = np.searchsorted(trace.arrival_s, (begin, begin + length_s))
        self.arrival_s = trace.arrival_s[first:last]
        self.prompt_tokens, self.output_tokens = trace.prompt_tokens[first:last], trace.output_tokens[first:last]
        if trace.adapter is None:
            whose = np.zeros(last - first, np.int64)
        else:
            index = {name: i for i, name in enumerate(seen.names)}
            rows = np.array([index.get(name, -1) for name in ("", *trace.adapter_names)])
            whose = rows[trace.adapter[first:last].astype(np.int64) + 1]
        self._order = np.argsort(whose, kind="stable")
        self._ends = np.searchsorted(whose[self._order], np.arange(len(seen.names) + 1))

    def of(self, rows: list[int]) -> NDArray[np.intp]:
        """Those of some adapters, in order of time."""
        parts = [self._order[self._ends[row] : self._ends[row + 1]] for row in rows]
        return parts[0] if len(parts) == 1 else np.sort(np.concatenate(parts))


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
    counts = np.sum([each.within(steps) for each in found if len(each.upper) == len(upper)], axis=0)
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
