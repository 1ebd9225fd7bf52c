"""A benchmark from Python: one call measures and writes, as the command does."""

import shlex
import sys
from pathlib import Path

import numpy as np
import pytest

from loratwin.bench import GivenServers, LaunchedServers, Listener, Options, load_requests, measure, was_interrupted
from loratwin.errors import InputError
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered

from .servers import processes_with, timed_server, workload_file


def test_one_call_measures_and_writes_a_record_that_can_be_sent_again(tmp_path):
    lines: list[str] = []
    phases: list[str] = []
    requests = load_requests(workload_file(tmp_path, 9, count=2, rate=10), seed=3, window_s=2)
    listener = Listener(lines.append, lambda now: phases.append(now.phase))
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        run = measure(requests, GivenServers(server.url), tmp_path / "run.json", listener=listener)
    kept = load_run(tmp_path / "run.json")
    np.testing.assert_array_equal(run.requests.first_token_s, kept.requests.first_token_s)
    assert len(kept.requests) == requests.num_requests and not was_interrupted(run)
    assert all("fell behind" in reason or "never sent" in reason for reason in kept.invalid)  # a busy machine
    assert lines == [f"written: {tmp_path / 'run.json'}"] and not (tmp_path / "run.json.partial").exists()
    order = ["starting", "first question", "adapters", "warm-up", "window", "done"]
    seen = list(dict.fromkeys(phases))  # looked at now and then: a short one may pass unseen
    assert seen == [phase for phase in order if phase in seen] and "window" in seen
    again = load_requests(tmp_path / "run.json")
    np.testing.assert_allclose(again.arrival_s, run.requests.scheduled_s)
    with pytest.raises(InputError, match="--window 3: the record has 2 s"):
        load_requests(tmp_path / "run.json", window_s=3)


def test_a_reference_load_before_and_after_tells_how_fast_the_machine_was(tmp_path):
    """Of a server of known timing; its requests are no part of what is measured."""
    requests = load_requests(workload_file(tmp_path, 2, count=2, rate=10), seed=3, window_s=1)
    with timed_server(tmp_path, "llm", "a-0", "a-1", itl=0.008) as server:
        options = Options(reference_s=1.0)
        run = measure(requests, GivenServers(server.url), tmp_path / "run.json", options=options)
        truth = server.stop()
    found = load_run(tmp_path / "run.json").reference
    assert found == run.reference is not None
    assert 0.0005 < found.before_s < 1 and 0.0005 < found.after_s < 1  # a busy machine sends late, then catches up
    assert len(run.requests) == requests.num_requests
    of_reference = [1 for _, name, prompt, output, *_ in truth["requests"] if (name, prompt, output) == ("llm", 8, 32)]
    assert len(of_reference) >= 2 * 4
    assert any("ms between tokens before the window" in note for note in run.provenance.notes)


def test_servers_that_are_started_share_the_load_and_are_gone(tmp_path):
    """Servers of known timing that take vLLM's arguments, with adapters of a folder; each has a record of its own."""
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "llm", NewLlm()), numbered("a", 2, (8,)))
    command = shlex.join([sys.executable, str(Path(__file__).with_name("timed_server.py"))])
    args = f"--model {tmp_path / 'llm'} --enable-lora --max-loras 2 --gpu-memory-utilization 0.8"
    servers = LaunchedServers(args, command=command, replicas=2, lora_folder=tmp_path / "adapters")
    requests = load_requests(workload_file(tmp_path, 2, count=2, rate=10))
    lines: list[str] = []
    run = measure(requests, servers, tmp_path / "run.json", listener=Listener(lines.append))
    share = [run.requests.replica.tolist().count(replica) for replica in (0, 1)]
    assert run.config.max_loras == 2 and sum(share) == len(run.requests)
    assert min(share) >= len(run.requests) // 5  # in turn, but past one that a busy machine keeps waiting
    assert lines[0] == f"starting 2 x vllm; logs in {tmp_path / 'run-logs'}"
    assert [line.rpartition("/")[2] for line in lines[1:]] == ["run.json", "run-replica-0.json", "run-replica-1.json"]
    assert len(load_run(tmp_path / "run-replica-1.json").requests) == share[1]
    assert not processes_with(str(tmp_path / "llm"))


def test_prompts_are_new_to_the_server_each_time():
    assert Options().prompt_seed != Options().prompt_seed


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(api="words"), "completions or chat"),  # type: ignore[arg-type]
        (Options(scrape_every_s=0.0), "it must be 0.01 s or more"),
        (Options(prompts="absent.txt"), "no such file"),
        (Options(reference_s=-1.0), "it must be a number of seconds"),
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
