"""`--serve`: what a server's line says reaches the commands, and what is typed beside it wins."""

from __future__ import annotations

import json
from pathlib import Path

from tests.cli.program import loratwin

PROFILE = "h100-64gb/vllm-0.8.5/llama-3.1-8b-instruct"
LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
LINE = f"vllm serve {LLAMA} --enable-lora --max-loras 2 --max-lora-rank 32 --max-num-seq 64 --block-size 16"
WORKLOAD = """\
window_s: 60
groups: [{name: c, count: 8, rate: 0.2, ranks: 16}]
lengths: {prompt: 100, output: 20}
"""


def workload(folder: Path) -> str:
    (folder / "w.yaml").write_text(WORKLOAD)
    return str(folder / "w.yaml")


def config_of(*arguments: str) -> dict[str, object]:
    done = loratwin("simulate", *arguments, "--profile", PROFILE, "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, object] = json.loads(done.stdout)["results"][0]["config"]
    return found


def test_simulate_takes_the_line_and_what_is_typed_wins(tmp_path: Path) -> None:
    config = config_of(workload(tmp_path), "--serve", LINE)
    assert (config["max_loras"], config["max_cpu_loras"], config["max_lora_rank"]) == (2, 2, 32)
    assert (config["max_num_seqs"], config["max_num_batched_tokens"]) == (64, 2048)  # the second as the profile's vLLM
    config = config_of(workload(tmp_path), "--serve", LINE, "--max-num-seqs", "8", "--max-loras", "4")
    assert (config["max_num_seqs"], config["max_loras"], config["max_cpu_loras"]) == (8, 4, 4)


def test_another_server_than_the_profiles_is_refused(tmp_path: Path) -> None:
    for line, message in (
        ("vllm serve Qwen/Qwen2.5-7B-Instruct", "serves qwen-2.5-7b-instruct, but the profile is of llama-3.1-8b"),
        (f"{LINE} -tp 2", "shares the LLM among 2 GPUs"),
        (f"{LINE} -pp 2", "pipeline_parallel = 2"),
        (f"{LINE} --dtype float32", "float32"),
        ("ls", "no line that starts a server"),
    ):
        done = loratwin("simulate", workload(tmp_path), "--profile", PROFILE, "--serve", line)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    image = f"docker run vllm/vllm-openai:v0.11.0 --model /models/ours {LINE.partition('8B-Instruct')[2]}"
    done = loratwin("simulate", workload(tmp_path), "--profile", PROFILE, "--serve", image)
    assert done.returncode == 0
    assert "is no LLM that is known by name" in done.stderr and "is of vllm-0.11.0, the profile of" in done.stderr


def test_memory_takes_llm_version_and_gpus(tmp_path: Path) -> None:
    line = f"docker run vllm/vllm-openai:v0.9.2 --model {LLAMA} -tp 2 --enable-lora --max-loras 4"
    done = loratwin("memory", "h100-sxm", "--serve", line, "--json")
    assert done.returncode == 0, done.stderr
    (server,) = json.loads(done.stdout)
    assert (server["llm"], server["engine"], server["config"]["max_loras"]) == (
        "llama-3.1-8b-instruct",
        "vllm-0.9.2",
        4,
    )
    assert server["num_gpus"] == 2


def test_a_plan_says_what_to_change_and_what_it_brings(tmp_path: Path) -> None:
    plan = ("plan", workload(tmp_path), "--profile", PROFILE, "--seeds", "1", "--processes", "1", "--slots", "8")
    written = ("-o", str(tmp_path / "p.html"), "--json", str(tmp_path / "p.json"))
    done = loratwin(*plan, *written, "--max-num-seqs", "64", "--serve", LINE)
    assert done.returncode == 0, done.stderr
    shown = done.stdout.partition("What to change in your line (--serve):")[2]
    assert "  - --max-loras 2\n  + --max-loras 8\n" in shown
    assert "  - --max-lora-rank 32\n  + --max-lora-rank 16\n" in shown
    assert f"    {LLAMA}\n" in shown and "    --max-num-seq 64\n" in shown
    assert "TTFT mean" in shown and "margin" in shown
    data = json.loads((tmp_path / "p.json").read_text())["your_line"]
    assert data["now"]["config"]["max_loras"] == 2 and "+ --max-loras 8" in data["diff"]


def test_what_a_line_lacks_is_said(tmp_path: Path) -> None:
    plan = ("plan", workload(tmp_path), "--profile", PROFILE, "--seeds", "1", "--processes", "1", "--slots", "8",
            "-o", str(tmp_path / "p.html"), "--max-num-seqs", "64", "--serve")  # fmt: skip
    done = loratwin(*plan, f"vllm serve {LLAMA} --max-num-seqs 64")
    assert "+ --enable-lora\n" in done.stdout and "Now: without --enable-lora it serves none" in done.stdout
    done = loratwin(*plan, f"vllm serve {LLAMA} --max-num-seqs 64 --enable-lora --max-lora-rank 8")
    assert "it refuses 8 of 8 adapters: their rank is above 8" in done.stdout
