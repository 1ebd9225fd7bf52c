"""A real vLLM on CPU, with an LLM and adapters of our own making. Two tests, since each server takes half a minute."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from loratwin.http import ask, bearer
from loratwin.launch import ServerError, load_adapters, start_replicas, start_server
from loratwin.synthetic import lora_modules_args, make_adapters, make_llm, numbered, read_adapters
from tests.launch.servers import alive, gone
from tests.vllm_cpu import needs_vllm, one_at_a_time, server_command, server_env

KEY = "s3cret"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A tiny LLM and 4 adapters; nobody else's server runs meanwhile."""
    made = tmp_path_factory.mktemp("made")
    llm = make_llm(made / "llm")
    make_adapters(made / "adapters", llm, numbered("a", 4, [8, 16]))
    with one_at_a_time():
        yield made


def arguments(folder: Path, *more: str) -> list[str]:
    sizes = "--max-model-len 512 --enforce-eager --max-num-seqs 16 --enable-lora --max-loras 2 --max-cpu-loras 4"
    return ["--model", str(folder / "llm"), "--served-model-name", "tiny", *sizes.split(), *more]


def generated(url: str, model: str) -> str:
    body: dict[str, Any] = {"model": model, "prompt": list(range(5, 37)), "max_tokens": 12, "temperature": 0}
    answer = ask(url, "/v1/completions", body, headers=bearer(KEY), timeout_s=60)
    assert answer.ok, answer.text
    return str(answer.json()["choices"][0]["text"])


@needs_vllm
def test_two_replicas_with_adapters(folder: Path, tmp_path: Path) -> None:
    given = arguments(folder, "--api-key", KEY, "--gpu-memory-utilization", "0.6")
    options: dict[str, Any] = {"log_folder": tmp_path, "command": server_command(), "env": server_env()}
    adapters = {made.name: made.path for made in read_adapters(folder / "adapters")}
    with start_replicas(2, "vllm", given, **options) as servers:
        for server in servers:
            assert server.engine_version == "vllm-0.32.0"
            assert server.kv_tokens == 2**30 // (2 * 2 * 64 * 2)  # VLLM_CPU_KVCACHE_SPACE / bytes of a token
            assert (server.config.max_loras, server.config.max_model_len) == (2, 512)
            assert server.config.gpu_memory_utilization == 0.3
            assert KEY not in server.log_path.read_text()
        load_adapters(servers[0].url, adapters, api_key=KEY)
        load_adapters(servers[0].url, adapters, api_key=KEY)  # again: they are there
        with pytest.raises(ServerError, match=f"adapter x on {servers[0].url}: HTTP 4"):
            load_adapters(servers[0].url, {"x": tmp_path}, api_key=KEY)
        texts = [generated(servers[0].url, model) for model in ("tiny", *adapters)]
        assert len(set(texts)) == 5
        assert generated(servers[1].url, "tiny") == texts[0]
        chat = {"model": "a-1", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 4}
        assert ask(servers[0].url, "/v1/chat/completions", chat, headers=bearer(KEY), timeout_s=60).ok
        pids = [pid for server in servers for pid in server.processes()]
        assert len(pids) >= 6  # API server, engine core and worker of each
    assert not alive(pids)


CLIENT = """
import json, sys, time
from pathlib import Path
from loratwin.launch import start_server
folder, command, env, given = (json.loads(word) for word in sys.argv[1:])
server = start_server("vllm", given, log_folder=folder, command=command, env=env)
print(json.dumps([server.url, server.processes()]), flush=True)
time.sleep(600)
"""


@needs_vllm
def test_kill_9_of_the_client_leaves_no_process(folder: Path, tmp_path: Path) -> None:
    given = arguments(folder, *lora_modules_args(folder / "adapters"))
    words = [json.dumps(each) for each in (str(tmp_path), server_command(), server_env(), given)]
    with subprocess.Popen([sys.executable, "-c", CLIENT, *words], stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        url, pids = json.loads(client.stdout.readline())
        models = {model["id"] for model in ask(url, "/v1/models").json()["data"]}
        assert models == {"tiny", "a-0", "a-1", "a-2", "a-3"}
        os.kill(client.pid, signal.SIGKILL)
    assert gone(pids)


@needs_vllm
def test_what_vllm_refuses_is_said_in_its_words(folder: Path, tmp_path: Path) -> None:
    options: dict[str, Any] = {"log_folder": tmp_path, "command": server_command(), "env": server_env()}
    with pytest.raises(ServerError) as error:
        start_server("vllm", arguments(folder, "--max-model-len", "9000"), **options)
    assert str(error.value).startswith(
        "the server ended with exit code 1: Value error, User-specified max_model_len (9000) is greater than"
    )
    assert str(error.value).endswith(f"(log: {tmp_path}/server.log)")
