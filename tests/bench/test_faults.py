"""What goes wrong is counted, named and survived; nothing measured is lost, no process is left behind."""

import os
import resource
import signal
import sys
from pathlib import Path

import numpy as np
import pytest

from loratwin.bench.shared.journal import RequestJournal
from loratwin.metrics import client_figures, failures_by_kind, finished
from loratwin.records import load_run
from loratwin.workload import draw, load_spec
from tests.cli.program import loratwin_process
from tests.processes import ended, until
from tests.slow import SLOW, slow

from .servers import bench, on_time, processes_with, start_bench, timed_server, workload_file

MID = f"mid-{os.getpid()}.json"  # a name of its own: load clients are found by their arguments, on the whole machine
FAULTY = ("a-0", "status-500", "cut-3", "malformed-3", "error-3", "fewer-x", "unreasoned-x")


def adapters(*names):
    return ["--adapters", ",".join(names), "--no-preload", "--warm-up", 0]


@pytest.fixture(scope="module")
def faulty(tmp_path_factory):
    """Seven adapters of which six misbehave, each in its own way: the record and what the program said."""
    folder = tmp_path_factory.mktemp("faulty")
    path = workload_file(folder, 4, count=7, rate=5)
    with timed_server(folder, "llm", *FAULTY) as server:
        done = bench(path, "--url", server.url, *adapters(*FAULTY), "-o", MID, folder=folder)
    assert done.returncode == 0, done.stderr
    return load_run(folder / MID), done


def rows_ended(run, adapter):
    """The requests of an adapter that came to an end, good or bad, in the window: on a busy machine not all do."""
    return (run.requests.adapter == adapter) & ~np.isnan(run.requests.finish_s)


@pytest.mark.parametrize(
    ("adapter", "kind"),
    [(1, "HTTP 500"), (2, "stream cut off"), (3, "malformed stream"), (4, "error in the stream")],
)
def test_each_fault_is_named_and_counted_on_its_adapter(faulty, adapter, kind):
    run, _ = faulty
    rows = rows_ended(run, adapter)
    failure = run.requests.failure[rows]
    assert len(failure) and {run.failures[code] for code in failure} == {kind}
    assert not finished(run)[rows].any()


def test_the_healthy_adapter_is_not_harmed(faulty):
    run, _ = faulty
    rows = rows_ended(run, 0)
    assert rows.any() and (run.requests.failure[rows] == -1).all() and (run.requests.received_tokens[rows] == 8).all()


def test_tokens_before_a_cut_are_counted(faulty):
    run, _ = faulty
    rows = rows_ended(run, 2)
    assert rows.any() and (run.requests.received_tokens[rows] == 3).all()


def test_wrong_token_counts_are_told(faulty):
    run, _ = faulty
    rows = rows_ended(run, 5)
    assert (run.requests.output_tokens[rows] == 4).all() and (run.requests.asked_tokens[rows] == 8).all()
    assert client_figures(run).wrong_length == rows.sum() > 0


def test_an_answer_without_a_reason_for_finishing_is_finished_all_the_same(faulty):
    run, _ = faulty
    rows = rows_ended(run, 6)
    assert rows.any() and finished(run)[rows].all() and (run.requests.output_tokens[rows] == 8).all()
    span = run.requests.finish_s[rows] - run.requests.first_token_s[rows]
    assert np.median(span) > 0.02  # seven gaps of 5 ms, and not until the connection closes


def test_such_a_run_is_invalid_and_says_why(faulty):
    run, done = faulty
    assert any("fail" in reason for reason in run.invalid) and "INVALID" in done.stdout
    assert sum(number for _, number in failures_by_kind(run)) == client_figures(run).failed
    assert any("engine died" in note for note in run.provenance.notes)


