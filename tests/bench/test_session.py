"""Chats, TLS, and measured beside simulated."""

import shutil
import subprocess

import numpy as np
import pytest

from loratwin.metrics import client_figures
from loratwin.records import load_run
from tests.cli.program import loratwin
from tests.slow import slow

from .servers import bench, on_time, timed_server, workload_file


def test_chats_have_prompts_of_exact_length(tmp_path):
    """The template adds 7 tokens, which is found by asking; words are then as many less."""
    path = workload_file(tmp_path, 2, prompt=40, count=2, rate=10)
    with timed_server(tmp_path, "llm", "a-0", "a-1") as server:
        proxy = {"http_proxy": "http://127.0.0.1:9", "no_proxy": ""}  # must not be asked
        done = bench(path, "--url", server.url, "--api", "chat", folder=tmp_path, env=proxy)
        assert done.returncode == 0, done.stderr
        truth = server.stop()
    run = load_run(tmp_path / "bench.json")
    figures = client_figures(run)
    assert figures.finished > (20 if on_time(run) else 0) and not figures.failed and not figures.wrong_length
    window = [row[2] for row in truth["requests"][-figures.sent :]]
    assert window == [40] * figures.sent and (run.requests.prompt_tokens == 40).all()


def test_texts_are_as_long_as_the_server_counts(tmp_path):
    (tmp_path / "prompts.txt").write_text("one two three\nfour five\n")
    path = workload_file(tmp_path, 2, prompt=40, count=1, rate=20)
    with timed_server(tmp_path, "llm", "a-0") as server:
        done = bench(path, "--url", server.url, "--prompts", "prompts.txt", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    run = load_run(tmp_path / "bench.json")
    finished = ~np.isnan(run.requests.finish_s)
    assert set(run.requests.prompt_tokens[finished]) == {2, 3}


@pytest.fixture
def certificate(tmp_path):
    """A certificate for 127.0.0.1 that nobody but its maker trusts."""
    if shutil.which("openssl") is None:
        pytest.skip("no openssl to make a certificate with")
    key, cert, both = tmp_path / "key.pem", tmp_path / "cert.pem", tmp_path / "both.pem"
    words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    words += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(cert)]
    subprocess.run(words, check=True, capture_output=True)
    both.write_bytes(key.read_bytes() + cert.read_bytes())
    return both, cert


def test_tls_is_verified(tmp_path, certificate):
    both, cert = certificate
    path = workload_file(tmp_path, 2, count=1, rate=20)
    with timed_server(tmp_path, "llm", "a-0", certificate=both) as server:
        url = server.url.replace("http:", "https:")
        refused = bench(path, "--url", url, folder=tmp_path)
        trusted = bench(path, "--url", url, folder=tmp_path, env={"SSL_CERT_FILE": str(cert)})
    assert refused.returncode == 2 and "certificate" in refused.stderr.lower()
    assert trusted.returncode == 0, trusted.stderr
    run = load_run(tmp_path / "bench.json")
    figures = client_figures(run)
    assert figures.finished > (10 if on_time(run) else 0) and not figures.failed


@slow
def test_measured_beside_simulated(tmp_path):
    """The same workload and seed on a server and on the twin: one report lays the records side by side."""
    path = workload_file(tmp_path, 3, count=3, rate=5)
    profile = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
    with timed_server(tmp_path, "llm", "a-0", "a-1", "a-2") as server:
        done = bench(path, "--url", server.url, "--seed", 5, "-o", "measured.json", folder=tmp_path)
    assert done.returncode == 0, done.stderr
    done = loratwin(
        "simulate", str(path), "--profile", profile, "--max-loras", "3", "--seed", "5", "-o", "simulated.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    measured, simulated = load_run(tmp_path / "measured.json"), load_run(tmp_path / "simulated.json")
    order = np.argsort(measured.requests.scheduled_s, kind="stable")
    np.testing.assert_allclose(measured.requests.scheduled_s[order], simulated.requests.arrival_s, atol=1e-6)
    np.testing.assert_array_equal(measured.requests.adapter[order], simulated.requests.adapter)
    done = loratwin("report", "measured.json", "simulated.json", "-o", "both.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "both.html").read_text()
    assert "measured" in page and "simulated" in page and page.count("<svg") > 3
    assert "other requests" not in page.lower()
