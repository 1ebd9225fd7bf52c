"""`loratwin simulate` and `loratwin profiles`, as a user runs them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from loratwin.metrics import summarize
from loratwin.perf import dump_profile, load_profile
from loratwin.records import EngineConfig, load_run
from loratwin.simulate import replicate, simulate
from loratwin.workload import draw, load_spec
from tests.cli.program import loratwin, loratwin_here, loratwin_process
from tests.slow import slow

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"

WORKLOAD = """
window_s: 60
lengths: {prompt: 200, output: 100}
base: {rate: 0.5}
groups:
  - {name: a, count: 12, ranks: [8, 16], total_rate: 4, popularity: zipf}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "workload.yaml").write_text(WORKLOAD)
    return tmp_path


def simulate_command(*arguments: str) -> tuple[str, ...]:
    """To simulate the small workload."""
    return ("simulate", "workload.yaml", "--profile", PROFILE, *arguments)


def run(folder: Path, *arguments: str) -> Any:
    """Simulate the small workload."""
    return loratwin(*simulate_command(*arguments), cwd=folder)


def figures(folder: Path, *arguments: str) -> dict[str, Any]:
    """What `--json` prints."""
    done = run(folder, "--json", *arguments)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_json_holds_the_figures_of_the_run(folder: Path) -> None:
    found = figures(folder, "--max-loras", "4", "--seed", "3")
    spec, config = load_spec(folder / "workload.yaml"), EngineConfig(max_loras=4, max_lora_rank=16)
    summary = summarize(simulate(draw(spec, 3), load_profile(PROFILE), config))
    (result,) = found["results"]
    assert result["config"] == config.model_dump()
    assert result["figures"]["ttft_p99_ms"] == {"mean": summary.ttft_p99_ms, "half_width": None}
    assert result["figures"]["swap_ins"]["mean"] == summary.swap_ins
    assert (found["seeds"], found["profile"], found["kind"]) == ([3], PROFILE, "simulated")
    assert found["profile_hash"] == load_profile(PROFILE).digest
    assert found["served_adapters"] == 12


def test_defaults_are_a_slot_for_each_adapter_and_the_smallest_rank(folder: Path) -> None:
    (result,) = figures(folder)["results"]
    assert result["config"]["max_loras"] == 12
    assert result["config"]["max_lora_rank"] == 16
    assert result["figures"]["swap_ins"]["mean"] == 0


@pytest.mark.parametrize("slots", [["--max-loras", "2,8, 4"], ["--max-loras", "2,8", "--max-loras", "4,2"]])
def test_several_slots_are_columns_in_the_order_given(folder: Path, slots: list[str]) -> None:
    assert [each["config"]["max_loras"] for each in figures(folder, *slots)["results"]] == [2, 8, 4]
    head = next(line for line in run(folder, *slots).stdout.splitlines() if "2 slots" in line)
    assert head.split() == ["2", "slots", "8", "slots", "4", "slots"]


def test_several_seeds_give_intervals(folder: Path) -> None:
    found = figures(folder, "--max-loras", "4", "--seeds", "3", "--seed", "5")
    spec, config = load_spec(folder / "workload.yaml"), EngineConfig(max_loras=4, max_lora_rank=16)
    interval = replicate(spec, load_profile(PROFILE), config, range(5, 8)).figures()["itl_mean_ms"]
    assert found["seeds"] == [5, 6, 7]
    assert found["results"][0]["figures"]["itl_mean_ms"] == {
        "mean": interval.mean,
        "half_width": interval.half_width,
    }
    assert "±" in run(folder, "--max-loras", "4", "--seeds", "3").stdout


def test_the_table_shows_every_figure(folder: Path) -> None:
    shown = run(folder, "--max-loras", "4", "--slo", "ttft_p99=20s,tpot_mean=1ms").stdout
    rows = {line.strip().split("  ")[0]: line for line in shown.splitlines() if "  " in line.strip()}
    for name in (
        "starved", "input tokens/s", "output tokens/s", "total tokens/s", "offered tokens/s", "TTFT p99", "TPOT p99",
        "ITL p99", "end to end p99", "running, mean", "waiting, max", "KV, mean", "KV tokens", "preemptions",
        "swap-ins", "SLO ttft_p99=20s", "goodput, requests/s",
    ):  # fmt: skip
        assert name in rows, name
    assert rows["starved"].split()[-1] == "no"
    assert "met" in rows["in the middle of real runs"] and "met" not in rows["SLO ttft_p99=20s"]
    assert "MISSED" in rows["SLO tpot_mean=1ms"]


