"""Every command that shows a result, small enough for a test, and the files that they read."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from loratwin.experiments import Experiments, load_grid, plan_runs
from loratwin.learn.cases import shards
from loratwin.learn.cases.shards import Manifest, write_manifest, write_shard
from loratwin.plan.compare import load_plan_json
from loratwin.records import save_run
from tests.calibrate.measured import QWEN, row, write_csv
from tests.cli.program import loratwin
from tests.experiments.grids import small_grid
from tests.learn.small import made_up
from tests.report.measured import measured, simulated

LLAMA_PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
PROFILE = f"--profile {LLAMA_PROFILE}"

WORKLOAD = """\
window_s: 120
groups:
  - {name: customer, count: 12, total_rate: 3, popularity: zipf, ranks: [8, 16]}
"""

COMMANDS: Mapping[str, str] = {
    "advise batch": f"{PROFILE} --workload mine.yaml --batches 1,32",
    "advise replicas": f"{PROFILE} --workload mine.yaml --batches 1,32 --replicas 1,2 --itl-ms 50",
    "calibrate design": '--lora-folder grid/adapters --server-args --model=grid/llm --minutes 3 -o design.yaml',
    "compare": "plan-a.json plan-b.json --price 2.5",
    "experiments collect": "grid/runs -o table.csv",
    "experiments plan": "grid/grid.yaml",
    "experiments status": "grid/runs",
    "learn predict": f"mine.yaml {PROFILE} --no-check",
    "learn rules": "shards",
    "learn table": "shards --models ridge --targets served",
    "learn train": "shards -o model.npz",
    "llm show": "llama-3.1-8b-instruct",
    "memory": "h100-sxm llama-3.1-8b-instruct --max-loras 8,16",
    "plan": f"mine.yaml {PROFILE} --slots 4,8 --max-num-seqs 64 --seeds 2 --processes 1 --slo ttft_p99=2s "
    "--slo-for adapters --scale customer=3",
    "profiles compare": f"{LLAMA_PROFILE} h100-64gb/vllm-0.8.5/qwen-2.5-7b-instruct",
    "profiles list": "--long",
    "profiles show": LLAMA_PROFILE,
    "report runs": "measured.json simulated.json --adapters --slo ttft_p99=2s",
    "simulate": f"mine.yaml {PROFILE} --max-loras 4,8 --seeds 2 --slo ttft_p99=2s --adapters --series --intervals",
    "traffic show": "trace.csv",
    "validate decisions": "runs.csv -o decisions.csv",
    "validate runs": "runs.csv -o predictions.csv",
}  # fmt: skip
"""What follows the words of each, in a folder that `make_inputs` filled."""


def make_inputs(folder: Path) -> None:
    """A workload, records, plans, measured tables, shards, a grid and its folder of runs."""
    (folder / "mine.yaml").write_text(WORKLOAD)
    (folder / "trace.csv").write_text("time,adapter,prompt,output\n0.5,a,100,20\n1.5,b,200,30\n")
    save_run(measured(), folder / "measured.json")
    save_run(simulated(), folder / "simulated.json")
    write_csv(folder / "runs.csv", [row("a", rate=0.05), row("b", rate=0.05, model=QWEN.name)])
    for name, slots in (("plan-a", "4"), ("plan-b", "8")):
        quick = ("--slots", slots, "--max-num-seqs", "64", "--seeds", "1", "--processes", "1", "--headroom", "0")
        done = loratwin("plan", "mine.yaml", *PROFILE.split(), *quick, "--json", f"{name}.json", cwd=folder)
        assert done.returncode == 0, done.stderr
        load_plan_json(folder / f"{name}.json")
    _make_shards(folder / "shards")
    grid = small_grid(folder / "grid", [2, 4], [4])
    chosen = load_grid(grid)
    Experiments(folder / "grid" / "runs").prepare(chosen, plan_runs(chosen, grid.parent))


def _make_shards(folder: Path) -> None:
    folder.mkdir()
    explored = made_up(24)
    profiles = {each.case.profile: "made up" for each in explored}
    manifest = Manifest("edge", 0, profiles, tuple(each.case for each in explored))
    write_manifest(folder, manifest)
    for number in range(manifest.num_shards):
        first = number * shards.SHARD_CASES
        write_shard(folder, manifest, number, [each.rows for each in explored[first : first + shards.SHARD_CASES]])
