"""Scraping a real HTTP server: cadence, failures, restarts, and the journal of it all."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from loratwin.errors import InputError
from loratwin.records.columns import FloatArray
from loratwin.records.series import Samples, Series
from loratwin.telemetry import Scrape, increase, read_journal
from loratwin.telemetry.cadence import Cadence
from tests.processes import until
from tests.telemetry.metrics_server import MetricsServer, metrics_server

EVERY_S = 0.05

FULL_DISK = Path("/dev/full")
needs_full_disk = pytest.mark.skipif(not FULL_DISK.exists(), reason="needs /dev/full, a device of Linux")


def all_of(scrape: Scrape) -> Samples:
    return scrape.samples(0.0, 0.0, np.inf)


def num_samples(scrape: Scrape) -> int:
    return len(all_of(scrape).time_s)


def num_seen(scrape: Scrape) -> int:
    """Samples with a value: those that a busy machine missed have none."""
    series = all_of(scrape).series
    return len(there(series[0])) if series else 0


def same(left: Samples | None, right: Samples) -> bool:
    """Bit for bit, NaN included."""
    assert left is not None
    return (
        left.source == right.source
        and left.time_s.tolist() == right.time_s.tolist()
        and [(one.name, one.labels) for one in left.series] == [(one.name, one.labels) for one in right.series]
        and all(a.values.tobytes() == b.values.tobytes() for a, b in zip(left.series, right.series, strict=True))
    )


def there(series: Series) -> FloatArray:
    """The values that are not NaN: on a busy machine a tick may be missed."""
    return series.values[~np.isnan(series.values)]


def on_time(samples: Samples) -> bool:
    """One sample for each tick, missed ones included; one may come late, by less than a period: it shifts no other."""
    late = samples.time_s / EVERY_S - np.arange(len(samples.time_s))
    return float(np.ptp(late)) < 1.2


def test_samples_come_on_the_clock_over_one_connection(server: MetricsServer) -> None:
    gauge = Gauge("vllm:num_requests_running", "Running.", registry=server.registry)
    gauge.set(1)
    with Scrape(f"{server.url}/v1", EVERY_S) as scrape:
        for number in range(1, 5):
            gauge.set(number)
            until(lambda number=number: num_seen(scrape) >= 3 * number)  # type: ignore[misc]
    samples = all_of(scrape)
    (running,) = samples.find("vllm:num_requests_running")
    assert samples.source == "server" and set(there(running)) == {1, 2, 3, 4}
    assert on_time(samples)
    assert server.connections == 1


def test_times_count_from_zero_and_the_window_cuts(server: MetricsServer) -> None:
    Gauge("x", "X.", registry=server.registry)
    with Scrape(server.url, EVERY_S) as scrape:
        until(lambda: num_samples(scrape) >= 4)
    whole = all_of(scrape).time_s
    cut = scrape.samples(whole[1], whole[1], whole[2])
    assert cut.time_s.tolist() == [0.0, whole[2] - whole[1]]
    assert len(cut.series[0].values) == 2


def test_histograms_are_what_came_since(server: MetricsServer, tmp_path: Path) -> None:
    histogram = Histogram("vllm:time_to_first_token_seconds", "TTFT.", registry=server.registry, buckets=(0.1, 1.0))
    histogram.observe(0.5)
    with Scrape(server.url, EVERY_S, tmp_path / "journal") as scrape:
        until(lambda: len(all_of(scrape).series) > 0)
        histogram.observe(0.05)
        histogram.observe(2.0)
        until(lambda: num_seen(scrape) >= 3)
        histogram.observe(0.25)
        until(lambda: num_seen(scrape) >= 6)
    samples = all_of(scrape)
    (count,) = samples.find("vllm:time_to_first_token_seconds_count")
    (total,) = samples.find("vllm:time_to_first_token_seconds_sum")
    (small,) = samples.find("vllm:time_to_first_token_seconds_bucket", le="0.1")
    assert np.isnan(count.values[0]) and np.nansum(count.values) == 3
    assert np.nansum(total.values) == pytest.approx(2.3) and np.nansum(small.values) == 1
    assert same(read_journal(tmp_path / "journal", 0.0, 0.0, np.inf), samples)


def test_a_series_that_comes_later_is_nan_before(server: MetricsServer, tmp_path: Path) -> None:
    finished = Counter("vllm:request_success", "Done.", ["finished_reason"], registry=server.registry)
    finished.labels("stop").inc(2e6)
    with Scrape(server.url, EVERY_S, tmp_path / "journal") as scrape:
        until(lambda: num_seen(scrape) >= 3)
        finished.labels("abort").inc()
        until(lambda: len(all_of(scrape).series) == 2)
        finished.remove("stop")
        until(lambda: [np.isnan(one.values[-1]) for one in all_of(scrape).series] == [True, False])
    samples = all_of(scrape)
    (stop,) = samples.find("vllm:request_success_total", finished_reason="stop")
    (abort,) = samples.find("vllm:request_success_total", finished_reason="abort")
    assert there(stop)[0] == 2e6
    assert np.isnan(abort.values[:3]).all() and there(abort)[-1] == 1
    assert same(read_journal(tmp_path / "journal", 0.0, 0.0, np.inf), samples)


@pytest.mark.parametrize("fault", ["status", "text", "hang"])
def test_a_scrape_that_fails_is_nan(server: MetricsServer, tmp_path: Path, fault: str) -> None:
    gauge = Gauge("x", "X.", registry=server.registry)
    gauge.set(5)
    good = server.pages["/metrics"]
    with Scrape(server.url, EVERY_S, tmp_path / "journal", timeout_s=0.2) as scrape:
        until(lambda: num_seen(scrape) >= 3)
        first_bad = num_samples(scrape) + 1  # the one on its way may still be good
        if fault == "status":
            server.status = 500
        elif fault == "text":
            server.pages["/metrics"] = lambda: "x{ 5\n"
        else:
            server.hang_s = 0.5
        until(lambda: num_samples(scrape) >= first_bad + 5)
        server.status, server.pages["/metrics"], server.hang_s = 200, good, 0.0
        until(lambda: all_of(scrape).series[0].values[-1] == 5)
    samples = all_of(scrape)
    assert np.isnan(samples.series[0].values[first_bad : first_bad + 4]).all()
    assert set(there(samples.series[0])) == {5}
    assert on_time(samples), "the ticks behind a slow scrape are there, as missed"
    said = {"status": "HTTP 500", "text": "not a line", "hang": "no answer in time"}[fault]
    assert any(said in note for note in scrape.notes)
    assert same(read_journal(tmp_path / "journal", 0.0, 0.0, np.inf), samples)


def test_a_restarted_server_counts_from_zero(tmp_path: Path) -> None:
    def fresh(server: MetricsServer, tokens: int) -> None:
        registry = CollectorRegistry()
        Counter("vllm:generation_tokens", "Tokens.", registry=registry).inc(tokens)
        histogram = Histogram("h", "H.", registry=registry, buckets=(1.0,))
        for _ in range(5):  # as many as before: its own values do not give the restart away
            histogram.observe(0.5)
        server.registry = registry

    with metrics_server() as server:
        fresh(server, 2_000_000)
        with Scrape(server.url, EVERY_S, tmp_path / "journal") as scrape:
            until(lambda: num_seen(scrape) >= 2)
            server.status = 503
            until(lambda: num_samples(scrape) >= 5)
            fresh(server, 30)
            server.status = 200
            until(lambda: all_of(scrape).find("vllm:generation_tokens_total")[0].values[-1] == 30)
    samples = all_of(scrape)
    (tokens,), (count,) = samples.find("vllm:generation_tokens_total"), samples.find("h_count")
    assert increase(tokens) == 30 and there(tokens)[0] == 2_000_000
    assert np.nansum(count.values) == 5
    assert "counters went back: the server was restarted" in scrape.notes
    assert same(read_journal(tmp_path / "journal", 0.0, 0.0, np.inf), samples)


def test_a_server_that_is_not_there_is_samples_without_series(tmp_path: Path) -> None:
    with metrics_server() as server:
        url = server.url
    with Scrape(url, EVERY_S) as scrape:
        until(lambda: num_samples(scrape) >= 3)
    assert all_of(scrape).series == () and "Connection refused" in scrape.notes[0]


def test_a_connection_that_the_server_closes_is_opened_again(server: MetricsServer) -> None:
    Gauge("x", "X.", registry=server.registry).set(1)
    with Scrape(server.url, EVERY_S) as scrape:
        until(lambda: num_seen(scrape) >= 2)
        scrape._connection._http.sock.shutdown(2)  # as the far end's time-out would
        until(lambda: num_seen(scrape) >= 4)
    assert server.connections == 2


def test_leaving_does_not_wait_for_a_server_that_hangs(server: MetricsServer) -> None:
    server.hang_s = 300.0
    start_s = time.monotonic()
    with Scrape(server.url, EVERY_S, timeout_s=300.0):
        until(lambda: bool(server.seen))
    assert time.monotonic() - start_s < 200.0


def test_a_key_is_sent_and_written_nowhere(server: MetricsServer, tmp_path: Path) -> None:
    Gauge("x", "X.", registry=server.registry)
    headers = {"Authorization": "Bearer secret-key"}
    with Scrape(server.url, EVERY_S, tmp_path / "journal", headers=headers) as scrape:
        until(lambda: num_samples(scrape) >= 2)
        server.status = 401
        until(lambda: bool(scrape.notes))
    assert server.seen[0][2] == "Bearer secret-key"
    assert "secret" not in (tmp_path / "journal").read_text() + "".join(scrape.notes)


@needs_full_disk
def test_a_disk_that_fills_leaves_the_samples(server: MetricsServer, tmp_path: Path) -> None:
    Gauge("x", "X.", registry=server.registry)
    with Scrape(server.url, EVERY_S, tmp_path / "journal") as scrape:
        until(lambda: num_seen(scrape) >= 2)
        assert scrape._journal is not None and scrape._journal._file is not None
        journal, scrape._journal._file = scrape._journal._file, FULL_DISK.open("w")
        journal.close()
        until(lambda: num_seen(scrape) >= 4)
    assert scrape.notes == ("the journal of samples ends: No space left on device",)


@needs_full_disk
def test_a_full_disk_is_refused(server: MetricsServer) -> None:
    with pytest.raises(InputError, match="No space left"):
        Scrape(server.url, journal=FULL_DISK)


def test_what_cannot_be_scraped_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected an address"):
        Scrape("ftp://x")
    with pytest.raises(InputError, match="0.01 s or more"):
        Scrape("http://x", every_s=0)
    with pytest.raises(InputError, match="cannot write"):
        Scrape("http://x", journal=tmp_path / "none" / "journal")


def test_a_late_tick_shifts_no_other() -> None:
    """The second call takes two and a half periods: the ticks behind it are missed, at the time they were due."""
    taken: list[float] = []
    missed: list[float] = []

    def take() -> None:
        taken.append(time.monotonic())
        time.sleep(0.25 if len(taken) == 2 else 0.0)

    cadence = Cadence(0.1, take, missed.append)
    cadence.start()
    until(lambda: len(taken) >= 4)
    assert cadence.stop(600.0)
    assert sum(taken[1] < due_s < taken[2] for due_s in missed) >= 2
    ticks = (np.array(sorted([*taken, *missed])) - missed[0]) / 0.1  # a thread may wake late, never early
    first = int(np.floor(ticks[0] + 1e-6))
    assert np.floor(ticks + 1e-6).tolist() == list(range(first, first + len(ticks)))


def test_a_thread_that_wakes_late_has_missed_ticks(
    server: MetricsServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Between the end of its wait and the sample, a thread of a busy machine may stand still for periods."""
    Gauge("x", "X.", registry=server.registry)
    scrape = Scrape(server.url, EVERY_S)
    wait, starved_s = scrape._cadence._ended.wait, [3.4 * EVERY_S, 0.0, 1.4 * EVERY_S, 0.0, 0.0]

    def wait_too_long(timeout: float) -> bool:
        ended = wait(timeout)
        time.sleep(starved_s.pop() if starved_s else 0.0)
        return ended

    monkeypatch.setattr(scrape._cadence._ended, "wait", wait_too_long)
    with scrape:
        until(lambda: num_samples(scrape) >= 9)
    assert on_time(all_of(scrape)) and np.isnan(all_of(scrape).series[0].values).sum() >= 4


def test_times_never_go_back(tmp_path: Path) -> None:
    """A tick can be missed while the sample before it has just looked at the clock."""
    scrape = Scrape("http://127.0.0.1:9", journal=tmp_path / "journal")
    for time_s in (10.0, 9.5, 11.0):
        scrape._keep(time_s, {}, "missed")
    assert scrape._journal is not None
    scrape._journal.close()
    assert all_of(scrape).time_s.tolist() == [10.0, 10.0, 11.0]
    assert same(read_journal(tmp_path / "journal"), all_of(scrape))