def test_leaving_the_domain_is_printed(folder: Path) -> None:
    note = "outside the profile's domain: max_loras = 4, measured 8 to 384"
    assert note in run(folder, "--max-loras", "4").stdout
    assert note in figures(folder, "--max-loras", "4")["results"][0]["notes"]
    assert note not in run(folder, "--max-loras", "8").stdout


def test_who_starves_is_named(folder: Path) -> None:
    hungry = ("--max-loras", "1", "--max-num-seqs", "2")
    shown = run(folder, *hungry).stdout
    assert "YES: " in shown
    assert " of 12 starve" in shown
    (result,) = figures(folder, *hungry)["results"]
    assert result["starved_runs"] == 1
    assert result["starved_reasons"]
    assert result["starving_adapters"]


def test_adapters_and_series_on_request(folder: Path) -> None:
    wanted = ("--max-loras", "4", "--adapters", "--series")
    shown = run(folder, *wanted).stdout
    assert "a-00" in shown and "(no adapter)" in shown and "█" in shown
    (result,) = figures(folder, *wanted)["results"]
    assert [row["name"] for row in result["adapters"]] == [*(f"a-{i:02d}" for i in range(12)), "(no adapter)"]
    assert sum(row["requests"] for row in result["adapters"]) == result["figures"]["arrived"]["mean"]
    assert len(result["series"]["running"]) == len(result["series"]["end_s"]) == 60
    (plain,) = figures(folder, "--max-loras", "4")["results"]
    assert not {"adapters", "series"} & plain.keys()


@pytest.mark.parametrize("suffix", ["json", "parquet"])
def test_a_run_is_written(folder: Path, suffix: str) -> None:
    done = run(folder, "--max-loras", "4", "-o", f"run.{suffix}")
    assert f"written: run.{suffix}" in done.stdout
    record = load_run(folder / f"run.{suffix}")
    assert record.config.max_loras == 4
    assert record.steps is None
    assert record.gauges is not None
    with_series = run(folder, "--max-loras", "4", "--series", "-o", f"series.{suffix}")
    assert with_series.returncode == 0
    assert load_run(folder / f"series.{suffix}").steps is not None


def test_several_runs_are_written_to_a_folder(folder: Path) -> None:
    done = run(folder, "--max-loras", "2,4", "--seeds", "2", "-o", "runs", "--json")
    assert done.returncode == 0
    json.loads(done.stdout)
    names = {f"max-loras-{n}-seed-{seed}.json" for n in (2, 4) for seed in (0, 1)}
    assert {path.name for path in (folder / "runs").iterdir()} == names
    assert load_run(folder / "runs" / "max-loras-2-seed-1.json").provenance.seed == 1


def test_base_traffic_alone_runs_without_lora(folder: Path) -> None:
    (folder / "workload.yaml").write_text("window_s: 60\nbase: {rate: 1}\n")
    (result,) = figures(folder)["results"]
    assert result["config"]["max_loras"] == 0


def test_a_server_that_does_not_start_is_said_so(folder: Path) -> None:
    done = run(folder, "--max-loras", "8,384", "--max-lora-rank", "128")
    assert done.returncode == 0
    assert "384 slots: the server does not start: 384 slots of rank 128 take" in done.stdout
    second = figures(folder, "--max-loras", "8,384", "--max-lora-rank", "128")["results"][1]
    assert (second["starts"], "figures" in second) == (False, False)


