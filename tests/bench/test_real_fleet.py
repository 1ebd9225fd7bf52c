"""Two real vLLM servers on CPU behind the load client as their router: does the twin know which is worse? (40 minutes)

    LORATWIN_REAL=1 LORATWIN_REAL_LONG=1 python -m pytest -n 0 -s -o faulthandler_timeout=0 \\
        tests/bench/test_real_fleet.py

Three placements by three routers, each a run of LORATWIN_REAL_WINDOW_S (90) seconds, on a machine with nothing else to
do. The profile is made while the other server answers requests, so that what they cost each other is in it;
LORATWIN_REAL_PROFILE names one that was made so before.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from loratwin.fleet import Placement, Server, fleet_twin, save_placement, simulate_fleet
from loratwin.launch import start_server
from loratwin.metrics import per_adapter, starvation, summarize
from loratwin.perf import Profile, load_profile
from loratwin.records import EngineConfig, Run, load_run
from loratwin.synthetic import NewLlm, from_workload, lora_modules_args, make_adapters, make_llm
from loratwin.workload import draw, load_spec
from tests.vllm_cpu import needs_time, needs_vllm, one_at_a_time, server_command, server_env

from .servers import bench

WINDOW_S = float(os.environ.get("LORATWIN_REAL_WINDOW_S", "90"))
PROFILE = os.environ.get("LORATWIN_REAL_PROFILE")
LIMITS = "--dtype bfloat16 --max-model-len 1024 --enforce-eager --max-num-seqs 32 --block-size 32"
SLOTS = "--enable-lora --max-loras 4 --max-cpu-loras 12 --max-lora-rank 16"
ADAPTERS, HOT = 12, 3
ROUTERS = ("fractions", "round-robin", "least-in-flight")
NEAR_FULL = 0.75
"""Part of the highest rate that the split placement is predicted to bear: then a lopsided one is in trouble."""


def workload_file(folder: Path, rate: float, window_s: float = WINDOW_S) -> Path:
    path = folder / "workload.yaml"
    path.write_text(
        f"window_s: {window_s}\nlengths: {{prompt: {{kind: uniform, min: 40, max: 160}}, output: 32}}\n"
        f"groups:\n  - {{name: t, count: {ADAPTERS}, total_rate: {rate:g}, ranks: [8, 16], "
        "popularity: {kind: zipf, exponent: 1.2}}\n"
    )
    return path


def placements(profile: str, config: EngineConfig, names: list[str]) -> dict[str, Placement]:
    """All fractions are even, so that every router can follow them."""
    servers = [Server(name, profile, config) for name in ("gpu-0", "gpu-1")]
    both, first, second = {"gpu-0": 0.5, "gpu-1": 0.5}, {"gpu-0": 1.0}, {"gpu-1": 1.0}
    rules = {
        "lopsided": [first] * HOT + [both] * (ADAPTERS - HOT),  # what asks for most lives together
        "whole": [(first, second)[i % 2] for i in range(HOT)] + [both] * (ADAPTERS - HOT),
        "split": [both] * ADAPTERS,
    }
    return {name: Placement.of(servers, dict(zip(names, rows, strict=True))) for name, rows in rules.items()}


@contextmanager
def server(folder: Path, name: str) -> Iterator[Any]:
    words = f"--model {folder / 'llm'} --served-model-name tiny {LIMITS} {SLOTS}".split()
    logs = folder / name
    logs.mkdir(exist_ok=True)
    with start_server(
        "vllm", [*words, *lora_modules_args(folder / "adapters")], log_folder=logs,
        command=server_command(), env=server_env(),
    ) as started:  # fmt: skip
        yield started


def calibrated_beside_another(folder: Path) -> str:
    """The profile of a server while another answers requests on the same machine."""
    if PROFILE is not None:
        return PROFILE
    busy = folder / "busy"
    busy.mkdir()
    workload_file(busy, 2.0, window_s=900)
    words = [
        *("calibrate", "server", str(folder / "mine"), "--lora-folder", str(folder / "adapters")),
        *("--server-args", f"--model {folder / 'llm'} {LIMITS}", "--server-command", " ".join(server_command())),
        *("--minutes", "4", "--window", "8", "--repeats", "1"),
    ]
    program = [sys.executable, "-m", "loratwin"]
    with server(folder, "other") as other:
        load = subprocess.Popen(
            [*program, "bench", "workload.yaml", "--url", other.url, "-o", "busy.json"],
            cwd=busy, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            done = subprocess.run(
                [*program, *words], capture_output=True, text=True, timeout=1800, env={**os.environ, **server_env()}
            )
        finally:
            load.terminate()
            load.wait(60)
    assert done.returncode == 0, done.stderr
    return str(folder / "mine" / "profile.yaml")


def fleet_rate(folder: Path, placement: Placement, profile: Profile) -> float:
    """Requests per second at which the twin's split fleet is near full."""
    rate = 0.5
    while rate < 200:
        drawn = draw(load_spec(workload_file(folder, 1.25 * rate, window_s=600)), 3)  # a request is not a verdict
        done = simulate_fleet(placement, drawn, "least-in-flight", profiles={placement.servers[0].profile: profile})
        if starvation(done.run).starved or done.adapters().starving:
            break
        rate *= 1.25
    return NEAR_FULL * rate


