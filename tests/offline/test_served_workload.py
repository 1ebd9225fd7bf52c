"""A profile of `loratwin offline` beside one of `calibrate server`, on workloads that a real vLLM on CPU served.

Both are of the same server; the workloads are those of the calibration's own check, which neither has seen. The engine
has a core of its own, as beside a GPU: on one with the HTTP server and the load client, each running request costs it
half a millisecond more per step than without them, which no offline run can know. What comes is printed; figures are
only worth something on an idle machine:

    LORATWIN_REAL=1 LORATWIN_REAL_LONG=1 python -m pytest -n 0 -s -o faulthandler_timeout=0 \\
        tests/offline/test_served_workload.py
"""

from __future__ import annotations

import os
import shlex
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

from loratwin.calibrate import ServerSource, calibrate_server, fit_records, gather, read_records
from loratwin.metrics import summarize
from loratwin.offline import batch_grid, measure_offline
from loratwin.perf import Profile
from loratwin.records import Run
from loratwin.report import twin_of
from loratwin.synthetic import NewLlm, make_adapters, make_llm, numbered
from tests.vllm_cpu import needs_time, needs_vllm, one_at_a_time, server_command, server_env, vllm_python

ARGS = "--dtype bfloat16 --max-model-len 512 --enforce-eager --max-num-seqs 8"
LLM = NewLlm(
    hidden_size=512, num_layers=8, num_heads=8, num_kv_heads=4, intermediate_size=1408, vocab_size=8192
)  # 30 million weights: a step is the LLM's work, not Python's
FIGURES = ("total_throughput", "itl_mean_ms", "ttft_mean_ms")
needs_cores = pytest.mark.skipif(
    not hasattr(os, "sched_setaffinity") or len(os.sched_getaffinity(0)) < 2, reason="needs two cores"
)
MINUTES, WINDOW_S, REPEATS = 4.0, 18.0, 2


def errors(profile: Profile, served: Mapping[str, Run]) -> dict[str, list[float]]:
    """Of each figure: |predicted / measured - 1| of each run that was served."""
    found: dict[str, list[float]] = {figure: [] for figure in FIGURES}
    for run in served.values():
        said, seen = (summarize(one, percentiles=False) for one in (twin_of(run, profile), run))
        for figure in FIGURES:
            found[figure].append(abs(getattr(said, figure) / getattr(seen, figure) - 1))
    return found


def two_profiles(folder: Path) -> tuple[dict[str, Profile], dict[str, Run]]:
    """By what they are of; and the served workloads. What a folder has is not measured again."""
    tiny, adapters = folder / "tiny", folder / "adapters"
    if not tiny.exists():
        make_adapters(adapters, make_llm(tiny, LLM), numbered("a", 6, (8, 16)))
    given = f"--model {tiny} {ARGS}"
    source = ServerSource(adapters, given, shlex.join(server_command()), timeout_s=1500.0)
    with one_at_a_time():
        grid = batch_grid([1, 2, 4, 8], [32, 128], [40], adapters=[0, 1, 3], ranks=[8, 16])
        possible = [batch for batch in grid if batch.adapters <= batch.requests]
        measure_offline(possible, given, folder / "offline", python=vllm_python(), lora_folder=adapters)
        calibrated = calibrate_server(
            folder / "server", source, minutes=MINUTES, window_s=WINDOW_S, repeats=REPEATS, llm=str(tiny)
        )
    offline = fit_records(gather(read_records(folder / "offline")), calibrated.fit.profile.llm).profile
    assert calibrated.check is not None
    served = {f"{name} {i}": run for name, runs in calibrated.check.measured.items() for i, run in enumerate(runs)}
    counted = {name: run for name, run in served.items() if not run.invalid}
    return {"calibrate server": calibrated.fit.profile, "offline": offline}, counted


@contextmanager
def cores_apart() -> Iterator[None]:
    """Within, engines are on one core; this process and whatever else it starts on the others."""
    ours = os.sched_getaffinity(0)
    first, *others = sorted(ours)
    over = threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            for thread in Path("/proc").glob("[0-9]*/task/[0-9]*"):
                with suppress(OSError):  # it has ended
                    if (thread.parents[1] / "comm").read_text().startswith("VLLM::EngineCor"):
                        os.sched_setaffinity(int(thread.name), {first})

    watcher = threading.Thread(target=watch)
    watcher.start()
    os.sched_setaffinity(0, others)
    try:
        yield
    finally:
        over.set()
        watcher.join()
        os.sched_setaffinity(0, ours)


@needs_vllm
@needs_time
@needs_cores
@pytest.mark.timeout(7200)
def test_a_profile_of_phases_predicts_served_workloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in server_env().items():
        monkeypatch.setenv(name, value)
    with cores_apart():
        profiles, served = two_profiles(tmp_path)
    if len(served) < 4:
        pytest.skip("this machine is too busy: the client was late in most runs")
    found = {name: errors(profile, served) for name, profile in profiles.items()}
    for figure in FIGURES:
        means = ", ".join(f"{name} {100 * np.mean(of[figure]):.1f} %" for name, of in found.items())
        print(f"\n{figure}, mean error of {len(served)} served runs: {means}", end="")
    for figure in FIGURES[:2]:  # what happens before the engine, as TTFT has it, is in no step
        assert np.mean(found["offline"][figure]) < np.mean(found["calibrate server"][figure]) + 0.1, figure
