"""The scheduler with a log around it: what each row says against a literal count of the same step."""

from __future__ import annotations

import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from loratwin.probe import read_facts, read_notes, read_steps, write_parquet
from loratwin.probe.log import _steps
from tests.probe.engine import Clock, OldScheduler, Request, Scheduler

FEATURES = ["decode_requests", "prefill_tokens", "decode_context", "prefill_context", "running", "waiting", "skipped"]
FEATURES += ["distinct_adapters", "kv_blocks", "preemptions"]


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def probed(server_side: Any, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a scheduler of a class with the log around it, on the test's clock."""
    steps = server_side("steps")
    monkeypatch.setattr(steps, "time", clock)
    return lambda base, **limits: steps.probed(base)(clock=clock, **limits)


def some_requests(seed: int, number: int, num_adapters: int) -> list[Request]:
    rng = random.Random(seed)
    return [
        Request(f"r{i}", rng.randint(1, 150), rng.randint(1, 20), rng.randint(0, num_adapters)) for i in range(number)
    ]


def test_tokens_of_the_prefix_cache_are_context_but_not_computed(probed: Any, log: Path) -> None:
    requests = [Request(f"r{i}", 100, 5, adapter=1, cached=32 * (i % 3)) for i in range(9)]
    scheduler = probed(Scheduler)
    run(scheduler, requests)
    rows = _steps(log, 0.0, 0.0, np.inf)
    for name in FEATURES:
        assert rows[name].tolist() == [row[name] for row in scheduler.truth], name
    assert rows["prefill_tokens"].sum() == sum(request.num_prompt_tokens - request.cached for request in requests)


def step(scheduler: Any) -> int:
    """One step that takes 10 ms; the number of tokens that came out."""
    output = scheduler.schedule()
    scheduler.clock.now += 0.01
    result = scheduler.update_from_output(output, None)
    groups = result.values() if isinstance(result, dict) else [result]
    return sum(len(group.outputs) for group in groups)


def run(scheduler: Any, requests: list[Request]) -> int:
    """All requests, arriving a few at a time, to their end; the tokens that came out."""
    tokens, waiting = 0, list(requests)
    while waiting or scheduler.requests or scheduler.finished:
        for request in waiting[:3]:
            scheduler.add(request)
        del waiting[:3]
        tokens += step(scheduler)
    scheduler.shutdown()
    return tokens


@pytest.mark.parametrize("base", [Scheduler, OldScheduler])
@pytest.mark.parametrize("blocks", [1000, 24])
def test_each_row_says_what_the_step_was(probed: Any, log: Path, base: type, blocks: int) -> None:
    requests = some_requests(1, 60, num_adapters=5)
    scheduler = probed(base, blocks=blocks)
    tokens = run(scheduler, requests)
    rows = _steps(log, 0.0, 0.0, np.inf)
    for name in FEATURES:
        assert rows[name].tolist() == [row[name] for row in scheduler.truth], name
    assert rows["output_tokens"].sum() == tokens == sum(request.max_tokens for request in requests)
    assert rows["skipped"].max() > 0
    assert (rows["preemptions"].sum() > 0) == (blocks == 24)
    if blocks == 1000:
        assert rows["prefill_tokens"].sum() == sum(request.num_prompt_tokens for request in requests)


def test_a_step_lasts_from_schedule_to_its_tokens(probed: Any, log: Path, clock: Clock) -> None:
    scheduler = probed(Scheduler)
    scheduler.add(Request("r", 10, 2, 1))
    step(scheduler)  # 1 ms in schedule(), 10 ms, 2 ms in update_from_output()
    clock.now += 5.0  # idle
    step(scheduler)
    scheduler.shutdown()
    steps = read_steps(log, zero_s=100.0)
    assert steps.start_s == pytest.approx([0.0, 5.013])
    assert steps.duration_s == pytest.approx([0.013, 0.013])
    assert steps.schedule_s == pytest.approx([0.001, 0.001])


def test_overlapping_steps_share_no_time(probed: Any, log: Path, clock: Clock) -> None:
    """Asynchronous scheduling: the second is scheduled before the tokens of the first are out."""
    scheduler = probed(Scheduler, overlapping=True)
    for request in some_requests(3, 20, num_adapters=2):
        scheduler.add(request)
    tokens, in_flight = 0, [scheduler.schedule()]
    while scheduler.requests:
        in_flight.append(scheduler.schedule())
        clock.now += 0.01
        tokens += len(scheduler.update_from_output(in_flight.pop(0))[0].outputs)
    for output in in_flight:
        scheduler.update_from_output(output)
    scheduler.shutdown()
    rows = _steps(log, 0.0, 0.0, np.inf)
    for name in FEATURES:
        assert rows[name].tolist() == [row[name] for row in scheduler.truth], name
    assert rows["output_tokens"].sum() == tokens > 0
    assert (rows["schedule_start_s"][1:] < rows["end_s"][:-1]).any()
    assert (rows["start_s"][1:] == np.maximum(rows["end_s"][:-1], rows["schedule_start_s"][1:])).all()


def test_the_window_takes_steps_by_their_start(probed: Any, log: Path, clock: Clock) -> None:
    scheduler = probed(Scheduler)
    scheduler.add(Request("r", 10, 3, 0))
    starts = []
    for _ in range(3):
        starts.append(clock.now)
        step(scheduler)
    scheduler.shutdown()
    assert read_steps(log, starts[0], starts[1], starts[2]).start_s == pytest.approx([starts[1] - starts[0]])


def test_a_step_without_tokens_is_none(probed: Any, log: Path) -> None:
    scheduler = probed(Scheduler)
    scheduler.add(Request("r", 10, 1, 0))
    step(scheduler)
    assert step(scheduler) == 0  # the worker is told who has finished
    scheduler.shutdown()
    assert len(read_steps(log)) == 1


class _Weird(Scheduler):
    """A version that lacks what the log needs from the third step on."""

    def schedule(self, throttle_prefills: bool = False) -> Any:
        output = super().schedule()
        if len(self.truth) > 2:
            del output.scheduled_cached_reqs
        return output


def test_a_failure_of_the_log_leaves_the_engine_alone(probed: Any, log: Path) -> None:
    requests = some_requests(1, 10, num_adapters=2)
    scheduler = probed(_Weird)
    assert run(scheduler, requests) == sum(request.max_tokens for request in requests)
    assert len(read_steps(log)) == 2
    (note,) = read_notes(log)
    assert "scheduled_cached_reqs" in note


def test_a_full_disk_leaves_the_engine_alone(probed: Any, log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler = probed(Scheduler)
    files = __import__("loratwin_vllm_probe.files").files

    def full(file: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files.os, "write", full)
    requests = some_requests(1, 10, num_adapters=2)
    assert run(scheduler, requests) == sum(request.max_tokens for request in requests)
    assert "No space left" in read_notes(log)[0]


def test_without_a_folder_the_engine_runs(probed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LORATWIN_PROBE_LOG")
    requests = some_requests(1, 5, num_adapters=2)
    assert run(probed(Scheduler), requests) == sum(request.max_tokens for request in requests)


class _NoPool(Scheduler):
    def __init__(self, **limits: Any) -> None:
        super().__init__(**limits)
        self.pool, self.kv_cache_manager = self.kv_cache_manager, SimpleNamespace()

    def _take_blocks(self, request: Request, n: int) -> bool:
        return True

    def _finish(self, request: Request) -> None:
        self.owned[request.request_id] = 0
        super()._finish(request)


def test_what_a_version_does_not_tell_is_noted(probed: Any, log: Path) -> None:
    run(probed(_NoPool), some_requests(1, 5, num_adapters=2))
    assert len(read_steps(log)) > 0
    assert read_notes(log) == ("this version does not tell its KV blocks",)


def test_parquet_holds_all_columns_and_the_facts(probed: Any, log: Path, tmp_path: Path) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    run(probed(Scheduler), some_requests(1, 5, num_adapters=2))
    table = parquet.read_table(write_parquet(log, tmp_path / "steps.parquet", zero_s=100.0))
    steps = read_steps(log, zero_s=100.0)
    assert table["start_s"].to_pylist() == steps.start_s.tolist()
    assert {"preemptions", "output_tokens", "load_s", "swap_ins"} <= set(table.schema.names)
    assert b'"max_loras": 2' in table.schema.metadata[b"loratwin_steps"]
    assert read_facts(log)["engine_version"] == "0.0.1"


class _Config:
    """vLLM's own choice, as `SchedulerConfig.get_scheduler_cls` makes it."""

    def __init__(self, overlapping: bool) -> None:
        self.async_scheduling, self.scheduler_cls = overlapping, "loratwin_vllm_probe.steps.Scheduler"

    def get_scheduler_cls(self) -> Any:
        assert self.scheduler_cls is None, "our own name would be resolved again"
        return _Overlapping if self.async_scheduling else _Plain


class _Plain(Scheduler):
    def __init__(self, *, vllm_config: Any, clock: Clock) -> None:
        super().__init__(clock=clock)


class _Overlapping(_Plain):
    pass


@pytest.mark.parametrize(("overlapping", "expected"), [(True, _Overlapping), (False, _Plain)])
def test_the_engines_own_class_is_taken(
    server_side: Any, log: Path, clock: Clock, overlapping: bool, expected: type
) -> None:
    config = SimpleNamespace(scheduler_config=_Config(overlapping))
    made = server_side("steps").Scheduler(vllm_config=config, clock=clock)
    assert isinstance(made, expected) and isinstance(made, _Overlapping) == overlapping
    assert config.scheduler_config.scheduler_cls is not None
