"""Which servers are simulated."""

from __future__ import annotations

import pytest

from loratwin.errors import UnknownNameError
from loratwin.learn.cases import search
from loratwin.learn.cases.labels import labels, most_adapters
from loratwin.learn.cases.search import PUBLISHED_GRID, SLOTS, Probe, explore, find_edge
from loratwin.metrics import STARVED_RATIO
from tests.learn.small import PROFILE, minute_case

CASE = minute_case(rate=0.4)


@pytest.fixture(scope="module")
def probe() -> Probe:
    return Probe(CASE, PROFILE)


def test_the_edge_is_where_the_best_slots_begin_to_starve(probe: Probe) -> None:
    edge = find_edge(probe)
    below, above = int(edge), int(edge * 1.06) + 1
    assert max(probe(below, slots).share for slots in probe.slots(below)) > STARVED_RATIO - 0.01
    assert max(probe(above, slots).share for slots in probe.slots(above)) <= STARVED_RATIO + 0.01
    assert most_adapters(list(probe.rows.values())) == pytest.approx(edge, rel=0.05)


def test_what_was_simulated_once_is_kept(probe: Probe, monkeypatch: pytest.MonkeyPatch) -> None:
    row = probe(8, 8)
    monkeypatch.setattr(search, "simulate", None)
    assert probe(8, 8) is row


def test_a_server_that_keeps_up_has_latencies_and_one_that_starves_has_none(probe: Probe) -> None:
    assert probe(4, 4).ttft_mean_ms > 10 and probe(4, 4).share > 0.9
    assert probe(400, 16).ttft_mean_ms != probe(400, 16).ttft_mean_ms and probe(400, 16).share < 0.5


def test_a_server_that_does_not_start_is_a_row_without_figures(probe: Probe) -> None:
    row = Probe(CASE, PROFILE)(4000, 3000)
    assert row.kv_tokens == 0 and row.share != row.share


def test_exploring_gives_all_targets() -> None:
    rows = explore(CASE, PROFILE)
    found = labels(CASE, rows)
    assert found.served > 10 and found.throughput > 0
    assert found.compared_at == pytest.approx(0.9 * found.served, rel=0.05)
    assert set(found.slots) <= set(found.tried) and len(found.tried) >= 4
    assert [(row.adapters, row.slots) for row in rows] == sorted((row.adapters, row.slots) for row in rows)


def test_the_whole_grid_is_the_published_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "_simulate", lambda self, n, g: search.SimulatedHour(n, g, 1))
    rows = explore(CASE, PROFILE, "grid")
    assert len(rows) == 55 and {row.adapters for row in rows} == set(PUBLISHED_GRID)
    assert all(row.slots <= row.adapters for row in rows)


def test_slots_are_compared_below_the_edge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Probe, "_simulate", lambda self, n, g: search.SimulatedHour(n, g, 1))
    rows = explore(CASE, PROFILE, "slots")
    counts = sorted({row.adapters for row in rows})
    assert len(counts) == 8 and counts[-1] / counts[0] == pytest.approx(8, rel=0.2)
    assert len([row for row in rows if row.adapters == counts[-1]]) == len(Probe(CASE, PROFILE).slots(counts[-1]))


def test_an_unknown_search_lists_the_known() -> None:
    with pytest.raises(UnknownNameError, match="unknown search 'all'. Known: edge, grid, slots"):
        explore(CASE, PROFILE, "all")


def test_a_workload_that_starves_with_one_adapter_serves_none() -> None:
    assert find_edge(Probe(minute_case(rate=500.0), PROFILE)) == 0


def test_busy_adapters_may_have_a_slot_each(probe: Probe) -> None:
    assert probe.slots(6) == [4, 6] and probe.slots(3) == [3] and probe.slots(32)[-2:] == [16, 32]
    assert set(probe.slots(600)) <= set(SLOTS)