BAD = [
    (["--max-loras", "384", "--max-lora-rank", "128"], "the server does not start: 384 slots of rank 128 take"),
    (["--max-loras", "384", "--max-lora-rank", "128"], "KV tokens"),
    (["--max-loras", "x"], "--max-loras 'x': expected whole numbers"),
    (["--max-loras", "8,"], "--max-loras '': expected whole numbers"),
    (["--max-loras", "-1"], "--max-loras '-1'"),
    (["--max-loras", "0"], "max_loras is 0"),
    (["--max-loras", "0"], "; --max-loras gives them slots"),
    (["--max-lora-rank", "8"], "rank 16, above max_lora_rank = 8"),
    (["--max-lora-rank", "9"], "max_lora_rank = 9, but vLLM accepts"),
    (["--max-lora-rank", "0"], "max_lora_rank = 0, but vLLM accepts"),
    (["--max-cpu-loras", "3"], "max_cpu_loras = 3, but it must be at least max_loras = 12"),
    (["--max-num-seqs", "200", "--max-num-batched-tokens", "100"], "it must be at least max_num_seqs"),
    (["--gpu-memory-utilization", "1.5"], "gpu_memory_utilization = 1.5"),
    (["--max-model-len", "100"], "every prompt is refused: the shortest has 200 tokens, max_model_len = 100"),
    (["--slo", "ttft"], "SLO 'ttft': no limit"),
    (["--slo", ""], "the SLO is empty"),
    (["--profile", "h100"], "unknown profile 'h100'"),
    (["-o", "absent/run.json"], "no folder absent"),
    (["-o", "run.csv"], "a run is a .json or a .parquet file"),
    (["-o", "run.json", "--seeds", "2"], "one file and there are 2 runs: give a folder"),
    (["-o", "workload.yaml"], "a run is a .json or a .parquet file"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_bad_input_is_one_line_and_nothing_is_written(folder: Path, arguments: list[str], message: str) -> None:
    output = [] if "-o" in arguments else ["-o", "out"]
    done = run(folder, *arguments, *output)
    assert done.returncode == 2
    assert done.stdout == ""
    assert message in done.stderr
    assert done.stderr.count("\n") == 1
    assert [path.name for path in folder.iterdir()] == ["workload.yaml"]
    assert (folder / "workload.yaml").read_text() == WORKLOAD


def test_bad_workloads_are_one_line(folder: Path) -> None:
    (folder / "workload.yaml").write_text(WORKLOAD.replace("total_rate: 4", "total_rate: -4"))
    done = run(folder)
    assert (done.returncode, done.stdout) == (2, "")
    assert "total_rate" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_cannot_be_written_is_refused_first(folder: Path) -> None:
    (folder / "out").mkdir(mode=0o500)
    done = run(folder, "-o", "out")
    assert done.returncode == 2
    assert "not writable" in done.stderr


def test_an_adapter_of_too_high_a_rank_is_refused(folder: Path) -> None:
    (folder / "workload.yaml").write_text(WORKLOAD.replace("[8, 16]", "513"))
    done = run(folder)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "513" in done.stderr


@slow
def test_compiling_is_announced_first(folder: Path) -> None:
    command, cache = simulate_command("--max-loras", "4"), {"NUMBA_CACHE_DIR": str(folder / "cache")}
    done = loratwin_process(*command, cwd=folder, env=cache)
    assert done.returncode == 0
    assert done.stderr.startswith("compiling the kernel")
    again = loratwin_process(*command, cwd=folder, env=cache)
    assert again.stderr == ""
    assert again.stdout == done.stdout


def test_names_are_shown_as_they_are(folder: Path) -> None:
    """Square brackets are markup to rich, and nothing to us."""
    named = "{name: a, count: 1, names: ['[red]x[/red]'], rate: 1}"
    (folder / "workload.yaml").write_text(f"window_s: 60\ngroups:\n  - {named}\n")
    assert "[red]x[/red]" in run(folder, "--adapters").stdout


def test_a_terminal_without_unicode_gets_ascii(folder: Path) -> None:
    arguments = ("--max-loras", "4", "--series", "--seeds", "2")
    done = loratwin_here(*simulate_command(*arguments), cwd=folder, encoding="ascii")
    assert done.returncode == 0, done.stderr
    assert done.stdout.isascii()
    assert "+-" in done.stdout


def test_profiles_are_listed() -> None:
    assert loratwin("profiles", "list").stdout.splitlines()[0] == PROFILE


def test_a_profile_is_shown_whole(tmp_path: Path) -> None:
    shown = loratwin("profiles", "show", PROFILE).stdout
    profile = load_profile(PROFILE)
    for title in ("held-out error", "domain", "step time", "loading", "memory", "fitted_on", profile.digest):
        assert title in shown
    assert all(name in shown for name in type(profile.step_time).model_fields)
    assert f"{profile.domain.max_loras[0]} to {profile.domain.max_loras[1]}" in shown
    (tmp_path / "mine.yaml").write_text(dump_profile(profile))
    assert loratwin("profiles", "show", "mine.yaml", cwd=tmp_path).stdout == shown


def test_an_unknown_profile_is_one_line() -> None:
    done = loratwin("profiles", "show", "h100")
    assert (done.returncode, done.stdout) == (2, "")
    assert "unknown profile 'h100'" in done.stderr


def test_flags_of_the_server_are_taken_or_refused(folder: Path) -> None:
    done = run(folder, "--kv-cache-dtype", "fp8", "--enforce-eager", "--max-lora-rank", "64", "--json")
    assert done.returncode == 0, done.stderr
    assert "kv_cache_dtype = fp8" in done.stdout and '"max_lora_rank": 64' in done.stdout
    refused = run(folder, "--pipeline-parallel-size", "2")
    assert refused.returncode == 2 and "loratwin memory GPU LLM" in refused.stderr
    refused = run(folder, "--quantization", "fp8")
    assert refused.returncode == 2 and "profiles assume --gpu h100-64gb" in refused.stderr
