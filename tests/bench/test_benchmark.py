"""A benchmark from Python: one call measures and writes, as the command does."""

import numpy as np
import pytest

from loratwin.bench import GivenServers, Listener, Options, load_requests, measure, was_interrupted
from loratwin.errors import InputError
from loratwin.records import load_run
from tests.markdown import blocks

from .servers import timed_server, workload_file


def test_one_call_measures_and_writes_the_record(tmp_path):
    lines, phases = [], []
    requests = load_requests(workload_file(tmp_path, 9, count=2, rate=10), seed=3, window_s=2)
    listener = Listener(lines.append, lambda now: phases.append(now.phase))
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        run = measure(requests, GivenServers(server.url), tmp_path / "run.json", listener=listener)
    kept = load_run(tmp_path / "run.json")
    np.testing.assert_array_equal(run.requests.first_token_s, kept.requests.first_token_s)
    assert len(kept.requests) == requests.num_requests and not kept.invalid and not was_interrupted(run)
    assert lines == [f"written: {tmp_path / 'run.json'}"] and not (tmp_path / "run.json.partial").exists()
    seen = [phase for phase in dict.fromkeys(phases) if phase != "starting"]  # a fast client says that it has started
    assert seen == ["first question", "adapters", "warm-up", "window", "done"]


def test_a_record_is_sent_again(tmp_path):
    requests = load_requests(workload_file(tmp_path, 2, count=2, rate=10))
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        first = measure(requests, GivenServers(server.url), tmp_path / "run.json", options=Options(warm_up=1))
    again = load_requests(tmp_path / "run.json")
    np.testing.assert_allclose(again.arrival_s, first.requests.scheduled_s)
    with pytest.raises(InputError, match="--window 3: the record has 2 s"):
        load_requests(tmp_path / "run.json", window_s=3)


def test_prompts_are_new_to_the_server_each_time():
    assert Options().prompt_seed != Options().prompt_seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(api="words"), "completions or chat"),
        (Options(scrape_every_s=0.0), "it must be 0.01 s or more"),
        (Options(prompts="absent.txt"), "no such file"),
    ],
)
def test_what_is_wrong_is_said_before_a_server_is_asked(tmp_path, options, message):
    requests = load_requests(workload_file(tmp_path, 2, count=1, rate=5))
    with pytest.raises(InputError, match=message):
        measure(requests, GivenServers("http://127.0.0.1:9"), tmp_path / "run.json", options=options)
    assert [path.name for path in tmp_path.iterdir()] == ["workload.yaml"]


def test_a_record_that_is_there_stays(tmp_path):
    requests = load_requests(workload_file(tmp_path, 2, count=1, rate=5))
    (tmp_path / "run.json").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        measure(requests, GivenServers("http://127.0.0.1:9"), tmp_path / "run.json")
    assert (tmp_path / "run.json").read_text() == "mine"


def test_what_the_page_shows_runs(tmp_path, monkeypatch, capsys):
    """docs/bench.md; the server is one of known timing at another port, and ten minutes are two seconds."""
    monkeypatch.chdir(tmp_path)
    workload_file(tmp_path, 9, count=2, rate=10).rename(tmp_path / "traffic.yaml")
    (block,) = blocks("docs/bench.md", "python")
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        exec(block.replace("http://127.0.0.1:8000", server.url).replace("600", "2"), {})
    assert "written: measured.json" in capsys.readouterr().out
    assert load_run("measured.json").window_s == 2