@pytest.mark.parametrize(
    ("names", "words", "said"),
    [
        (("llm", "a-0"), (), "the workload has 2 adapters and the server 1"),
        (("llm", "status-404", "a-1"), ("--adapters", "status-404,a-1"), "'status-404': HTTP 404 as asked for"),
        pytest.param(("llm", "a-0", "a-1"), ("--adapters", "a-0,zz"), "no 'zz'", marks=slow),
        pytest.param(("llm", "a-0", "a-1"), ("--llm", "gone"), "'gone': HTTP 404 The model `gone` does", marks=slow),
    ],
)
def test_what_is_wrong_before_the_window_ends_the_command(tmp_path, names, words, said):
    path = workload_file(tmp_path, 2, count=2, rate=5)
    with timed_server(tmp_path, *names) as server:
        done = bench(path, "--url", server.url, *words, folder=tmp_path)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert done.stderr.count("error:") == 1 and "Traceback" not in done.stderr
    assert not list(tmp_path.glob("bench.json*"))


def test_no_server(tmp_path):
    path = workload_file(tmp_path, 2, count=2, rate=5)
    done = bench(path, "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert done.returncode == 2 and "no usable server at http://127.0.0.1:9" in done.stderr


def test_a_server_that_is_killed_in_mid_run(tmp_path):
    path = workload_file(tmp_path, 6, output=40, count=2, rate=20)
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        client = start_bench(path, "--url", server.url, "-o", MID, folder=tmp_path)
        wait_until_finished(tmp_path, client, 30)
        server.kill()
        out, err = ended(client)
    assert client.returncode == 0, err
    run = load_run(tmp_path / MID)
    figures, kinds = client_figures(run), dict(failures_by_kind(run))
    assert figures.finished >= 30 and kinds["connection refused"] > 0
    if on_time(run):
        assert kinds["connection refused"] > 20 and "stream cut off" in kinds
    assert figures.finished + figures.failed + figures.censored == figures.sent
    assert run.invalid and "INVALID" in out


def wait_for(path: Path, client):
    until(path.exists, client)


def wait_until_finished(folder, client, least):
    """Until so many requests of the window are answered: the client's own journal says so."""
    wait_for(folder / f"{MID}.partial" / "window.json", client)
    journal = RequestJournal.open(folder / f"{MID}.partial")
    until(lambda: journal.count("finished") >= least, client)
    journal.close()


def client_in_mid_run(folder, server):
    path = workload_file(folder, 60, count=2, rate=20)
    client = start_bench(path, "--url", server.url, "-o", MID, "--scrape-every", 0.2, folder=folder)
    wait_until_finished(folder, client, 40)
    return client


def finished_early(run):
    """Everything but what was on its way is there, up to the end that the window then had."""
    figures = client_figures(run)
    assert 0.5 < run.window_s < 60 and figures.finished >= 40
    if on_time(run):
        assert run.window_s < 20 and figures.never_sent <= 3
    assert figures.finished + figures.censored == figures.sent
    assert figures.never_sent < figures.sent  # those due while it ended; 2,300 more were due in the whole window
    return figures


def test_ctrl_c_keeps_what_was_measured(tmp_path):
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        client = client_in_mid_run(tmp_path, server)
        client.send_signal(signal.SIGINT)
        _, err = ended(client)
    assert client.returncode == 130, err
    run = load_run(tmp_path / MID)
    finished_early(run)
    assert run.invalid[0] == "interrupted by the user"
    assert not (tmp_path / f"{MID}.partial").exists()
    assert not processes_with(f"loratwin.bench.worker {MID}.partial")  # nothing is left running
    assert len(run.requests) == client_figures(run).sent  # those that it did not come to are no part of the run


@slow
def test_a_stop_before_the_first_request_leaves_nothing(tmp_path):
    """SIGTERM, as of Slurm, is as good as Ctrl-C. The window is open, and its first request due only in 15 seconds."""
    path = workload_file(tmp_path, 60, count=1, rate=0.04, arrivals="deterministic")
    assert draw(load_spec(path), seed=0).arrival_s[0] > 5
    with timed_server(tmp_path, "llm", "a-0") as server:
        client = start_bench(path, "--url", server.url, "-o", MID, folder=tmp_path)
        wait_for(tmp_path / f"{MID}.partial" / "window.json", client)
        client.send_signal(signal.SIGTERM)
        _, err = ended(client)
    assert client.returncode == 130 and "error" not in err, err
    assert not list(tmp_path.glob(f"{MID}*"))


def test_the_window_ends_in_time_however_much_is_due(tmp_path):
    """A hundred thousand requests are due at once, and half a second is enough for a few thousand on any machine."""
    path = workload_file(tmp_path, 0.5, count=1, rate=20)
    with timed_server(tmp_path, "llm", "a-0") as server:
        done = bench(path, "--url", server.url, "--in-flight", 100_000, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "bench.json")
    assert np.isnan(run.requests.sent_s).mean() > 0.5
    assert any("were never sent" in reason for reason in run.invalid)


@slow
def test_the_load_client_is_killed(tmp_path):
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        client = client_in_mid_run(tmp_path, server)
        (worker,) = processes_with(f"loratwin.bench.worker {MID}.partial")
        os.kill(worker, signal.SIGKILL)
        _, err = ended(client)
    assert client.returncode == 0, err
    run = load_run(tmp_path / MID)
    finished_early(run)
    assert "the load client was killed" in run.invalid[0]


def test_everything_is_killed_and_recovered(tmp_path):
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        client = client_in_mid_run(tmp_path, server)
        os.kill(client.pid, signal.SIGKILL)
        _, err = ended(client)
        until(lambda: not processes_with(f"loratwin.bench.worker {MID}.partial"), every_s=0.1)
        assert "Traceback" not in err and "BrokenPipe" not in err
        again = bench("workload.yaml", "--url", server.url, "-o", MID, folder=tmp_path)
    assert again.returncode == 2 and f"--recover {MID}.partial" in again.stderr
    (tmp_path / f"{MID.removesuffix('.json')}-logs" / "steps-0").mkdir(parents=True)  # of a server that never logged
    done = bench("--recover", f"{MID}.partial", folder=tmp_path)  # the record's name is the folder's
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / MID)
    finished_early(run)
    assert "was killed" in run.invalid[0] and not any("never sent" in reason for reason in run.invalid)
    assert any("no steps in this record" in note for note in run.provenance.notes)  # the log was looked for
    assert run.provenance.seed == 0 and run.adapters.name == ("a-0", "a-1")


