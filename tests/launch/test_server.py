"""A server's life, with a stand-in: facts, failures, and that nothing stays behind."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.http import ask
from loratwin.launch import ServerError, server, start_server
from loratwin.launch.ports import free_port, listens
from tests.launch.servers import STAND_IN, alive, gone, started, with_word
from tests.processes import line_of

pytestmark = pytest.mark.skipif(not os.path.exists("/proc/self/stat"), reason="looks at processes in /proc")


def test_what_a_vllm_says_of_itself_is_kept(tmp_path: Path) -> None:
    words = ("--enable-lora", "--max-loras", "4", "--gpu-memory-utilization", "0.5")
    with started(tmp_path, *words) as running:
        assert running.engine_version == "vllm-0.32.0"
        assert running.kv_tokens == 500 * 16
        assert (running.config.max_loras, running.config.max_model_len, running.config.block_size) == (4, 4096, 16)
        assert running.config.gpu_memory_utilization == 0.5
        assert running.args == ("--model", "x", *words, "--host", "127.0.0.1", "--port", str(running.port))
        assert running.url == f"http://127.0.0.1:{running.port}"
        assert running.pid in running.processes()
        assert running.exit_code is None
    assert "started with --model x --enable-lora --max-loras 4" in running.log_path.read_text()


def test_the_log_tells_the_kv_size_when_metrics_do_not(tmp_path: Path) -> None:
    with started(tmp_path, "--no-metrics") as running:
        assert running.kv_tokens == 54_321


def test_what_an_sglang_says_of_itself_is_kept(tmp_path: Path) -> None:
    with started(
        tmp_path, "--like", "sglang", "--max-loras-per-batch", "5", "--enable-lora", engine="sglang"
    ) as running:
        assert running.engine_version == "sglang-0.5.2"
        assert running.kv_tokens == 777
        config = running.config
        assert (config.max_loras, config.max_num_seqs, config.max_model_len, config.block_size) == (5, 48, 99, 1)
        assert running.args[:2] == ("--model-path", "x")


def test_stopping_leaves_no_process(tmp_path: Path) -> None:
    with started(tmp_path, "--spawn") as running:
        pids = running.processes()
        assert len(pids) == 4  # itself, a child, one with a session of its own, and one whose parent is gone
        assert len({os.getsid(pid) for pid in pids}) == 3
    assert not alive(pids)
    assert running.exit_code == 128 + signal.SIGTERM
    running.stop()  # again


def test_a_server_that_hears_no_sigterm_is_killed(tmp_path: Path) -> None:
    running = started(tmp_path, "--deaf")
    running.stop(grace_s=0.2)
    assert not alive([running.pid])
    assert running.exit_code == 128 + signal.SIGKILL


def test_a_server_that_is_killed_takes_its_processes_along(tmp_path: Path) -> None:
    with started(tmp_path, "--spawn") as running:
        pids = running.processes()
        os.kill(running.pid, signal.SIGKILL)
        assert gone(pids)
    assert running.exit_code == 128 + signal.SIGKILL


CLIENT = """
import os, sys, time
from pathlib import Path
from tests.launch.servers import started
running = started(Path(sys.argv[1]), "--spawn")
if sys.argv[2] == "fork" and os.fork() == 0:
    time.sleep(600)  # holds our end of the guard's pipe
print(running._guarded._guard.pid, *running.processes(), flush=True)
time.sleep(600)
"""


@pytest.mark.parametrize("kind", ["alone", "fork"])
def test_kill_9_of_the_client_leaves_no_process(kind: str, tmp_path: Path) -> None:
    command = [sys.executable, "-c", CLIENT, str(tmp_path), kind]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True) as client:
        try:
            pids = [int(word) for word in line_of(client).split()]
            assert len(alive(pids)) == 5
            os.kill(client.pid, signal.SIGKILL)
            assert gone(pids)
        finally:
            os.killpg(client.pid, signal.SIGKILL)  # the forked one


def test_kill_9_of_the_guard_leaves_no_server(tmp_path: Path) -> None:
    with started(tmp_path) as running:
        running._guarded._guard.kill()
        assert gone([running.pid])


def test_an_interrupt_while_waiting_leaves_no_process(tmp_path: Path) -> None:
    def interrupt(seconds: float, line: str) -> None:
        if line:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        started(tmp_path, "--hang", "--spawn", "--marker-1", progress=interrupt)
    assert not with_word("--marker-1")


def test_an_interrupt_while_it_starts_leaves_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C after the fork, before anybody has the server."""

    class Interrupted(subprocess.Popen[Any]):
        def __init__(self, words: Any, *more: Any, **options: Any) -> None:
            super().__init__(words, *more, **options)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(KeyboardInterrupt):
        started(tmp_path, "--spawn", "--marker-interrupted")
    assert not with_word("--marker-interrupted")


def test_a_server_that_dies_says_why(tmp_path: Path) -> None:
    words = [
        "(EngineCore pid=9) ERROR 11-21 12:34:29 [core.py:7] ValueError: max_lora_rank 17 is not allowed",
        "RuntimeError: Engine core initialization failed. See root cause above.",
    ]
    with pytest.raises(ServerError) as error:
        started(tmp_path, "--spawn", "--die", *words)
    assert str(error.value) == (
        f"the server ended with exit code 1: ValueError: max_lora_rank 17 is not allowed (log: {tmp_path}/server.log)"
    )


