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
    page = (tmp_path / "p.html").read_text()
    assert "<h2>Your line</h2>" in page and "  + --max-loras 8\n" in page.partition("<h2>Your line</h2>")[2]
    data = json.loads((tmp_path / "p.json").read_text())["your_line"]
    assert data["now"]["config"]["max_loras"] == 2 and "+ --max-loras 8" in data["diff"]


def test_what_a_line_lacks_is_said(tmp_path: Path) -> None:
    plan = ("plan", workload(tmp_path), "--profile", PROFILE, "--seeds", "1", "--processes", "1", "--slots", "8",
            "-o", str(tmp_path / "p.html"), "--max-num-seqs", "64", "--serve")  # fmt: skip
    done = loratwin(*plan, f"vllm serve {LLAMA} --max-num-seqs 64")
    assert "+ --enable-lora\n" in done.stdout and "Now: without --enable-lora it serves none" in done.stdout
    done = loratwin(*plan, f"vllm serve {LLAMA} --max-num-seqs 64 --enable-lora --max-lora-rank 8")
    assert "it refuses 8 of 8 adapters: their rank is above 8" in done.stdout


def adapters_of(folder: Path, base: str = LLAMA, rank: int = 32) -> str:
    for i in range(8):
        (folder / "loras" / f"a{i}").mkdir(parents=True)
        config = json.dumps({"r": rank, "base_model_name_or_path": base})
        (folder / "loras" / f"a{i}" / "adapter_config.json").write_text(config)
    return str(folder / "loras")


def test_a_line_and_a_gpu_need_no_profile(tmp_path: Path) -> None:
    simulate = ("simulate", workload(tmp_path), "--serve", LINE, "--json")
    done = loratwin(*simulate, "--gpu", "NVIDIA H100 80GB HBM3", "--lora-folder", adapters_of(tmp_path))
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["results"][0]["config"]["max_lora_rank"] == 32
    assert "no profile was measured for it; h100-sxm/vllm-0.32.0/llama-3.1-8b-instruct is assumed" in done.stderr
    assert "8 adapters of the workload stand for others" in done.stderr and "c-0 is a0" in done.stderr
    image = f"docker run vllm/vllm-openai:v0.8.5 --model {LINE.removeprefix('vllm serve ')}"
    done = loratwin("simulate", workload(tmp_path), "--serve", image, "--gpu", "h100-64gb", "--json")
    assert done.returncode == 0 and f"profile {PROFILE}\n" in done.stderr, "the one that was fitted to such a server"
    for words, message in (
        (("--serve", LINE), "--serve does not say on which GPU it runs: --gpu"),
        ((), "no profile: --profile names one"),
        (("--serve", LINE, "--gpu", "h1000"), "h1000"),
        (("--gpu", "h100-sxm", "--profile", PROFILE), "--gpu h100-sxm: --profile"),
    ):
        done = loratwin("simulate", workload(tmp_path), *words)
        assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr


def test_a_folder_of_adapters_goes_with_several_workloads_and_groups(tmp_path: Path) -> None:
    """Each workload gets the ranks of the folder, over its groups; what the server would refuse is said of each."""
    folder = adapters_of(tmp_path)
    (tmp_path / "loras" / "a3" / "adapter_config.json").write_text(json.dumps({"r": 8}))
    (tmp_path / "w").mkdir()
    for name, groups in (
        ("one", "[{name: a, names: [a1, a3], rate: 0.2}, {name: b, names: [a2], rate: 0.1}]"),
        ("two", "[{name: c, names: [a3], rate: 0.2}]"),
    ):
        (tmp_path / "w" / f"{name}.yaml").write_text(f"window_s: 20\ngroups: {groups}\n")
    plain = ("simulate", str(tmp_path / "w"), "--profile", PROFILE, "--lora-folder", folder, "-o")
    done = loratwin(*plain, str(tmp_path / "out"), "--json")
    assert done.returncode == 0, done.stderr
    found = {each["workload"]: each["results"][0]["config"]["max_lora_rank"] for each in json.loads(done.stdout)}
    assert found == {"one": 32, "two": 8}
    done = loratwin(*plain, str(tmp_path / "other"), "--max-lora-rank", "16")
    assert done.returncode == 2 and "one: " in done.stderr and "rank 32 is above" in done.stderr
    assert "two: " not in done.stderr and not (tmp_path / "other").exists()


def test_adapters_that_the_server_would_refuse(tmp_path: Path) -> None:
    folder = adapters_of(tmp_path, "Qwen/Qwen2.5-7B-Instruct", 64)
    for words, message in (
        ((), "it is of Qwen/Qwen2.5-7B-Instruct (base_model_name_or_path), the server of meta-llama"),
        (("--max-lora-rank", "32"), "rank 64 is above the server's --max-lora-rank 32; it is of Qwen"),
    ):
        for command in ("simulate", "plan"):
            plain = (workload(tmp_path), "--profile", PROFILE, *words)
            done = loratwin(command, *plain, "--lora-folder", folder)
            assert done.returncode == 2 and message in done.stderr and done.stderr.count("\n") == 1, done.stderr
    (tmp_path / "own.yaml").write_text("groups: [{name: c, adapters: loras, rate: 0.2}]")
    done = loratwin("simulate", str(tmp_path / "own.yaml"), "--profile", PROFILE)
    assert done.returncode == 2 and "it is of Qwen" in done.stderr
