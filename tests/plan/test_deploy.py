"""The command: snapshots, and names that a shell would misread."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace

import pytest

from loratwin.errors import InputError, UnknownNameError
from loratwin.perf import ProfiledServer
from loratwin.plan import Plan, commands, host_memory_gib, lora_modules, plan, plan_json, serve_command
from loratwin.plan.deploy import MOST_LISTED
from loratwin.records import EngineConfig
from tests.plan import small
from tests.plan.small import NASTY, impossible, served


def made(names: tuple[str, ...]) -> Plan:
    """A plan for these adapters with fixed figures, so that the text does not depend on a profile's numbers."""
    found = served()
    assert found.best is not None
    slots = min(2, len(names))
    config = EngineConfig(
        max_loras=slots, max_cpu_loras=len(names), max_lora_rank=32, max_num_seqs=128, max_model_len=8192
    )
    best = replace(found.best, config=config)
    ranks, chosen = (32,) * len(names), replace(found.choice, best=best)
    return replace(found, adapters=names, ranks=ranks, served=tuple(range(len(names))), choice=chosen)


def test_few_adapters_stand_in_the_command() -> None:
    assert serve_command(made(("support", "sales & co"))) == (
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_USE_V1=1 vllm serve meta-llama/Llama-3.1-8B-Instruct \\\n"
        "  --enable-lora --max-loras 2 --max-cpu-loras 2 --max-lora-rank 32 \\\n"
        "  --max-num-seqs 128 --max-num-batched-tokens 2048 \\\n"
        "  --gpu-memory-utilization 0.9 --max-model-len 8192 \\\n"
        "  --lora-modules support=/adapters/support 'sales & co=/adapters/sales & co'"
    )


def test_current_versions_have_one_engine_and_other_folders_are_possible() -> None:
    text = serve_command(made(("a",)), "current", adapters_folder="/srv/lora adapters/")
    assert text.splitlines()[0] == (
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True vllm serve meta-llama/Llama-3.1-8B-Instruct \\"
    )
    assert text.splitlines()[-1] == "  --lora-modules 'a=/srv/lora adapters/a'"


@pytest.mark.parametrize("folder", ["/srv/models/My LLM", "hub/models--meta-llama--Llama-3.1-8B/snapshots/0e9e39f"])
def test_an_llm_of_a_folder_is_served_from_it(folder: str) -> None:
    plan = made(("a",))
    llm = plan.profile.llm.model_copy(update={"given": folder})
    text = serve_command(replace(plan, profile=plan.profile.model_copy(update={"llm": llm})))
    assert text.splitlines()[0].endswith(f"vllm serve {shlex.quote(folder)} \\")


def test_many_adapters_are_read_from_a_file() -> None:
    lines = serve_command(made(tuple(f"a{i}" for i in range(MOST_LISTED + 1)))).splitlines()
    assert lines[0] == "mapfile -t modules < lora-modules.txt"
    assert lines[-1] == '  --lora-modules "${modules[@]}"'


def test_names_never_reach_the_shell() -> None:
    names = (NASTY, "$(reboot)", "a;b", "two\nlines", "x,y", "--flag")
    words = shlex.split(serve_command(made(names)).replace("\\\n", " "))
    given = words[words.index("--lora-modules") + 1 :]
    assert given == lora_modules(made(names))


def test_names_that_name_equals_path_cannot_hold_are_json() -> None:
    odd = ("a=b", "x,y", "two\nlines", NASTY)
    for name, module in zip(odd, lora_modules(made(odd)), strict=True):
        assert json.loads(module) == {"name": name, "path": f"/adapters/{name}"}
        assert "," in module  # what tells vLLM that it is JSON
        assert "\n" not in module  # a line of the file
    assert lora_modules(made(("plain",))) == ["plain=/adapters/plain"]


def test_the_longest_context_of_the_llm_is_written_out() -> None:
    found = made(("a",))
    assert found.best is not None
    best = replace(found.best, config=found.best.config.replace(max_model_len=None))
    found = replace(found, choice=replace(found.choice, best=best))
    assert f"--max-model-len {found.profile.llm.max_model_len}" in serve_command(found)


def test_host_memory_is_that_of_the_linear_layers_at_the_own_rank() -> None:
    both = replace(made(("a", "b")), ranks=(16, 64))
    assert host_memory_gib(both) == pytest.approx((80 + 320) / 1024)  # MiB, engine.md 2.2


def test_later_versions_come_with_a_warning() -> None:
    first, current = commands(made(("a",)))
    assert "of vLLM 0.8.5: for later versions" in current.remarks[0]
    assert first.remarks


def test_without_a_configuration_there_is_no_command() -> None:
    with pytest.raises(InputError, match="no configuration"):
        serve_command(impossible())


def test_an_unknown_version_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown vLLM version '0.1'.*0.8.5, current"):
        serve_command(served(), "0.1")


def of_profile(engine: str = "vllm-0.8.5", **memory: object) -> Plan:
    """The same plan with a profile of another engine or memory."""
    found = made(("a",))
    profile = found.profile.model_copy(
        update={"engine": engine, "memory": found.profile.memory.model_copy(update=memory)}
    )
    return replace(found, profile=profile)


