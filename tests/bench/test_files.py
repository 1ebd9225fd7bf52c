"""What was measured is written whatever else went wrong."""

from dataclasses import replace

import numpy as np
import pytest

from loratwin.bench.files import RecordFiles
from loratwin.bench.running import RunningServers
from loratwin.bench.shared.failures import FILE, MAX_KINDS, Failures, read_failures
from loratwin.errors import DataError
from loratwin.records import EngineConfig, load_run
from tests.metrics.runs import make_run
from tests.probe.test_log import step, write


def servers_with(step_logs):
    """Servers that were measured, and logged their steps."""
    count = len(step_logs)
    urls = tuple(f"http://127.0.0.1:{8000 + i}" for i in range(count))
    return RunningServers(urls, ("llm",), EngineConfig(max_loras=1), (None,) * count, step_logs=tuple(step_logs))


@pytest.mark.parametrize("replicas", [1, 2])
def test_step_logs_without_steps_cost_the_steps_and_not_the_record(tmp_path, replicas):
    """As of a server that took another scheduler, or whose several engines wrote at the same time."""
    files = RecordFiles(tmp_path / "run.json", force=False)
    files.partial.mkdir()
    logs = [tmp_path / f"steps-{i}" for i in range(replicas)]
    for log in logs:
        log.mkdir()
    run = make_run([0.0, 1.0], kind="measured", sent=[0.0, 1.0], scheduled=[0.0, 1.0])
    run = replace(run, requests=replace(run.requests, replica=np.array([0, replicas - 1], dtype=np.int32)))
    shown, written = files.write(run, 0.0, servers_with(logs))
    assert len(written) == (1 if replicas == 1 else 3) and all(path.is_file() for path in written)
    files.done()
    assert not files.partial.exists()
    kept = load_run(tmp_path / "run.json")
    assert shown.provenance == kept.provenance
    assert kept.steps is None and len(kept.requests) == 2
    assert any("no steps in this record" in note and "steps-0" in note for note in kept.provenance.notes)


def test_what_is_shown_is_what_is_written(tmp_path):
    """The table and --report must have the steps that the record has."""
    files = RecordFiles(tmp_path / "run.json", force=False)
    files.partial.mkdir()
    (tmp_path / "log").mkdir()
    write(tmp_path / "log", "steps", 1, [step(0, 1, 2), step(1, 2, 3)], engine=1)
    run = make_run([0.0, 1.0], kind="measured", sent=[0.0, 1.0], scheduled=[0.0, 1.0])
    shown, written = files.write(run, 0.0, servers_with([tmp_path / "log"]))
    assert len(shown.steps) == 2 and len(load_run(written[0]).steps) == 2


def test_kinds_of_failure_that_are_damaged_are_named(tmp_path):
    (tmp_path / FILE).write_bytes(b"\xff\xfe\n")
    with pytest.raises(DataError, match=r"failures\.jsonl: damaged"):
        read_failures(tmp_path, 1)
    with pytest.raises(DataError, match="the column of failures is damaged: kind 2,000,000,000"):
        read_failures(tmp_path / "none", 2_000_000_001)


def test_as_many_kinds_as_a_client_numbers_are_read(tmp_path):
    failures = Failures(tmp_path)
    codes = {failures.code(f"kind {i}", "") for i in range(MAX_KINDS + 50)}
    failures.close()
    assert len(read_failures(tmp_path, max(codes) + 1)) == len(codes) == MAX_KINDS + 1
