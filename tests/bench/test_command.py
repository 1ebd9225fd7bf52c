"""What can be known to be wrong is said before a server is asked, started or measured."""

import socket

import pytest

from loratwin.cli.app import app

from .servers import bench, timed_server, workload_file

NOWHERE = "http://127.0.0.1:9"  # nothing listens on port 9: an error about it comes too late
LAUNCHED = ("--launch", "vllm", "--server-command", "no-such-program", "--server-args", "--model x")


def said(capsys, *words):
    """The error of `loratwin bench WORDS`, run in this process."""
    with pytest.raises(SystemExit) as ended:
        app(["bench", *map(str, words)], prog_name="loratwin")
    assert ended.value.code == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("--url", NOWHERE, "--report", "bench.json"), "bench.json: the report is an HTML file"),
        (("--url", NOWHERE, "--profile", "no/such/profile"), "unknown profile 'no/such/profile'"),
        (("--url", NOWHERE, "--scrape-every", "1e-9"), "--scrape-every: every 1e-09 s; it must be 0.01 s or more"),
        (("--url", NOWHERE, "--scrape-every", "nan"), "--scrape-every: every nan s"),
        (("--url", NOWHERE, "--window", "1e7"), "--window 1e+07: asks for about 50,000,010 requests"),
        (("--url", NOWHERE, "--window", "1e9"), "--window 1e+09: window_s = 1000000000.0: must be less"),
        (("--url", NOWHERE, "--server-command", "x"), "--server-command is for a server that we start"),
        ((*LAUNCHED, "--start-timeout", "nan"), "--start-timeout nan: it must be a positive number"),
        ((*LAUNCHED, "--start-timeout", "0"), "--start-timeout 0: it must be a positive number"),
        ((*LAUNCHED, "--llm", "x"), "--llm is for --url"),
        (("--url", NOWHERE, "--router", "weighted"), "--router is for the servers of a placement: --fleet"),
        (("--url", NOWHERE, "--fleet", "p.json", "--mps", "--steps"), "--fleet: --mps, --steps are not for it"),
    ],
)
def test_bad_options(tmp_path, monkeypatch, capsys, words, expected):
    monkeypatch.chdir(tmp_path)
    path = workload_file(tmp_path, 2, count=1, rate=5.000001)
    assert expected in said(capsys, path, *words)
    assert [each.name for each in tmp_path.iterdir()] == ["workload.yaml"]


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("p.jsonl", b'{"prompt": "a"}\n{bad\n', "p.jsonl, line 2: not JSON with a text as \"prompt\": '{bad'"),
        ("p.jsonl", b'{"prompt": null}\n', "p.jsonl, line 1: not JSON with a text"),
        ("p.jsonl", b'{"prompt": " "}\n', "p.jsonl: there is no prompt in it"),
        ("p.json", b'[{"conversations": []}]', "p.json: there is no prompt in it"),
        ("p.json", b'{"a": 1}', "p.json: not ShareGPT's form"),
        ("p.txt", b"\n\n", "p.txt: there is no prompt in it"),
        ("p.txt", b"\xff", "cannot read p.txt"),
    ],
)
def test_files_without_prompts(tmp_path, monkeypatch, capsys, name, content, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    path = workload_file(tmp_path, 2, count=1, rate=5)
    assert expected in said(capsys, path, "--url", NOWHERE, "--prompts", name)


def test_a_server_that_is_given_twice(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = workload_file(tmp_path, 2, count=1, rate=5)
    assert f"{NOWHERE} is given twice" in said(capsys, path, "--url", NOWHERE, "--url", f"{NOWHERE}/v1/")


def test_a_key_that_no_header_may_have(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OPENAI_API_KEY", "schlüssel")
    path = workload_file(tmp_path, 2, count=1, rate=5)
    assert "the API key in OPENAI_API_KEY has characters" in said(capsys, path, "--url", NOWHERE)


def test_an_unfinished_benchmark_is_in_the_way_before_a_server_is_started(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bench.json.partial").mkdir()
    path = workload_file(tmp_path, 2, count=1, rate=5)
    assert "bench.json.partial holds an unfinished benchmark" in said(capsys, path, *LAUNCHED)
    assert not (tmp_path / "bench-logs").exists()


def test_a_key_that_is_refused_is_said_to_be_one(tmp_path, capsys):
    path = workload_file(tmp_path, 2, count=1, rate=5)
    with timed_server(tmp_path, "llm", "a-0", key="right") as server:
        words = (path, "--url", server.url, "-o", "keyed.json", "--warm-up", 1)
        assert "HTTP 401 (the API key is missing or wrong; it is taken from $OPENAI_API_KEY" in said(capsys, *words)
        done = bench(*words, folder=tmp_path, env={"OPENAI_API_KEY": "right"})
    assert done.returncode == 0, done.stderr
    assert "right" not in (tmp_path / "keyed.json").read_text()


def test_a_port_that_is_taken(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    path = workload_file(tmp_path, 2, count=1, rate=5)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = said(capsys, path, *LAUNCHED[:-1], f"--model x --port {port}")
    assert f"cannot listen on port {port} of 127.0.0.1" in error