def test_a_server_that_is_never_ready_is_stopped(tmp_path: Path) -> None:
    with pytest.raises(
        ServerError, match=r"was not healthy after 2 s: GPU KV cache size: 54,321 tokens \(log: .*log\)"
    ):
        started(tmp_path, "--hang", "--marker-2", timeout_s=2.0)
    assert not with_word("--marker-2")


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="needs /proc")
def test_a_file_that_closes_meanwhile_does_not_hide_the_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.readlink

    def readlink(path: str) -> str:
        if real(path) == os.devnull:
            raise FileNotFoundError(path)
        return real(path)

    with open(os.devnull), socket.socket() as ours:
        ours.bind(("127.0.0.1", 0))
        ours.listen()
        monkeypatch.setattr(os, "readlink", readlink)
        assert listens([os.getpid()], ours.getsockname()[1])
        assert not listens([1 << 22], ours.getsockname()[1])  # no such process


def test_the_answer_of_another_program_is_not_taken_for_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Healthy) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        monkeypatch.setattr(server, "free_port", lambda host, port: other.server_port)
        with pytest.raises(ServerError, match=f"another program answers on port {other.server_port}"):
            started(tmp_path, "--hang", timeout_s=0.5)
        other.shutdown()


def test_a_port_that_is_taken_is_refused_before_the_start(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"cannot listen on port {port} of 127.0.0.1: Address already in use"):
            started(tmp_path / "logs", port=port)
    assert not (tmp_path / "logs").exists()


def test_a_port_among_the_arguments_counts(tmp_path: Path) -> None:
    port = free_port("127.0.0.1")
    with started(tmp_path, "--port", str(port)) as running:
        assert running.port == port
        assert running.args.count("--port") == 1


def test_an_api_key_is_in_no_log_no_record_and_no_list_of_processes(tmp_path: Path) -> None:
    with started(tmp_path, "--api-key", "s3cret") as running:
        assert b"s3cret" not in Path(f"/proc/{running.pid}/cmdline").read_bytes()
        assert b"VLLM_API_KEY=s3cret" in Path(f"/proc/{running.pid}/environ").read_bytes()
        assert running.args[-2:] == ("--api-key", "***")
        assert "s3cret" not in running.log_path.read_text()


def test_sglang_would_log_its_key(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="SGLang writes its API key to its log"):
        started(tmp_path, "--api-key", "s3cret", engine="sglang")


def test_text_is_split_but_never_reaches_a_shell(tmp_path: Path) -> None:
    words = f"--model 'a b' --note '$(touch {tmp_path}/x)' ; touch {tmp_path}/x"
    with start_server("vllm", words, log_folder=tmp_path, command=STAND_IN) as running:
        assert running.args[:6] == ("--model", "a b", "--note", f"$(touch {tmp_path}/x)", ";", "touch")
    assert not (tmp_path / "x").exists()


def test_logs_of_earlier_servers_are_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with started(tmp_path) as running:
            pass
    assert running.log_path == tmp_path / "server-2.log"
    assert {path.name for path in tmp_path.iterdir()} == {"server.log", "server-2.log"}


def test_the_environment_is_added_to_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OURS", "1")
    with started(tmp_path, env={"THEIRS": "2"}) as running:
        environment = Path(f"/proc/{running.pid}/environ").read_bytes().split(b"\0")
    assert {b"OURS=1", b"THEIRS=2"} <= set(environment)


def test_no_proxy_stands_between_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with started(tmp_path) as running:
        assert ask(running.url, "/health").ok


def test_without_a_command_it_is_the_vllm_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "vllm"
    program.write_text(f'#!/bin/sh\nexec {shlex.join(STAND_IN)} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    with start_server("vllm", "--max-loras 2 --model x", log_folder=tmp_path) as running:
        assert "started with serve x --max-loras 2" in running.log_path.read_text()
        assert running.args[:2] == ("--model", "x")
    program.unlink()
    with pytest.raises(InputError, match="vllm is not installed for .*: install it there, or give the command"):
        start_server("vllm", "--model x", log_folder=tmp_path)


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="unknown engine 'vlm'. Did you mean 'vllm'?"):
        start_server("vlm", "--model x", log_folder=tmp_path)
    with pytest.raises(InputError, match="name no LLM: add --model FOLDER-OR-NAME"):
        start_server("vllm", "--max-loras 2", log_folder=tmp_path)
    with pytest.raises(InputError, match="write the options of the --config file out"):
        start_server("vllm", "--model x --config x.yaml", log_folder=tmp_path)
    with pytest.raises(InputError, match="No closing quotation"):
        start_server("vllm", "--model 'x", log_folder=tmp_path)
    with pytest.raises(InputError, match="cannot start /no/such: No such file or directory"):
        started(tmp_path, command=["/no/such"])
    with pytest.raises(InputError, match="max_cpu_loras = 1, but it must be at least max_loras = 2"):
        started(tmp_path, "--enable-lora", "--max-loras", "2", "--max-cpu-loras", "1")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot make the folder .*file for logs"):
        started(tmp_path / "file")