def test_a_record_is_not_replaced_unasked(tmp_path):
    path = workload_file(tmp_path, 2, count=1, rate=5)
    (tmp_path / "bench.json").write_text("mine")
    done = bench(path, "--url", "http://127.0.0.1:9", folder=tmp_path)
    assert done.returncode == 2 and "--force" in done.stderr
    assert (tmp_path / "bench.json").read_text() == "mine"


@slow
def test_a_full_disk_is_said_before_the_run(tmp_path):
    """The limit on file sizes stands for the disk: the journal of 100,000 requests does not fit."""
    path = workload_file(tmp_path, 1000, count=1, rate=100)
    with timed_server(tmp_path, "llm", "a-0") as server:
        limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))  # noqa: E731
        done = loratwin_process("bench", str(path), "--url", server.url, cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 2 and "cannot write" in done.stderr, done.stderr
    assert not list(tmp_path.glob("bench.json*"))


@slow
def test_out_of_files_is_named(tmp_path):
    """More streams at a time than the process may have files."""
    path = workload_file(tmp_path, 3, output=100, count=1, rate=100)
    with timed_server(tmp_path, "llm", "a-0", itl=0.05) as server:
        limit = lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))  # noqa: E731
        done = loratwin_process("bench", str(path), "--url", server.url, cwd=tmp_path, preexec_fn=limit)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "bench.json")
    assert dict(failures_by_kind(run))["client out of open files"] > 50
    assert any("ulimit -n" in note for note in run.provenance.notes) and run.invalid


