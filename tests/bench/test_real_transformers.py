"""With a real server that is no vLLM: `transformers serve`, which refuses half of what we send."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from loratwin.bench import GivenServers, Options, load_requests, measure
from loratwin.http import ask
from loratwin.launch.ports import free_port
from loratwin.synthetic import NewLlm, make_llm
from tests.vllm_cpu import needs_vllm, one_at_a_time, transformers_packages, vllm_python

pytestmark = needs_vllm


@contextmanager
def transformers_serve(llm: Path) -> Iterator[str]:
    """A running server of this LLM; gone afterwards."""
    port = free_port("127.0.0.1")
    command = [vllm_python(), "-m", "transformers.cli.transformers", "serve", llm, "--device", "cpu"]
    env = {**os.environ, "PYTHONPATH": str(transformers_packages()), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
    env["HF_HOME"] = str(llm.parent / "no-models")
    log = llm.parent / "transformers.log"
    with log.open("w") as output, subprocess.Popen(
        [*map(str, command), "--host", "127.0.0.1", "--port", str(port)], stdout=output, stderr=output, env=env
    ) as process:  # fmt: skip
        try:
            url = f"http://127.0.0.1:{port}"
            end_s = time.monotonic() + 300
            while not ask(url, "/health").ok:
                assert process.poll() is None and time.monotonic() < end_s, log.read_text()[-2000:]
                time.sleep(0.5)
            yield url
        finally:
            process.kill()


def test_a_server_that_is_no_vllm_is_measured(tmp_path: Path) -> None:
    make_llm(tmp_path / "llm", NewLlm())
    lengths = "{prompt: {kind: fixed, tokens: 24}, output: {kind: fixed, tokens: 8}}"
    (tmp_path / "workload.yaml").write_text(f"window_s: 20\nlengths: {lengths}\nbase: {{rate: 0.5}}\n")
    requests = load_requests(tmp_path / "workload.yaml")
    with one_at_a_time(), transformers_serve(tmp_path / "llm") as url:
        servers = GivenServers(url, llm=str(tmp_path / "llm"))
        run = measure(requests, servers, tmp_path / "run.json", options=Options(warm_up=2))
    assert run.provenance.left_out == ("token_ids", "ignore_eos", "min_tokens")
    done = ~np.isnan(run.requests.finish_s) & (run.requests.failure < 0)
    assert done.sum() >= len(done) // 2 and (run.requests.failure < 0).all()
    assert (run.requests.output_tokens[done] <= 8).all() and (run.requests.output_tokens[done] >= 1).all()
    assert np.isfinite(run.requests.first_token_s[done]).all()
    assert not any("length" in reason or "tokens than asked" in reason for reason in run.invalid)
