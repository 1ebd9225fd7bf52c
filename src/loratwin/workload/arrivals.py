"""When requests arrive: the processes a specification can name.

Each process draws the arrivals of a whole group of adapters in [0, window_s): ``draw(rng, rate_per_s, window_s)``
returns ``(arrival_s, adapter)``, where `rate_per_s` has shape (num_adapters,) and both results have shape
(num_requests,), sorted by time. Every process but the diurnal curve is stationary from the start of the window, so the
expected number of requests is rate x window exactly; the curve keeps that mean over the window. Three have no rate: a
replayed trace, a closed loop and a batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Annotated, Literal

import numpy as np
from pydantic import Field, model_validator

from loratwin.errors import InputError
from loratwin.traces import Clients, read_clients
from loratwin.workload.arrays import F8, I4, ArrivalPattern, arrival_order
from loratwin.workload.strict import ExistingPath, Shorthand, Strict, refusal
from loratwin.workload.trace_file import TraceFile

Arrivals = tuple[F8, I4]

MAX_REQUESTS = 50_000_000
"""More expected requests than this are refused: they would fill the memory and are surely a slip in a rate."""


_PIECES = 60
"""Parts of a diurnal curve that is cut out: minutes of an hour."""


class Poisson(Strict):
    """Independent users: arrivals at random, at a constant rate."""

    kind: Literal["poisson"] = Field("poisson", description="Arrivals at random at a constant rate.")

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all adapters; see the module's docstring."""
        place, adapter = _poisson_places(rng, rate_per_s * window_s)
        return _in_window(place * window_s, window_s), adapter


class Diurnal(Strict):
    """A Poisson process whose rate follows a curve; the given rate is its mean over the window."""

    kind: Literal["diurnal"] = Field("diurnal", description="Poisson arrivals whose rate follows a curve in time.")
    amplitude: float | None = Field(
        None, ge=0, le=1, description="Sine curve: the rate swings by this share of the mean, 0 to 1."
    )
    period_s: float | None = Field(None, gt=0, description="Sine curve: seconds of one period (default: the window).")
    peak_s: float | None = Field(None, description="Sine curve: second of a peak (default: the middle of the period).")
    relative_rates: tuple[Annotated[float, Field(ge=0)], ...] | None = Field(
        None, min_length=1, description="Instead of a sine: relative rates of equal parts of the window, in order."
    )

    @model_validator(mode="after")
    def _one_curve(self) -> Diurnal:
        if (self.amplitude is None) == (self.relative_rates is None):
            raise refusal("", "must have amplitude (with period_s, peak_s), or relative_rates")
        if self.relative_rates is not None:
            for key in ("period_s", "peak_s"):
                if getattr(self, key) is not None:
                    raise refusal(key, "belongs to amplitude, not to relative_rates")
            if not sum(self.relative_rates) > 0:
                raise refusal("relative_rates", "must have an entry above 0")
        return self

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all adapters; see the module's docstring."""
        place, adapter = _poisson_places(rng, rate_per_s * window_s)
        time, expected = self.cumulative(window_s)
        return _in_window(np.interp(place, expected, time), window_s), adapter

    def part(self, start_s: float, length_s: float, window_s: float) -> tuple[Diurnal, float]:
        """The curve of a part of the window, and its mean rate over that of the window."""
        time, expected = self.cumulative(window_s)
        ends = np.interp(np.linspace(start_s, start_s + length_s, _PIECES + 1), time, expected)
        share = float(ends[-1] - ends[0])
        relative = np.diff(ends) if share > 0 else np.ones(_PIECES)  # nobody comes, at whatever curve
        return Diurnal(relative_rates=tuple(relative.tolist())), share * window_s / length_s

    def cumulative(self, window_s: float) -> tuple[F8, F8]:
        """Times, and the share of all arrivals expected before each of them; both of shape (num_points,)."""
        if self.relative_rates is not None:
            expected = np.concatenate([[0.0], np.cumsum(self.relative_rates)])
            return np.linspace(0, window_s, len(expected)), expected / expected[-1]
        period = self.period_s or window_s
        peak = period / 2 if self.peak_s is None else self.peak_s
        time = np.linspace(0, window_s, 1 + math.ceil(1024 * min(max(1.0, window_s / period), 1000)))
        phase = 2 * np.pi / period
        swing = (np.sin(phase * (time - peak)) - np.sin(-phase * peak)) / phase
        expected = time + (self.amplitude or 0.0) * swing
        return time, expected / expected[-1]


