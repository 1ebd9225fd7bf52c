"""A real Prometheus (Debian's package, where it is installed), with a past that is given to it."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from loratwin.http import ask
from loratwin.launch.ports import free_port

needs_prometheus = pytest.mark.skipif(
    shutil.which("prometheus") is None or shutil.which("promtool") is None,
    reason="needs a Prometheus: apt-get install prometheus",
)


@contextmanager
def prometheus(folder: Path, past: str = "", targets: tuple[str, ...] = ()) -> Iterator[str]:
    """The address of a Prometheus with this OpenMetrics text as its past, which scrapes some targets each second."""
    data = folder / "data"
    if past:
        (folder / "past.om").write_text(past)
        words = ["promtool", "tsdb", "create-blocks-from", "openmetrics", str(folder / "past.om"), str(data)]
        done = subprocess.run(words, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    listed = ", ".join(repr(target) for target in targets)
    (folder / "prometheus.yml").write_text(
        "global: {scrape_interval: 1s}\nscrape_configs:\n"
        f"  - job_name: vllm\n    static_configs: [{{targets: [{listed}]}}]\n"
    )
    port = free_port("127.0.0.1")
    url = f"http://127.0.0.1:{port}"
    words = [
        "prometheus", f"--config.file={folder / 'prometheus.yml'}", f"--storage.tsdb.path={data}",
        f"--web.listen-address=127.0.0.1:{port}", "--storage.tsdb.retention.time=100y",
    ]  # fmt: skip
    with open(folder / "log", "w") as log, subprocess.Popen(words, stdout=log, stderr=log) as process:
        try:
            for _ in range(600):
                if ask(url, "/-/ready").ok:
                    break
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                time.sleep(0.1)
            yield url
        finally:
            process.terminate()
            process.wait(30)
