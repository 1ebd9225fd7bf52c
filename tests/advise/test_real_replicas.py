"""Two replicas of a real vLLM on CPU, on one core together and on a core each: prediction beside measurement.

A core stands for the GPU. Replicas on one core share all of their steps (busy = 1); with a core each they share nothing
(busy = 0): the ends of the model between which GPUs are. What comes is printed; a busy machine says anything, so that
only what must hold on any is asserted. Best on an idle machine:

    LORATWIN_REAL=1 LORATWIN_REAL_LONG=1 python -m pytest -n 0 -s -o faulthandler_timeout=0 \\
        tests/advise/test_real_replicas.py
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from loratwin.advise import BatchSweep, predict_replicas, sweep_of_runs
from loratwin.bench import GivenServers, measure
from loratwin.launch import start_server
from loratwin.metrics import summarize
from loratwin.records import Run
from loratwin.synthetic import make_llm
from loratwin.workload import draw, parse_spec
from tests.vllm_cpu import needs_time, needs_vllm, one_at_a_time, server_command, server_env

BATCHES = (1, 8, 16)
WINDOW_S = float(os.environ.get("LORATWIN_REAL_WINDOW_S", "20"))
ARGS = "--served-model-name tiny --dtype bfloat16 --max-model-len 512 --enforce-eager"
needs_cores = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")


def measured(folder: Path, name: str, batch: int, cores: Sequence[int]) -> Run:
    """A server on each of these cores, each with as many clients as its batch."""
    clients = batch * len(cores)
    lengths = {"prompt": {"kind": "fixed", "tokens": 64}, "output": {"kind": "fixed", "tokens": 64}}
    base = {"arrivals": {"kind": "closed", "concurrency": clients}}
    workload = draw(parse_spec({"window_s": WINDOW_S, "lengths": lengths, "base": base}))
    given = f"--model {folder / 'llm'} {ARGS} --max-num-seqs {batch}"
    with ExitStack() as stack:
        servers = [
            stack.enter_context(
                start_server(
                    "vllm", given, log_folder=folder / f"{name}-{number}", env=server_env(),
                    command=["taskset", "-c", str(core), *server_command()],
                )
            )
            for number, core in enumerate(cores)
        ]  # fmt: skip
        given_servers = GivenServers(
            [server.url for server in servers], server_args=given
        )  # they do not tell the batch
        return measure(workload, given_servers, folder / f"{name}.json")


def told(name: str, run: Run, sweep: BatchSweep, batch: int, busy: float) -> float:
    """Print prediction beside measurement; the ratio of the throughputs."""
    shared = BatchSweep(sweep.llm, "measured", tuple(replace(point, gpu_busy=busy) for point in sweep.points))
    said = predict_replicas(shared, batch, 2, 0.0)
    seen = summarize(run, percentiles=False)
    print(
        f"\n2 x batch {batch}, {name}: {seen.total_throughput:,.0f} tokens/s (predicted {said.throughput:,.0f}), "
        f"{seen.itl_mean_ms:.2f} ms between tokens (predicted {said.itl_ms:.2f}); "
        f"{'; '.join(run.invalid) or 'valid'}"
    )
    return said.throughput / seen.total_throughput


@needs_vllm
@needs_time
@needs_cores
@pytest.mark.timeout(1800)
def test_two_replicas_beside_their_prediction(tmp_path: Path) -> None:
    make_llm(tmp_path / "llm")
    with one_at_a_time():
        alone = {f"{batch}": measured(tmp_path, f"alone-{batch}", batch, [0]) for batch in BATCHES}
        runs = {name: measured(tmp_path, name, 8, cores) for name, cores in (("shared", [0, 0]), ("bound", [0, 1]))}
    sweep = sweep_of_runs(alone)
    for point in sweep.points:
        print(
            f"\nalone, batch {point.batch}: {point.throughput:,.0f} tokens/s, {point.itl_ms:.2f} ms between tokens",
            end="",
        )
    told("shared", runs["shared"], sweep, 8, 1.0)
    told("bound", runs["bound"], sweep, 8, 1e-9)
    for run in (*alone.values(), *runs.values()):
        assert summarize(run, percentiles=False).completed > 0
    assert summarize(runs["bound"]).total_throughput > summarize(runs["shared"]).total_throughput
