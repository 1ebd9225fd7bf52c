"""The busiest hour of a day: the right one, and as a workload of its own what the day has in it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from loratwin.errors import InputError
from loratwin.workload import (
    AdapterGroup,
    BaseTraffic,
    Closed,
    Diurnal,
    Fixed,
    Replay,
    Separate,
    WorkloadSpec,
    busiest_hour,
    draw,
    part_of,
    varies,
)
from loratwin.workload.hours import clock

LENGTHS = Separate(prompt=Fixed(tokens=100), output=Fixed(tokens=50))
NOON = Diurnal(amplitude=0.9)


def day(arrivals: object = NOON, **rates: object) -> WorkloadSpec:
    group = AdapterGroup(name="g", count=4, arrivals=arrivals, **(rates or {"total_rate": 2.0}))
    steady = AdapterGroup(name="steady", count=2, rate=0.5)
    return WorkloadSpec(window_s=86_400.0, lengths=LENGTHS, groups=(group, steady), base=BaseTraffic(rate=0.1))


def test_the_peak_is_found_and_how_busy_it_is() -> None:
    found = busiest_hour(day())
    assert abs(found.start_s + 1800 - 43_200) < 5400  # a sine is flat at its peak
    assert found.times_the_mean == pytest.approx((2 * 1.9 + 1.1) / 3.1, rel=0.05)
    late = busiest_hour(day(Diurnal(relative_rates=(*[1.0] * 20, 9.0, *[1.0] * 3))))
    assert late.start_s == 20 * 3600 and late.text == "20:00 to 21:00"
    assert clock(90_000) == "25:00"


@pytest.mark.parametrize(
    "rates",
    [{"total_rate": 2.0}, {"rate": 0.5}, {"rates": (0.9, 0.6, 0.4, 0.1)}, {"total_rate": 2.0, "popularity": "zipf"}],
)
def test_the_hour_asks_for_what_the_day_asks_for_in_it(rates: dict[str, object]) -> None:
    spec = day(**rates)
    start_s = 10 * 3600.0
    whole, hour = draw(spec, 1), part_of(spec, start_s)
    inside = (whole.arrival_s >= start_s) & (whole.arrival_s < start_s + 3600)
    drawn = draw(hour, 2)
    assert hour.window_s == 3600 and drawn.adapters.name == whole.adapters.name
    assert drawn.num_requests == pytest.approx(inside.sum(), rel=0.05)
    curve = hour.groups[0].arrivals
    assert isinstance(curve, Diurnal) and curve.relative_rates is not None
    assert curve.relative_rates[-1] > curve.relative_rates[0]  # towards noon
    share = draw(spec, 1).adapters.rate_per_s / draw(spec, 1).adapters.rate_per_s.sum()
    assert np.argmax(share[:4]) == np.argmax(drawn.adapters.rate_per_s[:4])
    assert hour.groups[1] == spec.groups[1] and hour.base == spec.base


def test_a_replayed_trace_goes_on_where_the_hour_begins(tmp_path: Path) -> None:
    rows = [f"{t},{'a' if t % 20 else 'b'},100,50" for t in range(0, 20_000, 10)]
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["arrival_s,adapter,prompt_tokens,output_tokens", *rows]) + "\n")
    group = AdapterGroup(name="g", count=2, arrivals=Replay(path=path, speed=2.0, start_s=100))
    spec = WorkloadSpec(window_s=9000.0, groups=(group,))
    later = part_of(spec, 4000.0, 3600.0)
    whole, part = draw(spec, 0), draw(later, 0)
    inside = (whole.arrival_s >= 4000) & (whole.arrival_s < 7600)
    assert part.arrival_s == pytest.approx(whole.arrival_s[inside] - 4000)
    assert part.adapter.tolist() == whole.adapter[inside].tolist()


def test_an_hour_of_a_repeated_part_begins_in_that_part(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text("\n".join(["arrival_s", *map(str, range(0, 20_000, 10))]) + "\n")
    group = AdapterGroup(name="g", count=1, arrivals=Replay(path=path, start_s=100, end_s=5000, repeat=True))
    later = part_of(WorkloadSpec(window_s=20_000.0, groups=(group,)), 12_000.0, 3600.0).groups[0].arrivals
    assert isinstance(later, Replay) and later.start_s == 100 + 12_000 - 2 * 4890
    assert len(later.times(3600.0)[0])


def test_whether_traffic_changes() -> None:
    assert varies(day())
    assert not varies(day("poisson"))
    assert not varies(day().model_copy(update={"window_s": 3600.0}))


def test_windows_without_a_busiest_hour_are_refused() -> None:
    with pytest.raises(InputError, match="the window has 3600 s; the busiest hour needs more than one"):
        busiest_hour(day().model_copy(update={"window_s": 3600.0}))
    closed = WorkloadSpec(window_s=9000.0, groups=(AdapterGroup(name="g", count=2, arrivals=Closed(concurrency=2)),))
    with pytest.raises(InputError, match="closed loops and batches have no busiest hour"):
        busiest_hour(closed)