class Gamma(Strict):
    """Gaps between an adapter's requests are Gamma distributed: cv 1 is Poisson, above 1 bursty, below 1 regular."""

    kind: Literal["gamma"] = Field("gamma", description="Gamma distributed gaps between the requests of an adapter.")
    cv: float = Field(gt=0, le=20, description="Std / mean of the gaps: 1 Poisson, above 1 bursty, below 1 regular.")

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all adapters; see the module's docstring."""
        return _one_by_one(lambda rate: self.times(rng, rate, window_s), rate_per_s, window_s)

    def times(self, rng: np.random.Generator, rate_per_s: float, window_s: float) -> F8:
        """Arrivals of one adapter, shape (num_requests,).

        The window opens at a random moment of a process that has always run, so the first gap is what is left of a gap
        chosen in proportion to its length (Cox 1962, Renewal Theory, 5.2): U x Gamma(shape + 1). Starting with a whole
        gap would add (cv^2 - 1)/2 requests to each adapter.
        """
        shape, scale = 1 / self.cv**2, self.cv**2 / rate_per_s
        parts: list[F8] = [np.array([rng.random() * rng.standard_gamma(shape + 1) * scale])]
        expected = rate_per_s * window_s
        while (end := float(parts[-1][-1])) < window_s:
            num = 16 + int(expected * (1 - end / window_s) + 4 * self.cv * math.sqrt(expected))
            gaps: F8 = scale * rng.standard_gamma(shape, num)
            parts.append(end + np.cumsum(gaps))
        return np.concatenate(parts)


class Deterministic(Strict):
    """Each adapter is asked at constant intervals, starting at a random moment of the first one."""

    kind: Literal["deterministic"] = Field("deterministic", description="Constant intervals from a random start.")

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all adapters; see the module's docstring."""
        return _one_by_one(lambda rate: self.times(rng, rate, window_s), rate_per_s, window_s)

    def times(self, rng: np.random.Generator, rate_per_s: float, window_s: float) -> F8:
        """Arrivals of one adapter, shape (num_requests,)."""
        number: F8 = np.arange(math.ceil(rate_per_s * window_s), dtype=np.float64)
        return (number + rng.random()) / rate_per_s


