"""Servers that somebody else started on this machine: what their process tells."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loratwin.launch.local import local_server
from tests.processes import line_of

pytestmark = pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="there is no /proc here")

_LISTENS = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as server:
    print(server.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@contextmanager
def process(program: Path, *words: str, **env: str) -> Iterator[str]:
    """A process that listens, with these words in its command line; its address."""
    program.write_text(_LISTENS)
    with subprocess.Popen(
        [sys.executable, program, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=env, cwd=program.parent,
    ) as one:  # fmt: skip
        try:
            yield f"http://127.0.0.1:{int(line_of(one))}"
        finally:
            one.kill()


def test_command_line_and_environment_of_a_server_are_read(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text("max-num-seqs: 12\n")
    words = "serve tiny --enable-lora --max-loras 6 --config serve.yaml --enforce-eager --api-key hidden"
    env = {"OMP_NUM_THREADS": "1", "VLLM_API_KEY": "hidden", "PATH": "/bin"}
    with process(tmp_path / "vllm", *words.split(), **env) as url:
        found = local_server(url)
        assert local_server(url.replace("127.0.0.1", "gpu-node")) is None
    assert found is not None
    assert found.arguments.text("model") == "tiny" and found.arguments.is_on("enforce_eager")
    assert (found.arguments.whole("max_loras"), found.arguments.whole("max_num_seqs")) == (6, 12)
    assert "hidden" not in found.arguments.shown
    assert found.env == ("OMP_NUM_THREADS=1",)


def test_what_is_no_engine_tells_nothing(tmp_path: Path) -> None:
    with process(tmp_path / "gateway.py", "--upstream", "vllm") as url:
        assert local_server(url) is None
    assert local_server(url) is None  # nobody listens there any more