CLOCK_STEPS = """
import random, time
_real = time.time
time.time = lambda: _real() + random.choice([-3600.0, 0.0, 3600.0])
time.time_ns = lambda: int(time.time() * 1e9)
"""


@slow
def test_steps_of_the_wall_clock_change_nothing(tmp_path):
    """Every look at the wall clock is an hour off, in either direction."""
    (tmp_path / "sitecustomize.py").write_text(CLOCK_STEPS)
    path = workload_file(tmp_path, 3, count=2, rate=20)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        done = loratwin_process("bench", str(path), "--url", server.url, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "bench.json")
    figures = client_figures(run)
    assert figures.finished > (60 if on_time(run) else 0) and not figures.failed
    span = run.requests.finish_s - run.requests.sent_s
    assert 0.05 < np.nanmin(span) <= np.nanmax(span) < 1800  # not an hour off


def test_api_keys_are_sent_and_written_nowhere(tmp_path):
    path = workload_file(tmp_path, 1, count=1, rate=20)
    key = "sk-very-secret-0123"
    with timed_server(tmp_path, "llm", "a-0") as server:
        done = bench(
            path, "--url", server.url, *(["--report", "r.html"] if SLOW else []), folder=tmp_path,
            env={"OPENAI_API_KEY": key},
        )  # fmt: skip
        truth = server.stop()
    assert done.returncode == 0, done.stderr
    assert truth["keys"] == [f"Bearer {key}"]
    written = [path for path in tmp_path.rglob("*") if path.is_file() and path.name != "truth.json"]
    assert len(written) >= 2
    assert not [path for path in written if key.encode() in path.read_bytes()]
    assert key not in done.stdout + done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "no workload"),
        (("w.yaml",), "--url"),
        (("w.yaml", "--url", "http://h:1", "--launch", "vllm"), "--url"),
        (("w.yaml", "--url", "http://h:1", "--replicas", "2"), "--launch"),
        (("w.yaml", "--launch", "sglang", "--steps"), "only vLLM"),
        (("w.yaml", "--url", "http://h:1", "--api", "embeddings"), "completions or chat"),
        (("w.yaml", "--url", "http://h:1", "--prompts", "none.txt"), "no such file"),
        (("w.yaml", "--url", "http://h:1", "--window", "-5"), "positive"),
        (("w.yaml", "--url", "http://h:1", "-o", "run.csv"), ".parquet"),
        (("w.yaml", "--url", "http://u:pw@h:1"), "password"),
        (("none.yaml", "--url", "http://h:1"), "none.yaml"),
        (("--recover", "nothing"), "no unfinished benchmark"),
        (("w.yaml", "--launch", "tgi"), "tgi"),
    ],
)
def test_wrong_options_are_said_in_one_line(tmp_path, words, said):
    workload_file(tmp_path, 2, count=1, rate=5).rename(tmp_path / "w.yaml")
    done = bench(*words, folder=tmp_path)
    assert done.returncode == 2 and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and not list(tmp_path.glob("bench*"))


def test_requests_on_a_connection_that_just_closed_are_sent_again_and_it_is_said(tmp_path):
    """No failure of the server's: but the record says how often, and the TTFT counts from the first sending."""
    path = workload_file(tmp_path, 2, count=1, rate=30)
    with timed_server(tmp_path, "llm", "once-x") as server:
        done = bench(path, "--url", server.url, "--adapters", "once-x", folder=tmp_path)
        assert done.returncode == 0, done.stderr
        truth = server.stop()
    run = load_run(tmp_path / "bench.json")
    figures = client_figures(run)
    (note,) = (note for note in run.provenance.notes if "sent again" in note)
    again = int(note.split()[0])
    assert figures.finished > 0 and not figures.failed and again > 0
    if on_time(run):
        assert figures.finished > 30 and again > 20
    answered = len(truth["requests"]) - 1 - 1 - 16  # without first question, adapter, warm-up
    assert figures.finished <= answered <= figures.sent  # none of them twice