@dataclass
class Cell:
    """One placement behind one router, as it was and as it was predicted."""

    measured: Run
    twin: Run

    def worst_ms(self) -> tuple[float, float]:
        """Mean TTFT of the adapter that waits longest."""
        measured, twin = (float(np.nanmax(per_adapter(run).ttft_mean_ms)) for run in (self.measured, self.twin))
        return measured, twin


@needs_vllm
@needs_time
def test_the_twin_knows_which_placements_and_routers_are_worse(tmp_path: Path) -> None:
    stats = pytest.importorskip("scipy.stats")
    spec = load_spec(workload_file(tmp_path, 1.0))
    make_adapters(tmp_path / "adapters", make_llm(tmp_path / "llm", NewLlm()), from_workload(spec))
    cells: dict[tuple[str, str], Cell] = {}
    with one_at_a_time():
        name = calibrated_beside_another(tmp_path)
        profile = load_profile(name)
        with ExitStack() as stack:
            servers = [stack.enter_context(server(tmp_path, f"server-{k}")) for k in range(2)]
            made = placements(name, servers[0].config, list(spec.groups[0].adapter_names()))
            rate = fleet_rate(tmp_path, made["split"], profile)
            workload_file(tmp_path, rate)
            for where, placement in made.items():
                save_placement(placement, tmp_path / f"{where}.json")
                for router in ROUTERS:
                    urls = [word for each in servers for word in ("--url", each.url)]
                    out = f"{where}-{router}.json"
                    words = ("--fleet", f"{where}.json", "--router", router, *urls, "--seed", "3", "-o", out)
                    done = bench("workload.yaml", *words, folder=tmp_path)
                    assert done.returncode == 0, done.stderr
                    measured = load_run(tmp_path / out)
                    twin = fleet_twin(placement, measured, router, {name: profile})
                    cells[where, router] = Cell(measured, twin)
    found = [cell.worst_ms() for cell in cells.values()]
    print(f"\n{rate:.2f} requests/s; worst adapter's mean TTFT, measured and predicted, ms; throughput; starved")
    for (where, router), cell in cells.items():
        seen, said = summarize(cell.measured), summarize(cell.twin)
        starved = [per_adapter(run).starving for run in (cell.measured, cell.twin)]
        worst = cell.worst_ms()
        print(
            f"{where:9} {router:16} {worst[0]:8.0f} {worst[1]:8.0f}  {seen.total_throughput:7.0f} "
            f"{said.total_throughput:7.0f}  {len(starved[0])} {len(starved[1])} {set(starved[0]) ^ set(starved[1])}"
        )
    tau = stats.kendalltau(*zip(*found, strict=True)).statistic
    print(f"Kendall's tau {tau:.2f}")
    if os.getloadavg()[1] > (os.cpu_count() or 1) + 1:
        pytest.skip("others use this machine, so that no time could be compared")
    assert tau >= 0.7
    for cell in cells.values():
        assert summarize(cell.twin).total_throughput == pytest.approx(
            summarize(cell.measured).total_throughput, rel=0.08
        )
        assert per_adapter(cell.twin).starving == per_adapter(cell.measured).starving