class OnOff(Strict):
    """Bursts: requests arrive (Poisson) only while an adapter is on; the mean over on and off is the given rate.

    Lengths of on and off periods are exponential (an interrupted Poisson process).
    """

    kind: Literal["on_off"] = Field("on_off", description="Bursts: Poisson while on, nothing while off.")
    on_s: float = Field(ge=0.1, description="Mean length of an on period in seconds (exponential).")
    off_s: float = Field(ge=0, description="Mean length of an off period in seconds (exponential).")
    together: bool = Field(False, description="All adapters of the group are on and off at the same time.")

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all adapters; see the module's docstring."""
        if self.together:
            return self._while_on(rng, rate_per_s, window_s)
        return _one_by_one(lambda rate: self._while_on(rng, np.array([rate]), window_s)[0], rate_per_s, window_s)

    def _while_on(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        start, end = self.on_periods(rng, window_s)
        on_before = np.concatenate([[0.0], np.cumsum(end - start)])
        rate_on = rate_per_s * (self.on_s + self.off_s) / self.on_s
        place, adapter = _poisson_places(rng, rate_on * on_before[-1])
        busy = place * on_before[-1]
        period = np.clip(np.searchsorted(on_before, busy, side="right") - 1, 0, max(len(start) - 1, 0))
        return _in_window(start[period] + (busy - on_before[period]), window_s), adapter

    def on_periods(self, rng: np.random.Generator, window_s: float) -> tuple[F8, F8]:
        """Starts and ends of the on periods within the window, each of shape (num_periods,).

        Periods are exponential, so what is left of the period in which the window opens has the same distribution as a
        whole one: it is on with probability on_s / (on_s + off_s), and the process is stationary.
        """
        starts_on = rng.random() * (self.on_s + self.off_s) < self.on_s
        means = np.array([self.on_s, self.off_s] if starts_on else [self.off_s, self.on_s])
        switches = [np.zeros(1)]
        while (now := float(switches[-1][-1])) < window_s:
            cycles = 8 + math.ceil(1.2 * (window_s - now) / means.sum())
            switches.append(now + np.cumsum(rng.standard_exponential((cycles, 2)) * means))
        edges = np.minimum(np.concatenate(switches), window_s)
        first = 0 if starts_on else 1
        start, end = edges[first:-1:2], edges[first + 1 :: 2]
        return start[start < window_s], end[start < window_s]


class Replay(TraceFile):
    """The requests of a trace, in the order and at the times recorded."""

    kind: Literal["replay"] = Field("replay", description="The requests of a trace (docs/reference/traces.md).")
    shift: bool | None = Field(
        None, description="The first request arrives at 0 s (default: where times are of day or since 1970)."
    )
    start_s: float = Field(0.0, ge=0, description="Leave out the first seconds of the trace.")
    end_s: float | None = Field(None, gt=0, description="Leave out what comes after so many seconds of the trace.")
    speed: float = Field(1.0, gt=0, description="2 plays the trace twice as fast, 0.5 half as fast.")
    repeat: bool = Field(False, description="Begin again at the end of the trace until the window is full.")

    @model_validator(mode="after")
    def _has_times(self) -> Replay:
        trace = self.trace()
        if trace.arrival_s is None:
            lengths = "its lengths can be used: lengths: {kind: trace, path: ...}"
            raise refusal("path", f"has no times of arrival; {lengths}; columns: {{time: ...}} says where times are")
        if self.end_s is not None and self.end_s <= self.start_s:
            raise refusal("end_s", f"must be after start_s ({self.start_s:g})")
        last = float(trace.arrival_s[-1])
        if last < self.start_s:
            raise refusal("start_s", f"the last request of the trace arrives at {last:g} s")
        return self

    def _shift(self) -> bool | None:
        return self.shift

    def arrival_s(self) -> F8:
        """When each request of the trace arrives, shape (num_requests,); the rows that the others have."""
        arrival_s = self.trace().arrival_s
        assert arrival_s is not None  # or it would have been refused
        return arrival_s

    def times(self, window_s: float) -> tuple[F8, I4]:
        """Arrival of each replayed request, and its row in the trace; both of shape (num_requests,)."""
        trace_s = self.arrival_s()
        first = int(np.searchsorted(trace_s, self.start_s))
        end = len(trace_s) if self.end_s is None else int(np.searchsorted(trace_s, self.end_s))
        if not self.repeat:  # no more than the window, of a trace that may be long
            end = min(end, int(np.searchsorted(trace_s, self.start_s + window_s * self.speed)))
        once = (trace_s[first:end] - self.start_s) / self.speed
        rows = np.arange(first, end, dtype=np.int32)
        if self.repeat and len(once):
            period = once[-1] + (once[-1] - once[0]) / max(len(once) - 1, 1)  # the last gap is taken to be a mean one
            laps = math.ceil(window_s / period) if period > 0 else 1
            if laps * len(once) > MAX_REQUESTS:
                most = f"at most {MAX_REQUESTS:,} requests are drawn"
                raise refusal("", f"a trace of {period:g} s is repeated {laps:,} times; {most}")
            once, rows = (np.arange(laps)[:, None] * period + once).ravel(), np.tile(rows, laps)
        inside = once < window_s
        return once[inside], rows[inside]

    def check_window(self, window_s: float) -> None:
        """Refuse a trace that has no request in the window, and say where they lie."""
        if not len(self.times(window_s)[0]):
            raise refusal("", f"{self._where(window_s)}; none lies in the window of {window_s:g} s")

    def notes(self, window_s: float) -> tuple[str, ...]:
        """What of the file is not in the workload: rows left out or clipped, and requests outside the window."""
        outside = len(self.arrival_s()) - len(np.unique(self.times(window_s)[1]))
        name = self.path.name
        cut = (f"{name}: {outside:,} requests lie outside the window: {self._where(window_s)}",) if outside else ()
        return tuple(f"{name}: {change}" for change in self.trace().facts.changes) + cut

    def _where(self, window_s: float) -> str:
        """How many requests lie where."""
        trace_s = self.arrival_s()
        end_s = self.start_s + window_s * self.speed
        before = int(np.searchsorted(trace_s, self.start_s))
        after = len(trace_s) - int(np.searchsorted(trace_s, end_s if self.end_s is None else min(end_s, self.end_s)))
        said = f"the trace has {len(trace_s):,} from {trace_s[0]:,.10g} to {trace_s[-1]:,.10g} s"
        return f"{said}, {before:,} before the window and {after:,} after it"


class ClientRates(Strict):
    """Clients by how often each asked in each window (ServeGen): every client is an adapter, and drifts as it did."""

    kind: Literal["clients"] = Field("clients", description="Clients with a rate for each window (ServeGen's files).")
    path: ExistingPath = Field(description="The table, or ServeGen's folder, relative to this file.")
    workload: str | None = Field(None, description="Which workload, where the table has several.")
    start_s: float = Field(0.0, ge=0, description="Leave out the first seconds.")
    scale: float = Field(1.0, gt=0, description="Times the rates of the file.")

    @model_validator(mode="after")
    def _readable(self) -> ClientRates:
        try:
            end_s = self.clients().end_s
        except InputError as error:
            raise refusal("path", str(error)) from None
        if self.start_s >= end_s:
            raise refusal("start_s", f"the last window ends at {end_s:g} s")
        return self

    def clients(self) -> Clients:
        """All clients of the file."""
        return read_clients(self.path, self.workload)

    def rate_per_s(self, window_s: float) -> F8:
        """Mean rate of each client over the window, shape (num_clients,)."""
        clients = self.clients()
        begin, end = self._within(clients, window_s)
        requests = clients.rate_per_s * self.scale * np.maximum(end - begin, 0)
        return np.bincount(clients.client, requests, len(clients.names)) / window_s

    def draw(self, rng: np.random.Generator, rate_per_s: F8, window_s: float) -> Arrivals:
        """Arrivals of all clients, each window by itself: Gamma distributed gaps of its rate and cv; the mean rates are
        told by the file."""
        clients = self.clients()
        begin, end = self._within(clients, window_s)
        parts: list[F8] = []
        who: list[I4] = []
        for i in np.flatnonzero((end > begin) & (clients.rate_per_s > 0)):
            gaps = Gamma(cv=float(np.clip(clients.cv[i], 0.05, 20.0)))
            length = float(end[i] - begin[i])
            times = _in_window(gaps.times(rng, float(clients.rate_per_s[i]) * self.scale, length), length)
            parts.append(begin[i] + times)
            who.append(np.full(len(times), clients.client[i], np.int32))
        if not parts:
            return np.zeros(0), np.zeros(0, np.int32)
        arrival_s, adapter = np.concatenate(parts), np.concatenate(who)
        order = arrival_order(arrival_s, adapter)
        return _in_window(arrival_s[order], window_s), adapter[order]

    def _within(self, clients: Clients, window_s: float) -> tuple[F8, F8]:
        """Begin and end of each of the file's windows in the workload's, shape (num_windows,)."""
        begin = np.clip(clients.start_s - self.start_s, 0, window_s)
        end = np.clip(clients.start_s + clients.window_s - self.start_s, 0, window_s)
        return begin, end


class Closed(Strict):
    """So many clients, each of which sends again when it is answered; how fast depends on the server.

    Such traffic has no rate of its own, so it is the workload's only traffic. Who is asked for is drawn by popularity.
    """

    kind: Literal["closed"] = Field("closed", description="Clients that send again when they are answered.")
    concurrency: int = Field(ge=1, le=1_000_000, description="Clients, each with one request in flight.")
    think_s: float = Field(0.0, ge=0, description="Seconds between an answer and the client's next request.")
    requests: int | None = Field(
        None,
        ge=1,
        le=MAX_REQUESTS,
        description="The run is over when so many are answered (default: at the window's end).",
    )

    @property
    def num_drawn(self) -> int:
        """Requests that are drawn; a loop without an end goes through them again."""
        return self.requests or max(_LEAST_DRAWN, _DRAWN_PER_CLIENT * self.concurrency)

    @property
    def pattern(self) -> ArrivalPattern:
        """See `ArrivalPattern`."""
        return ArrivalPattern(self.concurrency, self.think_s, self.requests is not None)


class AtOnce(Strict):
    """A batch: all requests are there at the start, and the run is over when all are answered."""

    kind: Literal["at_once"] = Field("at_once", description="All requests at the start; over when all are answered.")
    requests: int = Field(ge=1, le=MAX_REQUESTS, description="Their number.")

    @property
    def num_drawn(self) -> int:
        """Requests that are drawn."""
        return self.requests

    @property
    def pattern(self) -> ArrivalPattern:
        """See `ArrivalPattern`."""
        return ArrivalPattern(until_answered=True)


_LEAST_DRAWN, _DRAWN_PER_CLIENT = 1000, 20
"""Requests of a closed loop without an end, before they come again."""

Process = Annotated[
    Poisson | Gamma | Deterministic | OnOff | Diurnal | Replay | ClientRates | Closed | AtOnce,
    Field(discriminator="kind"),
    Shorthand("poisson", "deterministic"),
]


def _poisson_places(rng: np.random.Generator, expected: F8) -> Arrivals:
    """Independent Poisson processes on [0, 1), `expected` requests of each adapter, already merged.

    Given the number of requests, their places are independent and uniform, and every order of the adapters is equally
    likely: numbers, sorted places and a shuffle are exact, and take no work for each adapter.
    """
    num = rng.poisson(expected)
    place = rng.random(int(num.sum()))
    place.sort()
    adapter = np.repeat(np.arange(len(expected), dtype=np.int32), num)
    rng.shuffle(adapter)
    return place, adapter


def _one_by_one(times: Callable[[float], F8], rate_per_s: F8, window_s: float) -> Arrivals:
    """Draw the adapters one after the other, and merge."""
    parts = [_in_window(times(float(rate)), window_s) if rate > 0 else np.zeros(0) for rate in rate_per_s]
    arrival_s = np.concatenate(parts)
    adapter = np.repeat(np.arange(len(parts), dtype=np.int32), [len(part) for part in parts])
    order = arrival_order(arrival_s, adapter)
    return arrival_s[order], adapter[order]


def _in_window(arrival_s: F8, window_s: float) -> F8:
    """Only what is before the end of the window (rounding may put an arrival on it)."""
    return arrival_s if not len(arrival_s) or arrival_s[-1] < window_s else arrival_s[arrival_s < window_s]
