"""A calibration that is killed in mid-run: nothing measured is lost, nothing is left running, and it goes on."""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from time import monotonic, sleep

from loratwin.calibrate.design import dump_design
from loratwin.records import load_run
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.bench.servers import ROOT, processes_with
from tests.calibrate.known_steps import known_design
from tests.cli.program import PROGRAM
from tests.processes import LIMIT_S
from tests.slow import slow

SERVER = shlex.join([sys.executable, str(ROOT / "tests" / "bench" / "timed_server.py")])


def waited_for(what: object, limit_s: float = LIMIT_S) -> bool:
    end = monotonic() + limit_s
    while not (done := what()) and monotonic() < end:  # type: ignore[operator]
        sleep(0.05)
    return bool(done)


@slow
def test_a_killed_calibration_loses_nothing_leaves_nothing_running_and_goes_on(tmp_path: Path) -> None:
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "tiny", NewLlm()), numbered("a", 4, (8, 16)))
    few = known_design().servers[0]
    runs = tuple(
        run.model_copy(update={"window_s": window_s, "adapters": 2, "in_flight": 2})
        for run, window_s in zip(few.runs[:2], (0.5, 3.0), strict=True)
    )
    design = known_design().model_copy(
        update={"servers": (few.model_copy(update={"runs": runs, "max_cpu_loras": 4}),), "num_adapters": 4, "passes": 1}
    )
    (tmp_path / "design.yaml").write_text(dump_design(design))
    words = [
        *(*PROGRAM, "calibrate", "run", str(tmp_path / "design.yaml"), "-o", str(tmp_path / "mine")),
        *("--lora-folder", str(tmp_path / "adapters"), "--server-args", f"--model {tmp_path / 'tiny'}"),
        *("--server-command", SERVER),
    ]
    first, second = (tmp_path / "mine" / "records" / f"few-{run.name}.json" for run in runs)
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as killed:
        opened = second.with_name(second.name + ".partial") / "window.json"
        assert waited_for(lambda: opened.exists() or killed.poll() is not None) and killed.poll() is None
        killed.send_signal(signal.SIGKILL)
    assert waited_for(lambda: not processes_with(str(tmp_path)))
    measured, bytes_of_it = load_run(first), first.read_bytes()
    assert not second.exists() and len(measured.requests)
    done = subprocess.run(words, capture_output=True, text=True, timeout=2 * LIMIT_S)
    assert done.returncode == 0, done.stderr
    assert first.read_bytes() == bytes_of_it and len(load_run(second).requests)
    assert [path.name for path in sorted(first.parent.iterdir())] == sorted([first.name, second.name])
    assert not processes_with(str(tmp_path))