def test_the_profiles_own_version_comes_first_and_is_no_other() -> None:
    first, current = commands(of_profile())
    assert (first.title, current.title) == ("vLLM 0.8.5, on which the profile was measured", "Current vLLM")
    assert "VLLM_USE_V1=1" in first.text
    (only,) = commands(of_profile("vllm-0.32.0"))
    assert only.title == "vLLM 0.32.0, on which the profile was measured"
    assert "VLLM_USE_V1" not in only.text
    assert "0.8.5" not in " ".join(only.remarks)


def test_an_assumed_profile_was_not_measured() -> None:
    found = of_profile()
    assumed = replace(found, profile=found.profile.model_copy(update={"origin": "assumed"}))
    assert commands(assumed)[0].title == "vLLM 0.8.5, for which it is assumed"
    assert "measured" not in " ".join(
        each for command in commands(assumed) for each in (*command.remarks, command.title)
    )


def test_gpus_that_share_the_llm_are_in_the_command() -> None:
    assert "--tensor-parallel-size 4" in serve_command(of_profile(tensor_parallel=4))
    assert "--tensor-parallel-size" not in serve_command(of_profile())


def test_what_else_is_not_at_its_default_is_in_the_command() -> None:
    found = made(("a",))
    assert found.best is not None
    best = replace(found.best, config=found.best.config.replace(block_size=32, max_in_flight=9))
    lines = serve_command(replace(found, choice=replace(found.choice, best=best))).splitlines()
    assert lines[-2:] == ["  --block-size 32 \\", "  --lora-modules a=/adapters/a"]


def test_the_kv_cache_of_a_cpu_is_in_the_command() -> None:
    assert "VLLM_CPU_KVCACHE_SPACE=3 " in serve_command(of_profile("vllm-0.32.0", kv_gib=3.0000001))


def test_the_data_holds_the_commands_that_the_profile_knows() -> None:
    assert list(plan_json(of_profile())["vllm_serve"]) == ["0.8.5", "current"]
    assert list(plan_json(of_profile("vllm-0.32.0"))["vllm_serve"]) == ["current"]


def test_flags_that_every_configuration_has_stand_in_the_command() -> None:
    flags = {
        "kv_cache_dtype": "fp8",
        "dtype": "bfloat16",
        "max_lora_rank": 64,
        "enforce_eager": True,
        "quantization": None,
    }
    found = plan(
        small.spec(), small.profile(), seeds=(0,), slots=[8], max_num_seqs=64, max_model_len=4096, settings=flags
    )
    assert found.best is not None and found.best.config.kv_cache_dtype == "fp8"
    words = shlex.split(serve_command(found).replace("\\\n", " "))
    for option, value in (("--kv-cache-dtype", "fp8"), ("--dtype", "bfloat16"), ("--max-lora-rank", "64")):
        assert words[words.index(option) + 1] == value
    assert "--enforce-eager" in words and "--quantization" not in words
    assert any("enforce_eager" in note for note in found.notes)


def profiled(plan: Plan, **server: object) -> Plan:
    """The same plan with a profile whose servers ran so."""
    return replace(plan, profile=plan.profile.model_copy(update={"server": ProfiledServer.model_validate(server)}))


def test_the_command_is_the_server_that_was_profiled() -> None:
    found = profiled(
        of_profile("vllm-0.32.0", kv_gib=3.0000001),
        options=("--dtype bfloat16", "--enforce-eager", "--distributed-executor-backend uni"),
        environment=("OMP_NUM_THREADS=1", "VLLM_CPU_OMP_THREADS_BIND=0-1 2"),
    )
    (only,) = commands(found)
    first, *_, eager, _ = only.text.splitlines()
    assert first.startswith(
        "VLLM_ALLOW_RUNTIME_LORA_UPDATING=True VLLM_CPU_KVCACHE_SPACE=3 OMP_NUM_THREADS=1 "
        "VLLM_CPU_OMP_THREADS_BIND='0-1 2' vllm serve"
    )
    assert eager == "  --dtype bfloat16 --enforce-eager --distributed-executor-backend uni \\"
    assert not any("profiled" in remark for remark in only.remarks)


def test_what_is_asked_of_the_plan_goes_before_what_was_profiled() -> None:
    found = profiled(of_profile(), options=("--dtype bfloat16", "--enforce-eager"), environment=())
    assert found.best is not None
    best = replace(found.best, config=found.best.config.replace(dtype="float16"))
    text = serve_command(replace(found, choice=replace(found.choice, best=best)))
    assert "--dtype float16" in text and "bfloat16" not in text and "--enforce-eager" in text


def test_what_is_not_known_of_the_profiled_server_is_said() -> None:
    said = "Not known of the server that was profiled: its flags beside these (as --enforce-eager, --dtype)"
    assert f"{said} and its environment." in commands(of_profile())[0].remarks
    (only,) = commands(profiled(of_profile("vllm-0.32.0"), options=()))
    assert "Not known of the server that was profiled: its environment." in only.remarks
    (varied,) = commands(profiled(of_profile("vllm-0.32.0"), options=(), environment=(), varied=("--enforce-eager",)))
    assert "Some of the servers that were profiled had it, others not: --enforce-eager." in varied.remarks


def test_other_versions_do_not_get_the_flags_of_the_profiled_one() -> None:
    own, current = commands(profiled(of_profile(), options=("--enforce-eager",), environment=("NCCL_DEBUG=INFO",)))
    assert "--enforce-eager" in own.text and "NCCL_DEBUG=INFO" in own.text
    assert "--enforce-eager" not in current.text and "NCCL_DEBUG" not in current.text
